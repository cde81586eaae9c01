"""An agent on the anthropic SDK: messages, message streams, then messages until it is refused."""

from agent import prompt, say, until_the_wall
from anthropic import Anthropic

client = Anthropic()
MODEL = "claude-haiku-4-5-20251001"


def message(text, using=client, max_tokens=1024, **options):
    messages = [{"role": "user", "content": text}]
    return using.messages.create(model=MODEL, max_tokens=max_tokens, messages=messages, **options)


answer = message(prompt(input=1200, cached=200, cache_write=100, output=30))
say("plain", text=answer.content[0].text, model=answer.model, usage=answer.usage.to_dict())

events = list(message(prompt(input=400, output=60, chunks=6), stream=True))
say(
    "stream",
    text="".join(e.delta.text for e in events if e.type == "content_block_delta"),
    types=[e.type for e in events],
    usage=[e.usage.to_dict() for e in events if e.type == "message_delta"],
)

body = {"model": MODEL, "max_tokens": 1024, "messages": [{"role": "user", "content": prompt(input=500, output=70)}]}
with client.messages.stream(**body) as stream:
    text = "".join(stream.text_stream)
    say("stream helper", text=text, usage=stream.get_final_message().usage.to_dict())

for number in range(3):
    answer = message(prompt(input=1000 + number, output=100), max_tokens=400)
    say("several", number=number, usage=answer.usage.to_dict())

until_the_wall(
    lambda: message(prompt(input=600, output=300), max_tokens=300),
    lambda: message(prompt(input=10, output=1), using=client.with_options(max_retries=0), max_tokens=1),
    "api.anthropic.com",
)
