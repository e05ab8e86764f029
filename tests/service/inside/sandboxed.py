# SPDX-License-Identifier: Apache-2.0
"""A program without a network. sandboxed.py connect PORT: sends through overlapd to an echo server and compares.
sandboxed.py serve PORT: takes one connection through overlapd and echoes it. Both first show that the kernel gives them
no network of their own."""

import asyncio
import socket
import sys

import overlap.aio

LEN = 4 << 20


def expect_no_network():
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM).connect(("127.0.0.1", 7001))
    except OSError:
        return
    sys.exit("this is no sandbox: the kernel opened a connection")


async def connect(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    data = bytes(range(256)) * (LEN // 256)
    writer.write(data)
    back = await reader.readexactly(LEN)
    writer.close()
    if back != data:
        sys.exit("what came back is not what was sent")


async def serve(port):
    done = asyncio.Event()

    async def echo(reader, writer):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()
        done.set()

    server = await asyncio.start_server(echo, "127.0.0.1", port)
    print("serving", flush=True)
    await done.wait()
    server.close()


if __name__ == "__main__":
    expect_no_network()
    overlap.aio.run({"connect": connect, "serve": serve}[sys.argv[1]](int(sys.argv[2])))
