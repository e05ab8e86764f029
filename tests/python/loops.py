#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""asyncio programs on overlap.aio: the same under both loops, mixed with the kernel's, and when things go wrong. TAP."""

import asyncio
import contextlib
import gc
import hashlib
import random
import shutil
import socket
import ssl
import struct
import subprocess
import tempfile
import unittest.mock

import overlap.aio
import program
import stage
from overlap.aio import service as services
from overlap.operation import Operation


class LoopCase(stage.Case):
    """A case whose programs run on overlap.aio, with this level."""

    def run_ours(self, main):
        """What a coroutine returns on our loop. What the loop's handler was told is a failure."""
        loop = overlap.aio.EventLoop(self.daemon.path, level=self.level)
        complaints = []

        async def watched():
            loop.set_exception_handler(lambda loop, context: complaints.append(context))
            return await asyncio.wait_for(main, stage.LIMIT_S * 0.8)

        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            result = runner.run(watched())
            runner.run(self.settle(loop))
        self.assertEqual(complaints, [])
        return result

    async def settle(self, loop):
        """Waits until nothing is in flight: every buffer has to be given back, and every socket closed."""
        session = loop.service().session
        deadline = loop.time() + stage.PATIENCE_S
        n_sockets = -1
        while n_sockets or session.n_pending() or session.arena.bytes_lent or session.inline_used:
            self.assertLess(loop.time(), deadline, f"{session.n_pending()} operations, {n_sockets} sockets are left")
            reply = await loop.service().request("status", {})
            n_sockets = reply.get("status_report", {}).get("sockets", 0)

    def datagrams_or_skip(self):
        with overlap.Session(self.daemon.path, level=self.level) as session:
            self.served(session.socket, socket.AF_INET, socket.SOCK_DGRAM)


class Unchanged(LoopCase):
    """The same program, with nothing but the loop changed."""

    def both(self, make, *arguments):
        expected = asyncio.run(make(*arguments))
        self.assertEqual(self.run_ours(make(*arguments)), expected)
        return expected

    def test_streams(self):
        self.both(program.streams)

    def test_hosts(self):
        self.both(program.hosts)

    def test_flow_control(self):
        self.both(program.flow)

    def test_buffered_protocols_and_sendfile(self):
        self.both(program.buffered)

    def test_files(self):
        self.both(program.files)

    def test_aborts(self):
        self.both(program.aborts)

    def test_timeouts(self):
        self.both(program.timeouts)

    def test_a_thousand_connections(self):
        self.assertEqual(self.both(program.many), [1000, True])

    def test_datagrams(self):
        self.datagrams_or_skip()
        self.both(program.datagrams)

    def test_tls(self):
        if not shutil.which("openssl"):
            self.skipTest("there is no openssl to make a certificate with")
        key, certificate = f"{self.daemon.folder}/key", f"{self.daemon.folder}/certificate"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                        "-keyout", key, "-out", certificate, "-subj", "/CN=localhost", "-days", "2",
                        "-addext", "subjectAltName=DNS:localhost"], check=True, stderr=subprocess.DEVNULL)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.both(program.secure, context, ssl.create_default_context(cafile=certificate))

    def test_the_policy_and_run(self):
        with unittest.mock.patch.dict("os.environ", {"OVERLAPD_SOCKET": self.daemon.path}):
            asyncio.set_event_loop_policy(overlap.aio.EventLoopPolicy(level=self.level))

            async def main():
                return type(asyncio.get_running_loop()), len(await program.streams())

            self.assertEqual(asyncio.run(main()), (overlap.aio.EventLoop, 6))
            asyncio.set_event_loop_policy(None)
            self.assertEqual(overlap.aio.run(main(), level=self.level), (overlap.aio.EventLoop, 6))


