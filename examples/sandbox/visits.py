#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""visits.py [ADDRESS [PORT]]: serves HTTP, on 0.0.0.0:8080, and says how many visits there were; Redis counts them, on
127.0.0.1:6379. SIGTERM or SIGINT ends it.

It runs in visits.service, which has no network: overlapd owns its sockets. Only the last line knows that.
"""

import asyncio
import os
import signal
import socket
import sys

import overlap.aio

REDIS = ("127.0.0.1", 6379)
PATIENCE_S = 10


async def count():
    """Adds one in Redis, which speaks a protocol of lines. Returns the sum."""
    reader, writer = await asyncio.open_connection(*REDIS)
    try:
        writer.write(b"INCR visits\r\n")
        answer = await reader.readline()
        if not answer.startswith(b":"):
            raise OSError(f"Redis says {answer.decode(errors='replace').strip()!r}")
        return int(answer[1:])
    finally:
        writer.close()


async def answer_one(reader):
    request = await reader.readuntil(b"\r\n\r\n")
    if not request.startswith(b"GET / "):
        return "404 Not Found", "there is only /\n"
    try:
        return "200 OK", f"visit {await count()}\n"
    except OSError as error:
        print(f"Redis cannot be asked: {error}", file=sys.stderr)
        return "503 Service Unavailable", f"Redis cannot be asked: {error}\n"


async def serve(reader, writer):
    try:
        async with asyncio.timeout(PATIENCE_S):
            status, text = await answer_one(reader)
            writer.write(f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(text.encode())}\r\n"
                         f"Connection: close\r\n\r\n{text}".encode())
            await writer.drain()
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        pass  # whoever sends no request, or does not wait for the answer
    finally:
        writer.close()


def notify(text):
    """Tells the service manager, if there is one. Its socket is a local one, and needs no network."""
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.sendto(text.encode(), path.replace("@", "\0", 1) if path[0] == "@" else path)


async def main():
    address, port = (sys.argv[1:] + ["0.0.0.0", "8080"][len(sys.argv) - 1:])[:2]
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    try:
        server = await asyncio.start_server(serve, address, int(port))
    except OSError as error:
        sys.exit(f"cannot serve at {address}:{port}: {error}")
    notify("READY=1")
    print(f"serving at {address}:{port}", flush=True)
    await ended.wait()
    server.close()


if __name__ == "__main__":
    overlap.aio.run(main())
