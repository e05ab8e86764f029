# SPDX-License-Identifier: Apache-2.0
"""Ordinary asyncio programs that know nothing of overlapd: loops.py runs each under both loops, and compares.

Each coroutine returns what it saw; nothing of that may depend on the loop, or on chance.
"""

import asyncio
import contextlib
import hashlib
import io
import random
import socket
import tempfile


async def echo(reader, writer):
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def streams():
    """A line protocol by streams, with names and half close."""
    seen = []

    async def serve(reader, writer):
        same = writer.get_extra_info("sockname") == server.sockets[0].getsockname()
        seen.append(("server", same, writer.get_extra_info("socket") is not None))
        async for line in reader:
            writer.write(line.upper())
        writer.write(b"end\n")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        seen.append(("client", writer.get_extra_info("peername") == ("127.0.0.1", port)))
        writer.writelines([b"one\n", b"two\n"])
        seen.append(await reader.readline())
        seen.append(await reader.readexactly(2))
        writer.write_eof()
        seen.append(await reader.read())
        seen.append(reader.at_eof())
        writer.close()
        await writer.wait_closed()
    return seen


async def hosts():
    """Several hosts, names, and nobody there."""
    seen = []
    server = await asyncio.start_server(echo, ["127.0.0.1", "::1"], 0)
    seen.append(sorted(sock.family.name for sock in server.sockets))
    for sock in server.sockets:
        host, port = sock.getsockname()[:2]
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"hello")
        seen.append(await reader.readexactly(5))
        writer.close()
        await writer.wait_closed()
    port = next(sock.getsockname()[1] for sock in server.sockets if sock.family.name == "AF_INET")
    reader, writer = await asyncio.open_connection("localhost", port, happy_eyeballs_delay=0.25)
    seen.append(writer.get_extra_info("peername")[1] == port)
    writer.close()
    server.close()
    await server.wait_closed()
    try:
        await asyncio.open_connection("127.0.0.1", port)
    except OSError as error:
        seen.append(isinstance(error, ConnectionRefusedError))
    infos = await asyncio.get_running_loop().getaddrinfo("127.0.0.1", 80, type=1)
    seen.append([(info[0].name, info[4]) for info in infos])
    return seen


class Throttled(asyncio.Protocol):
    """Reads only now and then; says what the transport did to it."""

    def __init__(self):
        self.log, self.n_bytes, self.lost = [], 0, asyncio.get_running_loop().create_future()
        self.digest = hashlib.sha256()

    def connection_made(self, transport):
        self.transport = transport
        transport.pause_reading()
        self.log.append(transport.is_reading())
        asyncio.get_running_loop().call_later(0.05, transport.resume_reading)

    def data_received(self, data):
        self.n_bytes += len(data)
        self.digest.update(data)
        if random.random() < 0.1:
            self.transport.pause_reading()
            asyncio.get_running_loop().call_soon(self.transport.resume_reading)

    def eof_received(self):
        self.log.append("eof")
        return True

    def connection_lost(self, exc):
        self.log.append(exc)
        self.lost.set_result(None)


class Pusher(asyncio.Protocol):
    """Writes as fast as flow control lets it."""

    def __init__(self, payload):
        self.payload, self.n_pauses, self.log = payload, 0, []
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport
        transport.set_write_buffer_limits(high=65536, low=1024)
        self.log.append(transport.get_write_buffer_limits())
        transport.write(self.payload)

    def pause_writing(self):
        self.n_pauses += 1
        self.log.append("pause")

    def resume_writing(self):
        self.log.append("resume")
        self.transport.write_eof()
        self.log.append(self.transport.can_write_eof())

    def connection_lost(self, exc):
        self.log.append(exc)
        self.lost.set_result(None)


async def flow():
    """Flow control both ways, on bare protocols."""
    loop = asyncio.get_running_loop()
    payload = random.Random(1).randbytes(12 << 20)
    made = []

    def factory():
        made.append(Throttled())
        return made[-1]

    server = await loop.create_server(factory, "127.0.0.1", 0)
    transport, pusher = await loop.create_connection(lambda: Pusher(payload), *server.sockets[0].getsockname())
    while not made or "eof" not in made[0].log:
        await asyncio.sleep(0.01)
    made[0].transport.close()
    await asyncio.gather(pusher.lost, made[0].lost)
    server.close()
    return [pusher.log, transport.is_closing(), made[0].log, made[0].n_bytes,
            made[0].digest.digest() == hashlib.sha256(payload).digest()]


class Filler(asyncio.BufferedProtocol):
    """Echoes from one buffer of its own."""

    def __init__(self):
        self.buffer = bytearray(1000)

    def connection_made(self, transport):
        self.transport = transport

    def get_buffer(self, sizehint):
        return self.buffer

    def buffer_updated(self, nbytes):
        self.transport.write(bytes(self.buffer[:nbytes]))

    def eof_received(self):
        return False


