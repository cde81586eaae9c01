"""One stream that is ended half-way: `cut_agent.py API DIRECTIVE`. Prints what was raised, and what came before."""

import json
import sys

from agent import failure, prompt, say

CEILING = 200


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
        kinds = [kind.__name__ for kind in type(error).__mro__]
        say("raised", events=count, kinds=kinds, **failure(error))


main()
