"""An agent on the google-genai SDK: content, content streams, then content until it is refused."""

from agent import prompt, say, until_the_wall
from google import genai
from google.genai import types

client = genai.Client()
MODEL = "gemini-2.0-flash"
THINKING = "gemini-2.5-flash"


def generate(text, model=MODEL, ceiling=None):
    config = types.GenerateContentConfig(max_output_tokens=ceiling)
    return client.models.generate_content(model=model, contents=text, config=config)


def usage(answer):
    return answer.usage_metadata.model_dump(mode="json", exclude_none=True)


answer = generate(prompt(input=1200, cached=200, output=30))
say("plain", text=answer.text, model=answer.model_version, usage=usage(answer))

answer = generate(prompt(input=300, output=80, reasoning=50), model=THINKING)
say("thinking", text=answer.text, usage=usage(answer))

chunks = list(client.models.generate_content_stream(model=MODEL, contents=prompt(input=400, output=60, chunks=6)))
say("stream", text="".join(c.text or "" for c in chunks), chunks=len(chunks), usage=usage(chunks[-1]))

for number in range(3):
    answer = generate(prompt(input=3000 + number, output=1000), ceiling=5000)
    say("several", number=number, usage=usage(answer))

until_the_wall(
    lambda: generate(prompt(input=2000, output=3000), ceiling=4000),
    lambda: generate(prompt(input=10, output=1), ceiling=1),
    "generativelanguage.googleapis.com",
)
