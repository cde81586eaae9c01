"""What each SDK does when it is refused: one plain and one streamed call, with the SDK's own retries, and how it failed."""

import asyncio
import json

from agent import prompt, say, timed

CHAT = "gpt-4o"
MESSAGE = "claude-haiku-4-5-20251001"
CONTENT = "gemini-2.0-flash"
CLAUDE = "global.anthropic.claude-haiku-4-5-20251001-v1:0"
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


def bedrock(stream):
    import boto3

    messages = [{"role": "user", "content": [{"text": TEXT}]}]
    options = {"modelId": CLAUDE, "messages": messages, "inferenceConfig": {"maxTokens": 200}}
    client = boto3.client("bedrock-runtime")
    if stream:
        return lambda: list(client.converse_stream(**options)["stream"])
    return lambda: client.converse(**options)


def bedrock_invoke(stream):
    import boto3

    body = {"max_tokens": 200, "messages": [{"role": "user", "content": TEXT}], "anthropic_version": "bedrock-2023-05-31"}
    options = {"modelId": CLAUDE, "body": json.dumps(body)}
    client = boto3.client("bedrock-runtime")
    if stream:
        return lambda: list(client.invoke_model_with_response_stream(**options)["body"])
    return lambda: client.invoke_model(**options)["body"].read()


SDKS = {
    "openai": openai,
    "openai-async": openai_async,
    "responses": responses,
    "anthropic": anthropic,
    "anthropic-async": anthropic_async,
    "google": google,
    "bedrock": bedrock,
    "bedrock-invoke": bedrock_invoke,
}
for sdk, make in SDKS.items():
    for stream in (False, True):
        say(sdk, stream=stream, **timed(make(stream)))
