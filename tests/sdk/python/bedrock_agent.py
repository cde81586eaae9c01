"""An agent on boto3: Converse and InvokeModel, whole and as event streams, then Converse until it is refused."""

import json

import boto3
from agent import prompt, say, until_the_wall

client = boto3.client("bedrock-runtime")
CLAUDE = "global.anthropic.claude-haiku-4-5-20251001-v1:0"
NOVA = "amazon.nova-lite-v1:0"


def user(text):
    return [{"role": "user", "content": [{"text": text}]}]


def converse(text, model=NOVA, ceiling=1000):
    return client.converse(modelId=model, messages=user(text), inferenceConfig={"maxTokens": ceiling})


def stream(text, model):
    answer = client.converse_stream(modelId=model, messages=user(text), inferenceConfig={"maxTokens": 1000})
    return list(answer["stream"])


def claude(text):
    messages = [{"role": "user", "content": text}]
    return json.dumps({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 1000, "messages": messages})


def nova(text):
    return json.dumps({"messages": user(text), "inferenceConfig": {"maxTokens": 1000}})


def text_of(answer):
    return answer["output"]["message"]["content"][0]["text"]


answer = converse(prompt(input=1200, cached=200, output=30))
say("converse", text=text_of(answer), usage=answer["usage"], stop=answer["stopReason"])

answer = converse(prompt(input=900, cached=200, cache_write=100, output=30), CLAUDE)
say("converse with a cache", text=text_of(answer), usage=answer["usage"])

for model in (NOVA, CLAUDE):
    events = stream(prompt(input=400, output=60, chunks=6), model)
    say(
        "converse stream",
        text="".join(e["contentBlockDelta"]["delta"]["text"] for e in events if "contentBlockDelta" in e),
        kinds=[list(e) for e in events],
        usage=events[-1]["metadata"]["usage"],
    )

for model, body in ((CLAUDE, claude(prompt(input=500, output=70))), (NOVA, nova(prompt(input=500, output=70)))):
    answer = client.invoke_model(modelId=model, body=body)
    counts = {name: value for name, value in answer["ResponseMetadata"]["HTTPHeaders"].items() if "token" in name}
    said = json.loads(answer["body"].read())
    said.pop("id", None)
    say("invoke", said=said, counts=counts)

for model, body in (
    (CLAUDE, claude(prompt(input=700, cached=100, output=50, chunks=5))),
    (NOVA, nova(prompt(input=700, cached=100, output=50, chunks=5))),
):
    answer = client.invoke_model_with_response_stream(modelId=model, body=body)
    chunks = [json.loads(event["chunk"]["bytes"]) for event in answer["body"]]
    for chunk in chunks:
        chunk.get("message", {}).pop("id", None)
    say("invoke stream", chunks=chunks)

for number in range(3):
    answer = converse(prompt(input=3000 + number, output=500))
    say("several", number=number, usage=answer["usage"])

until_the_wall(
    lambda: converse(prompt(input=100, output=900)),
    lambda: converse(prompt(input=10, output=1), ceiling=1),
    "bedrock-runtime.us-east-1.amazonaws.com",
)
