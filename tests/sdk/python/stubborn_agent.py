"""What each SDK does when it is refused: one plain and one streamed call, with the SDK's own retries, and how it failed."""

import asyncio

from agent import prompt, say, timed

CHAT = "gpt-4o"
MESSAGE = "claude-haiku-4-5-20251001"
CONTENT = "gemini-2.0-flash"
TEXT = prompt(input=300, output=200)


def openai(stream):
    from openai import OpenAI

    options = {"messages": [{"role": "user", "content": TEXT}], "max_completion_tokens": 200, "stream": stream}
    return lambda client=OpenAI(): list(client.chat.completions.create(model=CHAT, **options))


def openai_async(stream):
    from openai import AsyncOpenAI

    async def call():
        options = {"messages": [{"role": "user", "content": TEXT}], "max_completion_tokens": 200, "stream": stream}
        async with AsyncOpenAI() as client:
            answer = await client.chat.completions.create(model=CHAT, **options)
            if stream:
                [chunk async for chunk in answer]

    return lambda: asyncio.run(call())


def responses(stream):
    from openai import OpenAI

    return lambda client=OpenAI(): list(
        client.responses.create(model=CHAT, input=TEXT, max_output_tokens=200, stream=stream)
    )


def anthropic(stream):
    from anthropic import Anthropic

    options = {"messages": [{"role": "user", "content": TEXT}], "max_tokens": 200, "stream": stream}
    return lambda client=Anthropic(): list(client.messages.create(model=MESSAGE, **options))


def anthropic_async(stream):
    from anthropic import AsyncAnthropic

    async def call():
        options = {"messages": [{"role": "user", "content": TEXT}], "max_tokens": 200, "stream": stream}
        async with AsyncAnthropic() as client:
            answer = await client.messages.create(model=MESSAGE, **options)
            if stream:
                [event async for event in answer]

    return lambda: asyncio.run(call())


def google(stream):
    from google import genai

    client = genai.Client()
    name = "generate_content_stream" if stream else "generate_content"
    # The client ends what it has begun when nobody keeps it.
    return lambda: list(getattr(client.models, name)(model=CONTENT, contents=TEXT))


SDKS = {
    "openai": openai,
    "openai-async": openai_async,
    "responses": responses,
    "anthropic": anthropic,
    "anthropic-async": anthropic_async,
    "google": google,
}
for sdk, make in SDKS.items():
    for stream in (False, True):
        say(sdk, stream=stream, **timed(make(stream)))
