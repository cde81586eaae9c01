"""What the agents of this folder share: they print what they see as JSON lines, and walk on until they are refused.

Nothing here or in the agents knows of a meter. Each prompt tells the simulator what to bill.
"""

import errno
import json
import os
import socket
import ssl
import time

# Calls after which an agent that nobody stops ends by itself.
CALLS = int(os.environ.get("AGENT_CALLS", "200"))


def say(step, **facts):
    print(json.dumps({"step": step, **facts}), flush=True)


def prompt(**directive):
    """A directive, with as much text around it as the input it bills would have."""
    return "sim:" + json.dumps(directive) + " and" * directive["input"]


def failure(error):
    """An exception as its own fields and its causes tell it."""
    body = getattr(error, "body", None)
    if body is None:
        body = getattr(error, "details", None)
    status = getattr(error, "status_code", None) or getattr(error, "code", None)
    # boto3 keeps what it was answered as a dictionary.
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        body, status = response.get("Error"), response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    codes = []
    cause = error
    while cause is not None:
        code = getattr(cause, "errno", None)
        if code in errno.errorcode:
            codes.append(errno.errorcode[code])
        cause = cause.__cause__ or cause.__context__
    return {
        "class": type(error).__name__,
        "kinds": [kind.__name__ for kind in type(error).__mro__],
        "status": status,
        "message": str(error),
        "body": body,
        "errno": codes,
    }


def timed(call):
    """How a call that must fail failed, and after how long."""
    start = time.monotonic()
    try:
        call()
        facts = {"class": None}
    except Exception as error:
        facts = failure(error)
    facts["ms"] = int((time.monotonic() - start) * 1000)
    return facts


def connect(host):
    """A new connection, by name, with nothing but sockets and TLS."""
    with socket.create_connection((host, 443), timeout=20) as plain:
        ssl.create_default_context().wrap_socket(plain, server_hostname=host).close()


def until_the_wall(call, pooled, host):
    """Calls until it fails; then what the same client and a new connection meet.

    `call` is the smallest of an agent's requests, so that one that no longer fits ends them all.
    """
    start = time.monotonic()
    for number in range(CALLS):
        start = time.monotonic()
        try:
            call()
            say("loop", number=number)
        except Exception as error:
            say("wall", number=number, ms=int((time.monotonic() - start) * 1000), **failure(error))
            break
    else:
        say("no wall", calls=CALLS)
        return
    say("pooled", **timed(pooled))
    say("fresh", **timed(lambda: connect(host)))