async def buffered():
    """A buffered protocol, and a file through sendfile."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Filler, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    payload = random.Random(2).randbytes(300000)
    reading = asyncio.create_task(reader.read(-1))
    sent = await loop.sendfile(writer.transport, io.BytesIO(payload))
    with tempfile.NamedTemporaryFile(buffering=0) as made:
        made.write(payload)
        with open(made.name, "rb") as file:
            writer.write(b"before")
            sent += await loop.sendfile(writer.transport, file, 1000, 200000)
            sent += await loop.sendfile(writer.transport, file, 250000)
            writer.write(b"behind")
            at = file.tell()
    writer.write_eof()
    back = await reading
    writer.close()
    server.close()
    return [sent, at, back == payload + b"before" + payload[1000:201000] + payload[250000:] + b"behind"]


async def files():
    """A file through sock_sendfile(), of a socket that the loop made."""
    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(lambda reader, writer: swallow(reader, writer), "127.0.0.1", 0)
    payload = random.Random(4).randbytes(2000000)
    with tempfile.TemporaryFile(buffering=0) as made, open(f"/proc/self/fd/{made.fileno()}", "rb") as file:
        made.write(payload)
        open_socket = getattr(loop, "open_socket", None)
        connection = await open_socket() if open_socket else socket.socket()
        connection.setblocking(False)
        await loop.sock_connect(connection, server.sockets[0].getsockname())
        sent = await loop.sock_sendfile(connection, file, 7)
        connection.shutdown(socket.SHUT_WR)
        digest = await loop.sock_recv(connection, 100)
        connection.close()
        at = file.tell()
    server.close()
    return [sent, at, digest == hashlib.sha256(payload[7:]).digest()]


async def swallow(reader, writer):
    """Reads to the end, and answers with a checksum."""
    writer.write(hashlib.sha256(await reader.read(-1)).digest())
    writer.close()


async def aborts():
    """abort(), a peer that aborts, and writes in vain."""
    seen = []

    class Watcher(asyncio.Protocol):
        def __init__(self):
            self.lost = asyncio.get_running_loop().create_future()

        def connection_lost(self, exc):
            self.lost.set_result(exc)

    watchers = []

    def factory():
        watchers.append(Watcher())
        return watchers[-1]

    loop = asyncio.get_running_loop()
    server = await loop.create_server(factory, "127.0.0.1", 0)
    transport, mine = await loop.create_connection(Watcher, *server.sockets[0].getsockname())
    while not watchers:
        await asyncio.sleep(0.001)
    transport.write(b"x" * 1000)
    transport.abort()
    seen.append(await mine.lost)
    await watchers[0].lost
    transport.write(b"in vain")
    seen.append(transport.is_closing())
    server.close()
    await server.wait_closed()
    seen.append(server.is_serving())
    return seen


async def timeouts():
    """Cancelled reads lose nothing."""
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    n_timeouts = 0
    for _ in range(3):
        try:
            await asyncio.wait_for(reader.readexactly(10), 0.01)
        except asyncio.TimeoutError:
            n_timeouts += 1
    writer.write(b"0123456789")
    seen = [n_timeouts, await reader.readexactly(10)]
    writer.write_eof()
    seen.append(await reader.read())
    writer.close()
    server.close()
    return seen


async def many():
    """A thousand connections at once."""
    server = await asyncio.start_server(echo, "127.0.0.1", 0, backlog=1000)
    address = server.sockets[0].getsockname()
    gate, n_open = asyncio.Event(), 0

    async def talk(index):
        nonlocal n_open
        reader, writer = await asyncio.open_connection(*address)
        n_open += 1
        if n_open == 1000:
            gate.set()
        await gate.wait()
        payload = index.to_bytes(4, "little") * 1000
        writer.write(payload)
        writer.write_eof()
        back = await reader.read()
        writer.close()
        await writer.wait_closed()
        return back == payload

    results = await asyncio.gather(*(talk(index) for index in range(1000)))
    server.close()
    return [n_open, all(results)]


class Datagrams(asyncio.DatagramProtocol):
    """Keeps what comes."""

    def __init__(self, answers=False):
        self.answers, self.got = answers, asyncio.Queue()
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.got.put_nowait((data, addr))
        if self.answers:
            self.transport.sendto(data[::-1], addr)

    def error_received(self, exc):
        self.got.put_nowait(type(exc).__name__.removeprefix("Overlap"))

    def connection_lost(self, exc):
        self.lost.set_result(exc)


async def datagrams():
    """Endpoints with and without a peer."""
    loop = asyncio.get_running_loop()
    server, served = await loop.create_datagram_endpoint(lambda: Datagrams(True), local_addr=("127.0.0.1", 0))
    address = server.get_extra_info("sockname")
    client, mine = await loop.create_datagram_endpoint(Datagrams, remote_addr=address)
    loose, third = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
    seen = [client.get_extra_info("peername") == address]
    for data in (b"abc", b"x" * 2000, b"z"):
        client.sendto(data)
        seen.append((await mine.got.get())[0] == data[::-1])
        seen.append((await served.got.get())[1] == client.get_extra_info("sockname"))
    loose.sendto(b"from the third", address)
    seen.append((await third.got.get())[1] == address)
    server.close()
    seen.append(await served.lost)
    client.sendto(b"nobody is there")
    seen.append(await mine.got.get())
    for transport, protocol in ((client, mine), (loose, third)):
        transport.close()
        await protocol.lost
    return seen


async def secure(context, trust):
    """TLS from the start, and begun later."""
    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(echo_unhalved, "127.0.0.1", 0, ssl=context)
    reader, writer = await asyncio.open_connection(
        *server.sockets[0].getsockname(), ssl=trust, server_hostname="localhost")
    payload = random.Random(3).randbytes(500000)
    writer.write(payload)
    seen = [await reader.readexactly(len(payload)) == payload, writer.get_extra_info("ssl_object") is not None]
    writer.close()
    await writer.wait_closed()
    server.close()

    async def upgrade(reader, writer):
        await reader.readline()
        writer.write(b"go\n")
        await writer.drain()
        await writer.start_tls(context)
        await echo_unhalved(reader, writer)

    server = await asyncio.start_server(upgrade, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"STARTTLS\n")
    seen.append(await reader.readline())
    await writer.start_tls(trust, server_hostname="localhost")
    writer.write(b"secret")
    seen.append(await reader.readexactly(6))
    writer.close()
    await writer.wait_closed()
    server.close()
    return seen


async def echo_unhalved(reader, writer):
    """TLS cannot be closed by half."""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
