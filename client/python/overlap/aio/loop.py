# SPDX-License-Identifier: Apache-2.0
# asyncio's inner names have no types, and some that have are wrong in older versions of them.
# mypy: disable-error-code="override,misc,attr-defined,no-any-return,return-value,func-returns-value,arg-type"
"""The event loop: asyncio's own, with the daemon where the kernel's network sockets were.

It is asyncio's loop on a selector, so timers, signals, pipes, processes and executors are untouched. What is replaced
are the few places in which asyncio makes a socket or a transport of one: `_connect_sock`, `_make_socket_transport`,
`_make_ssl_transport`, `_make_datagram_transport`, `_start_serving`, `_stop_serving`. They are no public interface,
but TLS, happy eyeballs and Server come with them unchanged; tests/python/loops.py runs the same programs under both
loops, and so tells at once when an asyncio has other places. Rejected: to write all of that anew, which would differ
in details that nobody has written down.

The session is opened when the first socket is wanted, and again when one is wanted after the daemon was lost.
"""

import asyncio
import errno
import itertools
import os
import socket
from asyncio import base_events, constants, exceptions, sslproto
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from overlap.aio.datagram import DatagramTransport
from overlap.aio.listener import Listener
from overlap.aio.service import Service
from overlap.aio.file import send_file
from overlap.aio.sock import Socket
from overlap.aio.stream import StreamTransport
from overlap.error import OverlapError, Reason, error
from overlap.operation import Operation
from overlap.socket import Socket as DaemonSocket

T = TypeVar("T")
_RESOLVED = {Reason.NAME_NOT_FOUND: socket.EAI_NONAME, Reason.BAD_NAME: socket.EAI_NONAME,
             Reason.NAME_TRY_AGAIN: socket.EAI_AGAIN, Reason.NAME_FAILED: socket.EAI_FAIL,
             Reason.UNKNOWN_SERVICE: socket.EAI_SERVICE}
_KINDS = ((socket.SOCK_STREAM, socket.IPPROTO_TCP), (socket.SOCK_DGRAM, socket.IPPROTO_UDP))


def _is_name(host: str) -> bool:
    """Whether a host is one, and no address or nothing."""
    try:
        socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        return bool(host)
    return False


def _check_resolved(operation: Operation, name: str) -> None:
    """Raises what getaddrinfo() does where an operation ended because of a name."""
    if operation.reason in _RESOLVED:
        reason = Reason(operation.reason)
        raise socket.gaierror(_RESOLVED[reason], f"{name}: {reason.text}") from operation.failure()