async def talk(address, payload):
    """Sends, and returns what came back."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(payload)
    writer.write_eof()
    back = await reader.read()
    writer.close()
    await writer.wait_closed()
    return back



class Files(LoopCase):
    """What the daemon reads, and what stays behind when a task is cancelled."""

    @contextlib.asynccontextmanager
    async def connection(self):
        """A connected socket of the loop's, and the ordinary other end."""
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            ours = await loop.open_socket()
            await loop.sock_connect(ours, listener.getsockname())
            other, _ = listener.accept()
        with other:
            yield ours, other
        ours.close()

    def test_a_cancelled_file(self):
        async def main():
            loop = asyncio.get_running_loop()
            payload = random.Random(7).randbytes(20 << 20)
            with tempfile.NamedTemporaryFile(buffering=0) as made:
                made.write(payload)
                with open(made.name, "rb") as file:
                    async with self.connection() as (ours, other):
                        fallback = self.level == 0
                        sending = asyncio.create_task(loop.sock_sendfile(ours, file, 5, fallback=fallback))
                        await loop.run_in_executor(None, other.recv, 1, socket.MSG_PEEK)
                        sending.cancel()
                        with self.assertRaises(asyncio.CancelledError):
                            await sending
                        ours.shutdown(socket.SHUT_WR)
                        back = await loop.run_in_executor(None, self.read_all, other)
                        self.assertTrue(0 < len(back) < len(payload) - 5)
                        self.assertEqual(back, payload[5:5 + len(back)])
                        if not fallback:
                            self.assertEqual(file.tell(), 5 + len(back))

        self.run_ours(main())

    @staticmethod
    def read_all(other):
        data = bytearray()
        while piece := other.recv(1 << 20):
            data += piece
        return bytes(data)

    def test_what_cannot_be_lent(self):
        async def main():
            loop = asyncio.get_running_loop()
            with tempfile.TemporaryFile() as file:
                async with self.connection() as (ours, other):
                    with self.assertRaises(asyncio.SendfileNotAvailableError):
                        await loop.sock_sendfile(ours, file, fallback=False)

        self.run_ours(main())


class Mixed(LoopCase):
    """One side is ours, the other the kernel's."""

    async def check_many(self, address, count):
        payloads = [random.Random(index).randbytes(20000) for index in range(count)]
        gate = asyncio.Semaphore(250)

        async def one(payload):
            async with gate:
                return await talk(address, payload)

        backs = await asyncio.gather(*(one(payload) for payload in payloads))
        self.assertEqual([hashlib.sha256(back).digest() for back in backs],
                         [hashlib.sha256(payload).digest() for payload in payloads])

    def test_our_server(self):
        async def main():
            server = await asyncio.start_server(program.echo, "127.0.0.1", 0, backlog=1000)
            address = server.sockets[0].getsockname()
            await asyncio.to_thread(asyncio.run, self.check_many(address, 1000))
            server.close()

        self.run_ours(main())

    def test_our_clients(self):
        loop = asyncio.new_event_loop()
        server = loop.run_until_complete(asyncio.wait_for(self.serve(), stage.PATIENCE_S))
        task = self.thread(loop.run_forever)

        async def main():
            await self.check_many(server.sockets[0].getsockname(), 1000)

        self.run_ours(main())
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        task.join()
        loop.close()

    @staticmethod
    async def serve():
        return await asyncio.start_server(program.echo, "127.0.0.1", 0, backlog=1000)

    def test_a_peer_that_resets(self):
        async def main():
            with socket.socket() as listener:
                listener.bind(("127.0.0.1", 0))
                listener.listen()
                reader, writer = await asyncio.open_connection(*listener.getsockname())
                other, _ = listener.accept()
                other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                other.close()
                with self.assertRaises(ConnectionResetError):
                    await reader.read()
                writer.close()
                with contextlib.suppress(ConnectionResetError):
                    await writer.wait_closed()

        self.run_ours(main())

    def test_a_peer_that_does_not_read(self):
        """Back-pressure: drain() waits, and nothing piles up."""
        async def main():
            with socket.socket() as listener:
                listener.bind(("127.0.0.1", 0))
                listener.listen()
                _, writer = await asyncio.open_connection(*listener.getsockname())
                other, _ = listener.accept()
                with other:
                    n_bytes = 0
                    with self.assertRaises(asyncio.TimeoutError):
                        while True:
                            writer.write(bytes(65536))
                            n_bytes += 65536
                            await asyncio.wait_for(writer.drain(), 1)
                    self.assertLess(writer.transport.get_write_buffer_size(), 2 << 20)
                    self.assertLess(n_bytes, 100 << 20)
                    other.setblocking(False)
                    loop, n_read = asyncio.get_running_loop(), 0
                    while n_read < n_bytes:
                        n_read += len(await loop.sock_recv(other, 1 << 20))  # a socket of the kernel
                    await writer.drain()
                    writer.transport.abort()

        self.run_ours(main())


