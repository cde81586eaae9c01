"""One gRPC call with raw messages, as generated code would make it: prints the answer and its trailers."""

import sys

import grpc

from agent import say


def main():
    host, count = sys.argv[1], int(sys.argv[2])
    with grpc.secure_channel(host + ":443", grpc.ssl_channel_credentials()) as channel:
        call = channel.unary_stream("/sim.Echo/Repeat")(bytes([count]) + b"message", timeout=30)
        try:
            for message in call:
                say("message", text=message[1:].decode())
        except grpc.RpcError:
            pass
        say("end", code=call.code().name, details=call.details(), trailers=dict(call.trailing_metadata()))


main()
