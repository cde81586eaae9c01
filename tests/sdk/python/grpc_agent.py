"""One gRPC call with raw messages, as generated code would make it: prints the answer and its trailers.

`grpc_agent.py HOST COUNT` has a message sent back so many times, and `grpc_agent.py chat DIRECTIVE` is a stream of xAI's chat.
"""

import json
import sys

import grpc

from agent import prompt, say

MODEL = b"grok-3"
CEILING = 200


def echo(host, count):
    return host, "/sim.Echo/Repeat", bytes([int(count)]) + b"message"


def varint(value):
    head = b""
    while value > 0x7F:
        head += bytes([value & 0x7F | 0x80])
        value >>= 7
    return head + bytes([value])


def field(number, value):
    return varint(number << 3 | 2) + varint(len(value)) + value


def chat(directive):
    text = prompt(**json.loads(directive)).encode()
    role_user = varint(2 << 3) + varint(1)
    message = field(1, field(1, text)) + role_user
    request = field(1, message) + field(2, MODEL) + varint(7 << 3) + varint(CEILING)
    return "api.x.ai", "/xai_api.Chat/GetCompletionChunk", request


def main():
    is_chat = sys.argv[1] == "chat"
    host, method, request = chat(sys.argv[2]) if is_chat else echo(*sys.argv[1:])
    with grpc.secure_channel(host + ":443", grpc.ssl_channel_credentials()) as channel:
        call = channel.unary_stream(method)(request, timeout=30)
        count = 0
        try:
            for message in call:
                count += 1
                if is_chat and count == 1:
                    say("first")
                elif not is_chat:
                    say("message", text=message[1:].decode())
        except grpc.RpcError as error:
            say("raised", kinds=[kind.__name__ for kind in type(error).__mro__])
        trailers = dict(call.trailing_metadata())
        say("end", count=count, code=call.code().name, details=call.details(), trailers=trailers)


main()