class Sockets(LoopCase):
    """loop.sock_*()."""

    async def pair(self):
        loop = asyncio.get_running_loop()
        listener = await overlap.aio.open_socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        mine = await overlap.aio.open_socket()
        accepting = asyncio.create_task(loop.sock_accept(listener))
        await loop.sock_connect(mine, listener.getsockname())
        other, address = await accepting
        self.assertEqual(address, mine.getsockname())
        listener.close()
        return loop, mine, other

    def test_connects_to_names(self):
        async def main():
            loop = asyncio.get_running_loop()
            with socket.create_server(("127.0.0.1", 0)) as listener:
                port = listener.getsockname()[1]
                for family in (socket.AF_INET, socket.AF_INET6):
                    mine = await overlap.aio.open_socket(family)
                    await loop.sock_connect(mine, ("localhost", port))
                    other, _ = listener.accept()
                    await loop.sock_sendall(mine, b"by name")
                    self.assertEqual(other.recv(100), b"by name")
                    self.assertEqual(mine.getpeername()[1], port)
                    other.close()
                    mine.close()
            mine = await overlap.aio.open_socket()
            with self.assertRaises(ConnectionRefusedError):
                await loop.sock_connect(mine, ("localhost", port))
            with self.assertRaises(socket.gaierror) as caught:
                await loop.sock_connect(mine, ("two words", port))
            self.assertEqual(caught.exception.errno, socket.EAI_NONAME)
            mine.close()

        self.run_ours(main())

    def test_transfers(self):
        async def main():
            loop, mine, other = await self.pair()
            payload = random.Random(6).randbytes(1 << 20)
            sending = asyncio.create_task(loop.sock_sendall(mine, payload))
            got, place = bytearray(), bytearray(50000)
            while len(got) < len(payload):
                got += place[:await loop.sock_recv_into(other, place)]
            await sending
            self.assertEqual(bytes(got), payload)
            mine.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.assertEqual(mine.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), 1)
            mine.shutdown(socket.SHUT_WR)
            self.assertEqual(await loop.sock_recv(other, 10), b"")
            mine.close()
            other.close()

        self.run_ours(main())

    def test_a_cancelled_receive_loses_no_byte(self):
        async def main():
            loop, mine, other = await self.pair()
            payload, got, n_cancelled = random.Random(7).randbytes(300000), bytearray(), 0
            dice = random.Random(8)

            async def send():
                at = 0
                while at < len(payload):
                    size = dice.randrange(1, 4000)
                    await loop.sock_sendall(mine, payload[at:at + size])
                    at += size

            sending = asyncio.create_task(send())
            while len(got) < len(payload):
                receiving = asyncio.create_task(loop.sock_recv(other, 1000))
                for _ in range(dice.randrange(4)):
                    await asyncio.sleep(0)
                receiving.cancel()
                try:
                    got += await receiving
                except asyncio.CancelledError:
                    n_cancelled += 1
                    got += await loop.sock_recv(other, 1000)
            await sending
            self.assertEqual(bytes(got), payload)
            self.assertGreater(n_cancelled, 20)
            mine.close()
            other.close()

        self.run_ours(main())

    def test_cancelled_waits_end_with_their_records(self):
        async def main():
            loop, mine, other = await self.pair()
            session = loop.service().session
            for _ in range(50):
                receiving = asyncio.create_task(loop.sock_recv(other, 1000))
                await asyncio.sleep(0)
                receiving.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await receiving
                self.assertEqual((session.n_pending(), session.arena.bytes_lent), (0, 0))
            connecting = asyncio.create_task(asyncio.open_connection("127.0.0.1", 9))
            await asyncio.sleep(0)
            connecting.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await connecting
            mine.close()
            other.close()

        self.run_ours(main())

    def test_what_a_socket_is_not(self):
        async def main():
            sock = await overlap.aio.open_socket()
            self.assertEqual((sock.fileno(), sock.gettimeout()), (-1, 0.0))
            for wrong in (lambda: sock.setblocking(True), lambda: sock.settimeout(None)):
                with self.assertRaises(ValueError):
                    wrong()
            with self.assertRaises(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()

        self.run_ours(main())
        with self.assertRaises(RuntimeError):
            asyncio.run(overlap.aio.open_socket())

    def test_sockets_that_the_program_brings_along(self):
        async def main():
            loop, mine, other = await self.pair()
            mine.sockname = None
            reader, writer = await asyncio.open_connection(sock=mine)
            self.assertEqual(writer.get_extra_info("peername"), other.getsockname())
            await loop.sock_sendall(other, b"hello")
            self.assertEqual(await reader.readexactly(5), b"hello")
            writer.close()
            other.close()
            listener = await overlap.aio.open_socket()
            listener.bind(("127.0.0.1", 0))
            server = await asyncio.start_server(program.echo, sock=listener)
            self.assertEqual(await talk(listener.getsockname(), b"hello"), b"hello")
            server.close()

        self.run_ours(main())

    def test_names(self):
        async def main():
            loop = asyncio.get_running_loop()
            infos = await loop.getaddrinfo("localhost", "80", family=socket.AF_INET, type=socket.SOCK_STREAM)
            self.assertIn(("127.0.0.1", 80), [info[4] for info in infos])
            with self.assertRaises(socket.gaierror):
                await loop.getaddrinfo("no such host", 80)
            with self.assertRaises(socket.gaierror):
                await loop.getaddrinfo("not-numeric", 80, flags=socket.AI_NUMERICHOST)

        self.run_ours(main())


class Shortages(LoopCase):
    """Limits are waited for; they are no errors."""

    def test_few_credits(self):
        async def main():
            server = await asyncio.start_server(program.echo, "127.0.0.1", 0)
            address = server.sockets[0].getsockname()
            results = await asyncio.to_thread(asyncio.run, self.storm(address))
            self.assertTrue(all(results))
            server.close()
            self.assertEqual(asyncio.get_running_loop().service().session.credits, 12)

        with unittest.mock.patch.object(services, "CREDITS", 12):
            self.run_ours(main())

    async def storm(self, address):
        async def one(index):
            payload = random.Random(index).randbytes(100000)
            return await talk(address, payload) == payload

        return await asyncio.gather(*(one(index) for index in range(60)))

    def test_little_memory(self):
        """Transports that find no memory wait for data without any."""
        async def main():
            loop = asyncio.get_running_loop()
            server = await asyncio.start_server(program.echo, "127.0.0.1", 0)
            address = server.sockets[0].getsockname()
            session = loop.service().session
            session.region_bytes = session.inline_bytes = 256 * 1024
            self.assertTrue(all(await self.storm(address)))
            server.close()

        self.run_ours(main())


class Losses(LoopCase):
    """The daemon dies."""

    def test_transports_end_and_a_new_session_begins(self):
        async def main():
            loop = asyncio.get_running_loop()
            server = await asyncio.start_server(program.echo, "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hello")
            self.assertEqual(await reader.readexactly(5), b"hello")
            sock = await overlap.aio.open_socket()
            before = loop.service()
            self.daemon.kill()
            with self.assertRaises(ConnectionAbortedError):
                await reader.read()
            with self.assertRaises(OSError):
                await loop.sock_connect(sock, ("127.0.0.1", 1))
            with self.assertRaises(OSError):
                await asyncio.open_connection("127.0.0.1", 1)
            writer.close()
            server.close()
            self.daemon.start()
            server = await asyncio.start_server(program.echo, "127.0.0.1", 0)
            self.assertEqual(await talk(server.sockets[0].getsockname(), b"again"), b"again")
            server.close()
            self.assertIsNot(loop.service(), before)

        self.run_ours(main())


class Refusals(LoopCase):
    """What the policy does not allow is told with its rule."""

    def daemon_arguments(self):
        self.place = self.policy_of("[deny telnet]\nUser=*\nAction=connect\nTo=127.0.0.1\nPort=23\n")
        return "--policy", self.place

    def test_a_connect(self):
        async def main(address):
            with self.assertRaises(PermissionError) as caught:
                await asyncio.open_connection(*address)
            self.assertEqual(caught.exception.reason, overlap.Reason.DENIED)
            return str(caught.exception)

        self.assertIn(f"{self.place}/rules.conf:1: [deny telnet]", self.run_ours(main(("127.0.0.1", 23))))
        self.assertIn("no rule allows it", self.run_ours(main(("127.0.0.1", 24))))

    def test_a_name(self):
        async def main():
            with self.assertRaises(PermissionError) as caught:
                await asyncio.get_running_loop().getaddrinfo("refused.invalid", 80)
            return str(caught.exception)

        self.assertIn("no rule allows it", self.run_ours(main()))


class Growth(LoopCase):
    """What must not grow with the number of connections."""

    def test_nothing_is_left_of_a_connection(self):
        async def main():
            server = await asyncio.start_server(program.echo, "127.0.0.1", 0)
            address = server.sockets[0].getsockname()
            counts = []
            for _ in range(3):
                for _ in range(100):
                    await talk(address, b"x" * 1000)
                await asyncio.sleep(0.05)
                gc.collect()
                counts.append((len(gc.get_objects()), len(asyncio.get_running_loop().service().session.regions)))
            server.close()
            kinds = [kind for kind in gc.get_objects() if isinstance(kind, (Operation, overlap.aio.stream.StreamTransport))]
            self.assertLess(len(kinds), 40)
            self.assertLess(counts[2][0] - counts[1][0], 300, counts)
            self.assertEqual(counts[2][1], counts[0][1])

        self.run_ours(main())


for case in (Unchanged, Mixed, Sockets, Files, Shortages, Losses, Growth):
    name = f"{case.__name__}Inline"
    globals()[name] = type(name, (case,), {"level": 0, "__module__": __name__, "__doc__": f"{case.__doc__} At level 0."})
del case

if __name__ == "__main__":
    stage.main()
