"""One Converse that states no ceiling: what came of it."""

import boto3

from agent import failure, prompt, say

MODEL = "global.anthropic.claude-haiku-4-5-20251001-v1:0"

try:
    messages = [{"role": "user", "content": [{"text": prompt(input=300, output=200)}]}]
    answer = boto3.client("bedrock-runtime").converse(modelId=MODEL, messages=messages)
    say("answered", usage=answer["usage"])
except Exception as error:
    say("raised", **failure(error))
