"""An agent on the openai SDK: chat, chat streams, responses, then chat until it is refused."""

from agent import prompt, say, until_the_wall
from openai import OpenAI

client = OpenAI()
CHAT = "gpt-4o"


def chat(text, using=client, **options):
    return using.chat.completions.create(model=CHAT, messages=[{"role": "user", "content": text}], **options)


answer = chat(prompt(input=1200, cached=200, output=30, model="gpt-4o-2024-08-06"))
say("plain", text=answer.choices[0].message.content, model=answer.model, usage=answer.usage.to_dict())

chunks = list(chat(prompt(input=400, output=60, chunks=6), stream=True))
say(
    "stream",
    text="".join(c.choices[0].delta.content or "" for c in chunks if c.choices),
    chunks=len(chunks),
    without_choices=sum(not c.choices for c in chunks),
    usage=[c.usage.to_dict() for c in chunks if c.usage],
    # A stream that was not asked for usage has chunks without the field.
    with_usage_field=sum("usage" in c.model_fields_set for c in chunks),
    finish=[c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason],
)

chunks = list(chat(prompt(input=400, output=60, chunks=6), stream=True, stream_options={"include_usage": True}))
say(
    "stream with usage",
    text="".join(c.choices[0].delta.content or "" for c in chunks if c.choices),
    chunks=len(chunks),
    without_choices=sum(not c.choices for c in chunks),
    usage=[c.usage.to_dict() for c in chunks if c.usage],
    with_usage_field=sum("usage" in c.model_fields_set for c in chunks),
)

response = client.responses.create(model=CHAT, input=prompt(input=700, cached=100, output=50))
say("responses", text=response.output_text, usage=response.usage.to_dict())

events = list(client.responses.create(model=CHAT, input=prompt(input=900, output=40, chunks=3), stream=True))
say(
    "responses stream",
    text="".join(e.delta for e in events if e.type == "response.output_text.delta"),
    types=[e.type for e in events],
    usage=events[-1].response.usage.to_dict(),
)

for number in range(3):
    answer = chat(prompt(input=1000 + number, output=100), max_completion_tokens=400)
    say("several", number=number, usage=answer.usage.to_dict())

until_the_wall(
    lambda: chat(prompt(input=600, output=300), max_completion_tokens=300),
    lambda: chat(prompt(input=10, output=1), using=client.with_options(max_retries=0), max_completion_tokens=1),
    "api.openai.com",
)
