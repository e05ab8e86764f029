# SPDX-License-Identifier: Apache-2.0
"""A program without a network. sandboxed.py connect HOST PORT: sends through overlapd to an echo server, and compares the
sums. sandboxed.py serve ADDRESS PORT: takes one connection through overlapd and echoes it. sandboxed.py hold HOST PORT:
stays connected, and sends one byte there and back with each SIGUSR1. sandboxed.py several HOST PORT: opens connections until
one is refused, at most ten, and says why. All first show that the kernel gives them no
network of their own."""

import asyncio
import hashlib
import os
import signal
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


async def connect(host, port):
    reader, writer = await asyncio.open_connection(host, port)
    data = os.urandom(LEN)
    writer.write(data)
    back = await reader.readexactly(LEN)
    writer.close()
    sent, received = (hashlib.sha256(both).hexdigest() for both in (data, back))
    if sent != received:
        sys.exit(f"what came back has the sum {received}, what was sent {sent}")
    print(f"sum {sent}")


async def hold(host, port):
    reader, writer = await asyncio.open_connection(host, port)
    asked = asyncio.Queue()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, asked.put_nowait, None)
    print("connected", flush=True)
    while True:
        await asked.get()
        writer.write(b"x")
        await reader.readexactly(1)
        print("echoed", flush=True)


async def several(host, port):
    writers = []
    try:
        for _ in range(10):
            writers.append((await asyncio.open_connection(host, port))[1])
    except OSError as error:
        print(f"refused: {error}")
    print(f"connections: {len(writers)}")


async def serve(address, port):
    done = asyncio.Event()

    async def echo(reader, writer):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()
        done.set()

    server = await asyncio.start_server(echo, address, port)
    print("serving", flush=True)
    await done.wait()
    server.close()


if __name__ == "__main__":
    expect_no_network()
    overlap.aio.run({"connect": connect, "serve": serve, "hold": hold, "several": several}[sys.argv[1]](sys.argv[2], int(sys.argv[3])))
