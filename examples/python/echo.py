#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""echo.py [PORT]: an echo server for asyncio, on 127.0.0.1; SIGTERM or SIGINT ends it.

There is nothing of overlapd in it but the last line: with asyncio.run() the same program runs on the kernel's sockets.
"""

import asyncio
import signal
import sys

import overlap.aio


async def echo(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()  # no faster than the peer reads
    except ConnectionError as error:
        print(f"{writer.get_extra_info('peername')}: {error}", file=sys.stderr)
    finally:
        writer.close()


async def main():
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    server = await asyncio.start_server(echo, "127.0.0.1", sys.argv[1] if len(sys.argv) > 1 else 0)
    print("listening on {}:{}".format(*server.sockets[0].getsockname()), flush=True)
    await ended.wait()
    server.close()


if __name__ == "__main__":
    overlap.aio.run(main())