class EventLoop(asyncio.SelectorEventLoop):
    """An event loop whose network sockets belong to the daemon."""

    def __init__(self, path: str | os.PathLike[str] | None = None, *, level: int = 1) -> None:
        """path, level: as for overlap.Session."""
        super().__init__()
        self._overlap_path, self._overlap_level = path, level
        self._overlap_service: Service | None = None

    def service(self) -> Service:
        """The session of this loop; opened when there is none. Raises OverlapError."""
        if self._overlap_service is None or self._overlap_service.session.lost:
            if self._overlap_service is not None:
                self._overlap_service.ready()
                self._overlap_service.close()
            self._overlap_service = Service(self, self._overlap_path, self._overlap_level)
        return self._overlap_service

    def close(self) -> None:
        """Ends the session, and closes the loop."""
        if self._overlap_service is not None and not self.is_closed() and not self.is_running():
            self._overlap_service.close()
        super().close()

    # --- Sockets --------------------------------------------------------------------------------------------------

    async def open_socket(self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM) -> Socket:
        """A socket of the daemon. family: AF_INET, AF_INET6 or AF_UNIX. kind: SOCK_STREAM or SOCK_DGRAM."""
        service = self.service()

        def made(reply: dict[str, Any]) -> DaemonSocket:
            return DaemonSocket(service.session, reply.get("socket_open", {}).get("socket", 0), family, kind)

        reply = await service.request("socket_open", {"family": int(family), "type": int(kind)},
                                      lambda reply: service.forget(made(reply)))
        return Socket(service, made(reply))

    async def _bind(self, sock: Socket, address: Any) -> None:
        from overlap import address as addresses

        try:
            await sock.service.request("socket_bind", {
                "socket": sock.daemon.id, "address": addresses.to_message(sock.family, address)})
        except OverlapError as failure:
            text = f"error while attempting to bind on address {address!r}: {failure.text}"
            raise OSError(failure.errno, text) from None

    async def _connect_sock(self, exceptions: list[list[OSError]], addr_info: Any,
                            local_addr_infos: Any = None) -> Socket:
        mine: list[OSError] = []
        exceptions.append(mine)
        family, kind, _, _, address = addr_info
        sock = None
        try:
            sock = await self.open_socket(family, kind)
            if local_addr_infos is not None:
                await self._bind_one(sock, local_addr_infos, mine)
            await self.sock_connect(sock, address)
            return sock
        except BaseException as failure:
            if sock is not None:
                sock.close()
            if isinstance(failure, OSError):
                mine.append(failure)
            raise

    async def _bind_one(self, sock: Socket, infos: Any, failures: list[OSError]) -> None:
        """Binds to the first of the local addresses that is possible."""
        for family, _, _, _, address in infos:
            if family == sock.family:
                try:
                    await self._bind(sock, address)
                    return
                except OSError as failure:
                    failures.append(failure)
        raise failures.pop() if failures else OSError(f"no local address of family {sock.family!r} was given")

    # --- sock_* ---------------------------------------------------------------------------------------------------

    async def sock_recv(self, sock: Any, nbytes: int) -> bytes:
        """Receives up to nbytes. A cancelled call loses nothing: the next one gets it."""
        if not isinstance(sock, Socket):
            return await super().sock_recv(sock, nbytes)
        if not sock.unread:
            def salvage(operation: Operation) -> None:
                if operation.bytes and operation.data and sock.type == socket.SOCK_STREAM:
                    sock.unread += operation.data

            operation = await sock.service.operate(
                lambda routine: sock.daemon.recv(nbytes, routine=routine, thread=sock.service.thread), salvage)
            operation.result()
            return operation.data or b""
        data = bytes(sock.unread[:nbytes])
        del sock.unread[:nbytes]
        return data

    async def sock_recv_into(self, sock: Any, buf: Any) -> int:
        """Receives into a buffer. Returns the number of bytes."""
        if not isinstance(sock, Socket):
            return await super().sock_recv_into(sock, buf)
        view = memoryview(buf).cast("B")
        data = await self.sock_recv(sock, len(view))
        view[:len(data)] = data
        return len(data)

    async def sock_recvfrom(self, sock: Any, bufsize: int) -> tuple[bytes, Any]:
        """Receives one datagram and its sender."""
        if not isinstance(sock, Socket):
            return await super().sock_recvfrom(sock, bufsize)
        operation = await sock.service.operate(
            lambda routine: sock.daemon.recvfrom(bufsize, routine=routine, thread=sock.service.thread))
        if operation.status != -errno.EMSGSIZE:  # the kernel's sockets cut a datagram without a word, too
            operation.result()
        return operation.data or b"", operation.address

    async def sock_recvfrom_into(self, sock: Any, buf: Any, nbytes: int = 0) -> tuple[int, Any]:
        """Receives one datagram into a buffer."""
        if not isinstance(sock, Socket):
            return await super().sock_recvfrom_into(sock, buf, nbytes)
        view = memoryview(buf).cast("B")
        data, address = await self.sock_recvfrom(sock, nbytes or len(view))
        view[:len(data)] = data
        return len(data), address

    async def sock_sendall(self, sock: Any, data: Any) -> None:
        """Sends everything."""
        if not isinstance(sock, Socket):
            return await super().sock_sendall(sock, data)
        view = memoryview(data).cast("B")
        for at in range(0, len(view), 1 << 18):
            piece = view[at:at + (1 << 18)]
            operation = await sock.service.operate(
                lambda routine, piece=piece: sock.daemon.send(piece, routine=routine, thread=sock.service.thread))
            operation.result()
        return None

    async def sock_sendto(self, sock: Any, data: Any, address: Any) -> int:
        """Sends one datagram. Returns the number of bytes."""
        if not isinstance(sock, Socket):
            return await super().sock_sendto(sock, data, address)
        operation = await sock.service.operate(
            lambda routine: sock.daemon.sendto(data, address, routine=routine, thread=sock.service.thread))
        n_bytes: int = operation.result()
        return n_bytes

    async def sock_connect(self, sock: Any, address: Any) -> None:
        """Connects. A host name is connected to as such: the daemon tries its addresses, by rules about the name."""
        if not isinstance(sock, Socket):
            return await super().sock_connect(sock, address)
        if sock.family != socket.AF_UNIX and _is_name(address[0]):
            host, service = address[:2]
            operation = await sock.service.operate(lambda routine: sock.daemon.connect_name(
                host, service, routine=routine, thread=sock.service.thread))
            _check_resolved(operation, host)
        else:
            if sock.family != socket.AF_UNIX:
                infos = await self._ensure_resolved(
                    address, family=sock.family, type=sock.type, proto=sock.proto, loop=self)
                address = infos[0][4]
            operation = await sock.service.operate(
                lambda routine: sock.daemon.connect(address, routine=routine, thread=sock.service.thread))
        if failure := await sock.service.explained(operation):
            raise error(operation.status, operation.reason, f"Connect call failed {address}: {failure.text}")
        sock.peername = None
        await sock.learn_names()
        return None

    async def sock_accept(self, sock: Any) -> tuple[Any, Any]:
        """Accepts a connection. A cancelled call loses none."""
        if not isinstance(sock, Socket):
            return await super().sock_accept(sock)

        def salvage(operation: Operation) -> None:
            if operation.accepted is not None:
                sock.accepted.append(Socket(sock.service, operation.accepted))

        if sock.accepted:
            connection = sock.accepted.pop(0)
        else:
            operation = await sock.service.operate(
                lambda routine: sock.daemon.accept(routine=routine, thread=sock.service.thread), salvage)
            connection = Socket(sock.service, operation.result())
        try:
            await connection.learn_names()
        except asyncio.CancelledError:
            sock.accepted.insert(0, connection)
            raise
        return connection, connection.peername

    async def _sock_sendfile_native(self, sock: Any, file: Any, offset: int, count: int | None) -> int:
        if not isinstance(sock, Socket):
            sent: int = await super()._sock_sendfile_native(sock, file, offset, count)
            return sent
        return await send_file(sock, file, offset, count)

    async def _sendfile_native(self, transp: Any, file: Any, offset: int, count: int | None) -> int:
        if not isinstance(transp, StreamTransport):
            sent: int = await super()._sendfile_native(transp, file, offset, count)
            return sent
        return await transp.send_file(file, offset, count)

    # --- Transports -----------------------------------------------------------------------------------------------

    def _make_socket_transport(self, sock: Any, protocol: Any, waiter: Any = None, *,
                               extra: Any = None, server: Any = None) -> Any:
        if isinstance(sock, Socket):
            return StreamTransport(self, sock, protocol, waiter, extra, server)
        return super()._make_socket_transport(sock, protocol, waiter, extra=extra, server=server)

    def _make_ssl_transport(self, rawsock: Any, protocol: Any, sslcontext: Any,
                            waiter: Any = None, *, server_side: bool = False, server_hostname: Any = None,
                            extra: Any = None, server: Any = None, **timeouts: Any) -> Any:
        if not isinstance(rawsock, Socket):
            return super()._make_ssl_transport(
                rawsock, protocol, sslcontext, waiter, server_side=server_side, server_hostname=server_hostname,
                extra=extra, server=server, **timeouts)
        tls = sslproto.SSLProtocol(self, protocol, sslcontext, waiter, server_side, server_hostname, **timeouts)
        StreamTransport(self, rawsock, tls, None, extra, server)
        return tls._app_transport

    def _make_datagram_transport(self, sock: Any, protocol: Any, address: Any = None,
                                 waiter: Any = None, extra: Any = None) -> Any:
        if isinstance(sock, Socket):
            return DatagramTransport(self, sock, protocol, address, waiter, extra)
        return super()._make_datagram_transport(sock, protocol, address, waiter, extra)

    # --- Servers --------------------------------------------------------------------------------------------------

    def _start_serving(self, protocol_factory: Any, sock: Any, sslcontext: Any = None,
                       server: Any = None, backlog: int = 100,
                       ssl_handshake_timeout: float | None = constants.SSL_HANDSHAKE_TIMEOUT,
                       ssl_shutdown_timeout: float | None = constants.SSL_SHUTDOWN_TIMEOUT) -> None:
        if not isinstance(sock, Socket):
            super()._start_serving(
                protocol_factory, sock, sslcontext, server, backlog, ssl_handshake_timeout, ssl_shutdown_timeout)
            return

        def serve(connection: Socket) -> Coroutine[Any, Any, None]:
            extra = {"peername": connection.peername}
            return self._accept_connection2(
                protocol_factory, connection, extra, sslcontext, server, ssl_handshake_timeout, ssl_shutdown_timeout)

        Listener(self, sock, serve)

    def _stop_serving(self, sock: Any) -> None:
        if isinstance(sock, Socket):
            sock.close()
        else:
            super()._stop_serving(sock)

    async def create_server(self, protocol_factory: Any, host: Any = None, port: Any = None, *,
                            family: int = socket.AF_UNSPEC, flags: int = socket.AI_PASSIVE, sock: Any = None,
                            backlog: int = 100, reuse_address: bool | None = None, reuse_port: bool | None = None,
                            start_serving: bool = True, **tls: Any) -> Any:
        """See asyncio. host: a host, several, or None or "" for all addresses."""
        if sock is not None or (host is None and port is None):
            return await super().create_server(protocol_factory, host, port, sock=sock, backlog=backlog,
                                               start_serving=start_serving, **tls)
        if isinstance(tls.get("ssl"), bool):
            raise TypeError("ssl argument must be an SSLContext or None")
        if tls.get("ssl") is None and any(value is not None for value in tls.values()):
            raise ValueError("ssl_handshake_timeout and ssl_shutdown_timeout are only meaningful with ssl")
        hosts: Iterable[Any] = [None] if host == "" else [host] if host is None or isinstance(host, str) else host
        infos = await asyncio.gather(*(self.getaddrinfo(each, port, family=family, type=socket.SOCK_STREAM, flags=flags)
                                       for each in hosts))
        sockets: list[Socket] = []
        try:
            for family_, _, _, _, address in dict.fromkeys(itertools.chain.from_iterable(infos)):
                sockets.append(await self._listening(family_, address, reuse_address is not False, bool(reuse_port)))
            server = base_events.Server(self, sockets, protocol_factory, tls.get("ssl"), backlog,
                                        tls.get("ssl_handshake_timeout"), tls.get("ssl_shutdown_timeout"))
            if start_serving:
                await server.start_serving()
            return server
        except BaseException:
            for each in sockets:
                each.close()
            raise

    async def _listening(self, family: int, address: Any, reuse_address: bool, reuse_port: bool) -> Socket:
        """A socket that is bound and may listen."""
        sock = await self.open_socket(family, socket.SOCK_STREAM)
        try:
            if reuse_address:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            await self._bind(sock, address)
        except BaseException:
            sock.close()
            raise
        return sock

    # --- Datagrams ------------------------------------------------------------------------------------------------

    async def create_datagram_endpoint(self, protocol_factory: Any, local_addr: Any = None,
                                       remote_addr: Any = None, *, family: int = 0, proto: int = 0, flags: int = 0,
                                       reuse_port: bool | None = None, allow_broadcast: bool | None = None,
                                       sock: Any = None) -> Any:
        """See asyncio."""
        if sock is not None or family == socket.AF_UNIX:
            return await super().create_datagram_endpoint(
                protocol_factory, local_addr, remote_addr, family=family, proto=proto, flags=flags,
                reuse_port=reuse_port, allow_broadcast=allow_broadcast, sock=sock)
        failures: list[OSError] = []
        for family_, local, remote in await self._datagram_pairs(local_addr, remote_addr, family, flags):
            try:
                made = await self._datagram_socket(family_, local, remote, bool(reuse_port), bool(allow_broadcast))
                break
            except OSError as failure:
                failures.append(failure)
        else:
            raise failures[0] if failures else ValueError("can not get address information")
        protocol, waiter = protocol_factory(), self.create_future()
        transport = DatagramTransport(self, made, protocol, remote_addr and made.remote, waiter)
        try:
            await waiter
        except BaseException:
            transport.close()
            raise
        return transport, protocol

    async def _datagram_pairs(self, local: Any, remote: Any, family: int, flags: int) -> list[tuple[int, Any, Any]]:
        """By family, the local and the remote address, of those families that have what was asked for."""
        if not local and not remote:
            if family == 0:
                raise ValueError("unexpected address family")
            return [(family, None, None)]
        found: list[dict[int, Any]] = [{}, {}]
        for index, address in enumerate((local, remote)):
            if address is not None:
                if not (isinstance(address, tuple) and len(address) == 2):
                    raise TypeError("2-tuple is expected")
                for info in await self._ensure_resolved(
                        address, family=family, type=socket.SOCK_DGRAM, flags=flags, loop=self):
                    found[index].setdefault(info[0], info[4])
        return [(each, found[0].get(each), found[1].get(each)) for each in dict.fromkeys([*found[0], *found[1]])
                if (local is None or each in found[0]) and (remote is None or each in found[1])]

    async def _datagram_socket(self, family: int, local: Any, remote: Any, reuse_port: bool, broadcast: bool) -> Socket:
        sock = await self.open_socket(family, socket.SOCK_DGRAM)
        try:
            if reuse_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if broadcast:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            if local is not None or remote is None or broadcast:
                await self._bind(sock, local or ("" if family == socket.AF_INET else "::", 0))
            if remote is not None and not broadcast:
                await self.sock_connect(sock, remote)
            else:
                await sock.learn_names()
            sock.remote = remote
        except BaseException:
            sock.close()
            raise
        return sock

    # --- Names ----------------------------------------------------------------------------------------------------

    async def getaddrinfo(self, host: Any, port: Any, *, family: int = 0, type: int = 0, proto: int = 0,
                          flags: int = 0) -> list[tuple[Any, Any, int, str, Any]]:
        """See socket.getaddrinfo(). What is numeric is read here; the daemon resolves the rest."""
        try:
            return socket.getaddrinfo(host, port, family, type, proto, flags | socket.AI_NUMERICHOST)
        except socket.gaierror as failure:
            if not host or flags & socket.AI_NUMERICHOST or failure.errno != socket.EAI_NONAME:
                raise
        name = host.decode() if isinstance(host, bytes) else str(host)
        is_number = not port or not isinstance(port, str) or port.isdecimal()
        number = int(port or 0) if is_number else socket.getservbyname(port)
        addresses = await self._resolve(name, number, family)
        return [(socket.AddressFamily(each), kind, protocol, "", address) for each, address in addresses
                for kind, protocol in _KINDS if type in (0, kind) and proto in (0, protocol)]

    async def _resolve(self, name: str, port: int, family: int) -> list[tuple[int, Any]]:
        service = self.service()
        operation = await service.operate(lambda routine: service.session.resolve_start(
            name, port, family=family, kind=socket.SOCK_STREAM, routine=routine, thread=service.thread))
        if operation.status == 0:
            return operation.addresses
        if operation.status == -errno.EOPNOTSUPP and name == "localhost":
            loopback = [(int(socket.AF_INET), ("127.0.0.1", port)), (int(socket.AF_INET6), ("::1", port, 0, 0))]
            return [pair for pair in loopback if family in (0, pair[0])]
        if operation.status == -errno.EOPNOTSUPP:
            raise socket.gaierror(socket.EAI_NONAME, f"{name}: this daemon does not resolve names: give an address")
        _check_resolved(operation, name)
        failure = await service.explained(operation)
        raise failure or socket.gaierror(socket.EAI_FAIL, name)


class EventLoopPolicy(asyncio.DefaultEventLoopPolicy):
    """Makes loops whose network sockets belong to the daemon."""

    def __init__(self, path: str | os.PathLike[str] | None = None, *, level: int = 1) -> None:
        """path, level: as for overlap.Session."""
        super().__init__()
        self._overlap_path, self._overlap_level = path, level

    def _loop_factory(self) -> EventLoop:
        return EventLoop(self._overlap_path, level=self._overlap_level)


def run(main: Coroutine[Any, Any, T], *, debug: bool | None = None, path: str | os.PathLike[str] | None = None,
        level: int = 1) -> T:
    """asyncio.run() on sockets of the daemon. path, level: as for overlap.Session."""
    with asyncio.Runner(debug=debug, loop_factory=lambda: EventLoop(path, level=level)) as runner:
        return runner.run(main)


async def open_socket(family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM) -> Socket:
    """A socket of the daemon for loop.sock_*(). Raises RuntimeError when the running loop has none to give."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, EventLoop):
        raise RuntimeError("the running loop is not overlap.aio's: start the program with overlap.aio.run()")
    return await loop.open_socket(family, kind)
