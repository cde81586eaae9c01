"""Turns on OpenAI's realtime API until the socket is closed: `realtime_agent.py DIRECTIVE... [--linger]`, one for each turn."""

import sys

from openai import OpenAI
from websockets.exceptions import ConnectionClosed

from agent import say

MODEL = "gpt-realtime"


def main():
    client = OpenAI(api_key="test-key", max_retries=0)
    with client.realtime.connect(model=MODEL) as socket:
        say("opened", type=socket.recv().type)
        try:
            for directive in (word for word in sys.argv[1:] if word != "--linger"):
                content = [{"type": "input_text", "text": "sim:" + directive}]
                socket.conversation.item.create(item={"type": "message", "role": "user", "content": content})
                socket.response.create()
                text = ""
                while (event := socket.recv()).type != "response.done":
                    text += getattr(event, "delta", "")
                say("turn", text=len(text), output=event.response.usage.output_tokens)
            # Nothing is asked: what comes now is the other side's own word.
            while "--linger" in sys.argv:
                event = socket.recv()
                say("told", type=event.type, message=event.error.message)
        except ConnectionClosed as closed:
            say("closed", code=closed.rcvd and closed.rcvd.code, reason=closed.rcvd and closed.rcvd.reason)


main()
