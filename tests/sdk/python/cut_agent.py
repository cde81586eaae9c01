"""One stream that is ended half-way: `cut_agent.py API DIRECTIVE`. Prints what was raised, and what came before."""

import json
import sys

from agent import failure, prompt, say

CEILING = 200
CLAUDE = "global.anthropic.claude-haiku-4-5-20251001-v1:0"


def chat(text):
    from openai import OpenAI

    messages = [{"role": "user", "content": text}]
    return OpenAI().chat.completions.create(
        model="gpt-4o", messages=messages, stream=True, max_completion_tokens=CEILING
    )


def responses(text):
    from openai import OpenAI

    return OpenAI().responses.create(model="gpt-4o", input=text, stream=True, max_output_tokens=CEILING)


def messages(text):
    from anthropic import Anthropic

    messages = [{"role": "user", "content": text}]
    return Anthropic().messages.create(
        model="claude-haiku-4-5-20251001", max_tokens=CEILING, messages=messages, stream=True
    )


def content(text):
    from google import genai
    from google.genai import types

    # The client closes what it made when it is collected, its streams among it.
    content.client = genai.Client()
    config = types.GenerateContentConfig(max_output_tokens=CEILING)
    return content.client.models.generate_content_stream(model="gemini-2.0-flash", contents=text, config=config)


def converse(text):
    import boto3

    messages = [{"role": "user", "content": [{"text": text}]}]
    client = boto3.client("bedrock-runtime")
    return client.converse_stream(modelId=CLAUDE, messages=messages, inferenceConfig={"maxTokens": CEILING})["stream"]


def invoke(text):
    import boto3

    messages = [{"role": "user", "content": text}]
    body = json.dumps({"anthropic_version": "bedrock-2023-05-31", "max_tokens": CEILING, "messages": messages})
    return boto3.client("bedrock-runtime").invoke_model_with_response_stream(modelId=CLAUDE, body=body)["body"]


def nova(text):
    import boto3

    messages = [{"role": "user", "content": [{"text": text}]}]
    body = json.dumps({"messages": messages, "inferenceConfig": {"maxTokens": CEILING}})
    client = boto3.client("bedrock-runtime")
    return client.invoke_model_with_response_stream(modelId="amazon.nova-lite-v1:0", body=body)["body"]


def main():
    api, directive = sys.argv[1], json.loads(sys.argv[2])
    count = 0
    try:
        for _ in globals()[api](prompt(**directive)):
            if count == 0:
                say("first")
            count += 1
        say("complete", events=count)
    except Exception as error:
        say("raised", events=count, **failure(error))


main()
