"""A WebSocket, step by step: `websocket_agent.py QUERY STEP...` on OpenAI's realtime API.

A step is a message in JSON, or one of:

    turn:DIRECTIVE   order a turn, and read until it is done
    order:DIRECTIVE  order a turn, and read nothing
    turns:N:DIRECTIVE  order a turn, where the provider makes N of them by itself
    until:TYPE       read until a message of that type
    file:PATH        wait until there is such a file
    close            say goodbye, and leave when it is answered
    drop             leave without a word
"""

import json
import os
import sys
import time

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from agent import say


def main():
    url = "wss://api.openai.com/v1/realtime" + sys.argv[1]
    try:
        socket = connect(url, additional_headers={"Authorization": "Bearer test-key"})
    except InvalidStatus as refused:
        say("refused", status=refused.response.status_code, body=refused.response.body.decode())
        return
    say("opened")
    start = time.monotonic()
    try:
        for step in sys.argv[2:]:
            start = time.monotonic()
            take(socket, step)
            say("step", ms=int((time.monotonic() - start) * 1000))
    except ConnectionClosed as closed:
        ms = int((time.monotonic() - start) * 1000)
        say("closed", ms=ms, code=closed.rcvd and closed.rcvd.code, reason=closed.rcvd and closed.rcvd.reason)


def take(socket, step):
    word, _, rest = step.partition(":")
    if word == "turn":
        order(socket, rest, {})
        until(socket, "response.done")
    elif word == "turns":
        times, _, directive = rest.partition(":")
        order(socket, directive, {"metadata": {"times": times}})
        for _ in range(int(times)):
            until(socket, "response.done")
    elif word == "order":
        order(socket, rest, {})
    elif word == "until":
        until(socket, rest)
    elif word == "file":
        while not os.path.exists(rest):
            time.sleep(0.02)
    elif step == "close":
        socket.close()
        say("goodbye", code=socket.protocol.close_code)
        sys.exit()
    elif step == "drop":
        socket.socket.close()
        os._exit(0)
    else:
        socket.send(step)


def order(socket, directive, response):
    content = [{"type": "input_text", "text": "sim:" + directive}]
    item = {"type": "message", "role": "user", "content": content}
    socket.send(json.dumps({"type": "conversation.item.create", "item": item}))
    socket.send(json.dumps({"type": "response.create", "response": response}))


def until(socket, kind):
    while (event := json.loads(socket.recv()))["type"] != kind:
        if event["type"] == "error":
            say("error", **event["error"])


main()
