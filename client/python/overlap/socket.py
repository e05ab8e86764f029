# SPDX-License-Identifier: Apache-2.0
"""Sockets of the session, and the operations on them.

Posting methods have in common: `routine`, called with the operation in an alertable wait of the posting thread once
it has ended (refused on a socket that has a port); `verdict`, to wait until it is known whether the operation was
refused (the method then raises), is done or is pending; `quiet`, nothing goes to the socket's port; `user`, kept in
the operation; `thread`, who posts: None is the thread that the calling thread owns. Without a verdict a refusal is
the operation's end. They raise OverlapError when the post itself is not possible: ENOBUFS (CREDITS, QUOTA), EMSGSIZE,
EFAULT, ECONNABORTED.

What is lent (a Buffer, or writable memory) belongs to the operation until it has ended.
"""

import errno
import math
import socket as _socket
from collections.abc import Callable, Sequence
from io import UnsupportedOperation
from os import fstat
from typing import TYPE_CHECKING, Any, BinaryIO, Unpack, TypedDict

from overlap import address as addresses
from overlap import wire
from overlap.blocking import BlockingSocket
from overlap.error import OverlapError, Reason, error
from overlap.file import UNFIT, File, Range
from overlap.ioctl import Ioctls
from overlap.items import ITEMS_SIZE, Items, items_to_wire
from overlap.operation import Operation, Routine
from overlap.options import Option
from overlap.post import Bytes, Post, ReceiveBuffers, SendBuffers
from overlap.region import Buffer

if TYPE_CHECKING:
    from overlap.port import Port
    from overlap.session import Session
    from overlap.thread import Thread


class Posting(TypedDict, total=False):
    """What all posting methods have in common."""

    routine: Routine | None
    verdict: bool
    quiet: bool
    user: Any
    thread: "Thread | None"


_SENDFILE_MAX = 1 << 30  # bytes that one operation of sendfile() sends
_DIRECTIONS = {_socket.SHUT_RD: 1, _socket.SHUT_WR: 2, _socket.SHUT_RDWR: 3}


class Socket(Ioctls):
    """A socket that the daemon owns. Made by Session.socket(), accept(), Session.adopt() and Session.join()."""

    def __init__(self, session: "Session", number: int, family: int, kind: int, *, listens: bool = False) -> None:
        self.session, self.id, self.listens = session, number, listens
        self.family, self.type = _socket.AddressFamily(family), _socket.SocketKind(kind)
        self.port: Port | None = None
        self.key = 0
        self.closed = False

    def __repr__(self) -> str:
        return f"<Socket {self.id:#x} {self.family.name} {self.type.name}{' closed' if self.closed else ''}>"

    def sibling(self, number: int) -> "Socket":
        """A socket of the same family and type, by its id."""
        return Socket(self.session, number, self.family, self.type)

    def _post(self, op: wire.Op, common: Posting) -> Post:
        thread = common.get("thread") or self.session.current()
        return Post(thread, self, op, common.get("routine"), verdict=common.get("verdict", False),
                    quiet=common.get("quiet", False), user=common.get("user"))

    def blocking(self, timeout: float | None = None) -> BlockingSocket:
        """The socket's operations as blocking calls. timeout: seconds; None: for ever; 0: non-blocking mode."""
        return BlockingSocket(self, timeout)

    # --- Operations -----------------------------------------------------------------------------------------------

    def connect(self, address: Any, data: SendBuffers = b"", **common: Unpack[Posting]) -> Operation:
        """Connects; sets the peer of a datagram socket.

        address: as Python's socket module has it, with a numeric host.
        data: of a stream, what is sent first once it is connected; as for send(), at level 0 at most 65,535 bytes.
        The record: bytes sent; or ECONNREFUSED, ETIMEDOUT, ENETUNREACH, EACCES (DENIED)..., after which the socket can
        be connected again. See connect(2), ConnectEx.
        """
        post = self._post(wire.Op.CONNECT, common)
        post.address = addresses.to_wire(self.family, address)
        if data:
            post.send(data)
        if post.operation.is_inline and post.operation.room > wire.INLINE_LEN_MAX:
            raise error(-errno.EMSGSIZE, Reason.BUFFER_TOO_LONG, f"{post.operation.room} bytes: at level 0 a connect "
                        f"sends at most {wire.INLINE_LEN_MAX}; send the rest when it is connected")
        return post.start()

    def connect_name(self, name: str, service: int | str, *, timeout: float | None = None,
                     **common: Unpack[Posting]) -> Operation:
        """Connects to a host by its name; sets the peer of a datagram socket. The daemon resolves the name and tries
        its addresses in their order, so that a program can reach what no rule lets it know.

        name: 1 to 253 bytes, or an address. service: the number of a port, or the name of a service.
        timeout: seconds after which it ends in any case, at least a millisecond; None, or infinite: never.
        The record: ECONNREFUSED and others, of the last address that was tried; ETIMEDOUT; ENOENT (NAME_NOT_FOUND,
        UNKNOWN_SERVICE), EAGAIN (NAME_TRY_AGAIN), EIO (NAME_FAILED); EACCES (DENIED): the policy refuses the name, or
        all that it stands for. The socket can then be connected again. See WSAConnectByName.
        """
        raw = name.encode()
        if not 0 < len(raw) <= wire.RESOLVE_NAME_MAX or b"\0" in raw:
            raise error(-errno.EINVAL, Reason.BAD_NAME, f"{name!r}: a name has 1 to {wire.RESOLVE_NAME_MAX} bytes")
        port = int(service) if isinstance(service, int) or service.isdecimal() else 0
        what = b"" if port else str(service).encode()
        # What has no letter the machine might take for a number, whatever its sign and size.
        if not 0 <= port <= 0xffff or len(what) > wire.SERVICE_NAME_MAX or (not port and what.lower() == what.upper()):
            raise error(-errno.EINVAL, Reason.BAD_NAME, f"{service!r}: neither a port (1 to 65535) nor the name of a "
                                                        "service")
        if timeout is None or timeout == math.inf:
            timeout_ms = 0
        elif timeout >= 0:
            timeout_ms = round(min(max(timeout * 1000, 1), 0xffffffff))
        else:
            raise error(-errno.EINVAL, 0, f"timeout {timeout!r}: must be a number of seconds, and not less than 0")
        post = self._post(wire.Op.CONNECT_NAME, common)
        post.other = port | timeout_ms << 32
        post.send(raw + b"\0" + what if what else raw)
        return post.start()

    def accept(self, buffers: ReceiveBuffers = 0, *, into: "Socket | None" = None, names: bool = False,
               dontwait: bool = False, **common: Unpack[Posting]) -> Operation:
        """Accepts a connection. Accepts are served in posting order.

        buffers: as for recv(): with room the operation ends with the first data, or at the end of the stream.
        into: a stream of this family that is neither bound nor connected, and that will be the connection. Until the
        operation has ended it can do nothing else; closing it ends the operation with ECANCELED.
        names: the record has the addresses of both ends in `local` and `address`.
        dontwait: it is done now, or ends with EAGAIN; not with room.
        The record: bytes received; result() is `into`, or a new Socket that belongs to the session. With an error a
        connection that was there is closed, and `into` is as it was. See accept(2), AcceptEx.
        """
        post = self._post(wire.Op.ACCEPT, common)
        post.op_flags = wire.MessageFlags.DONTWAIT * dontwait
        post.operation.into = into
        post.other = into.id if into else 0
        try:
            if buffers:
                post.receive(buffers, stream=True)
            if names:
                post.want_addresses(2)
        except BaseException:
            post.drop()
            raise
        return post.start()

    def disconnect(self, *, reuse: bool = False, **common: Unpack[Posting]) -> Operation:
        """Ends the stream behind the sends that were posted before; later ones are refused. Receives go on.

        reuse: the socket is then as new, under its id and with its port: neither bound nor connected, without options.
        What is pending on it ends with ECANCELED (REPLACED), and what was not received is lost.
        The record: status 0, or ECONNRESET and others (with `reuse` a broken connection is no error). See DisconnectEx.
        """
        post = self._post(wire.Op.DISCONNECT, common)
        post.op_flags = wire.TransmitFlags.REUSE * reuse
        return post.start()

    def recv(self, buffers: ReceiveBuffers, *, peek: bool = False, waitall: bool = False, oob: bool = False,
             dontwait: bool = False, **common: Unpack[Posting]) -> Operation:
        """Receives. Receives on one socket fill in posting order; each ends when any data has come.

        buffers: a Buffer or several, lent; writable memory, lent; or a number of bytes, and they are in `data` then.
        peek: the data stays in the socket. waitall: ends when the buffers are full. oob: of TCP, the urgent byte, for
        which it waits beside all other receives. dontwait: it is done now, or ends with EAGAIN.
        The record: bytes received; 0 at the end of a stream. A datagram that is too long fills the buffers and ends
        with EMSGSIZE. A receive of no bytes on a stream ends when data or the end is there, and takes nothing. See
        recv(2).
        """
        post = self._post(wire.Op.RECV, common)
        post.op_flags = (wire.MessageFlags.PEEK * peek | wire.MessageFlags.WAITALL * waitall
                         | wire.MessageFlags.OOB * oob | wire.MessageFlags.DONTWAIT * dontwait)
        return self._receive(post, buffers)

    def recvfrom(self, buffers: ReceiveBuffers, *, peek: bool = False, dontwait: bool = False,
                 **common: Unpack[Posting]) -> Operation:
        """Receives one datagram: as recv(), and the record has the sender in `address`. See recvfrom(2)."""
        post = self._post(wire.Op.RECVFROM, common)
        post.op_flags = wire.MessageFlags.PEEK * peek | wire.MessageFlags.DONTWAIT * dontwait
        return self._receive(post, buffers, wire.ADDRESS_SIZE)

    def recvmsg(self, buffers: ReceiveBuffers, room: int = ITEMS_SIZE, *, peek: bool = False,
                **common: Unpack[Posting]) -> Operation:
        """Receives one datagram with all that comes with it: as recvfrom(), and the record has `items` and `received`.

        room: bytes of the place for items, of which the options RECV_PACKET_INFO, RECV_HOP_LIMIT and RECV_TRAFFIC_CLASS
        say which are wanted. The default is enough for all.
        The record: also EMSGSIZE with CONTROL_TRUNCATED, where the items were longer; the datagram is complete then.
        See recvmsg(2), WSARecvMsg.
        """
        post = self._post(wire.Op.RECVMSG, common)
        post.op_flags = wire.MessageFlags.PEEK * peek
        return self._receive(post, buffers, wire.MESSAGE.size + min(max(room, 0), wire.CONTROL_LEN_MAX))

    def _receive(self, post: Post, buffers: ReceiveBuffers, beside: int = 0) -> Operation:
        """beside: bytes that come beside those of the buffers."""
        try:
            post.receive(buffers, self.type == _socket.SOCK_STREAM)
            if beside:
                post.want(beside)
        except BaseException:
            post.drop()
            raise
        return post.start()

    def send(self, data: SendBuffers, *, oob: bool = False, dontroute: bool = False, dontwait: bool = False,
             **common: Unpack[Posting]) -> Operation:
        """Sends all of the bytes, or ends with an error. Sends on one socket leave in posting order.

        data: a Buffer or several, lent until the end; or bytes-like, copied now. oob: the last byte is urgent, on TCP.
        dontroute: only to hosts of the networks that the machine is in. dontwait: ends with EAGAIN where it would have
        to wait before the first byte leaves; from then on it is like any other.
        The record: bytes sent; after a cancel, how many had left. See send(2).
        """
        post = self._post(wire.Op.SEND, common)
        post.op_flags = (wire.MessageFlags.OOB * oob | wire.MessageFlags.DONTROUTE * dontroute
                         | wire.MessageFlags.DONTWAIT * dontwait)
        post.send(data)
        return post.start()

    def sendto(self, data: SendBuffers, address: Any, *, dontroute: bool = False, dontwait: bool = False,
               **common: Unpack[Posting]) -> Operation:
        """Sends one datagram to an address: else as send(). See sendto(2)."""
        post = self._post(wire.Op.SENDTO, common)
        post.op_flags = wire.MessageFlags.DONTROUTE * dontroute | wire.MessageFlags.DONTWAIT * dontwait
        post.address = addresses.to_wire(self.family, address)
        post.send(data)
        return post.start()

    def sendmsg(self, data: SendBuffers, items: Items = Items(), address: Any = None, *, dontroute: bool = False,
                dontwait: bool = False, **common: Unpack[Posting]) -> Operation:
        """Sends one datagram with items, which count for it alone: else as sendto().

        address: None: to the peer. See sendmsg(2), WSASendMsg.
        """
        post = self._post(wire.Op.SENDMSG, common)
        post.op_flags = wire.MessageFlags.DONTROUTE * dontroute | wire.MessageFlags.DONTWAIT * dontwait
        if address is not None:
            post.address = addresses.to_wire(self.family, address)
        raw = items_to_wire(self.family, items)
        try:
            post.send(data)
            post.send_items(raw)
        except BaseException:
            post.drop()
            raise
        return post.start()

    def poll(self, events: wire.Poll = wire.Poll.IN, **common: Unpack[Posting]) -> Operation:
        """Waits for events, and takes nothing. The record: result() is what is there; ERROR and HUP always count."""
        post = self._post(wire.Op.POLL, common)
        post.other = int(events)
        return post.start()

    def sendall(self, data: bytes | bytearray | memoryview) -> None:
        """Sends, in as many operations as it takes, one after the other, and waits. Raises OverlapError."""
        view = memoryview(data).cast("B")
        for at in range(0, len(view), wire.INLINE_OP_LEN_MAX):
            self.send(view[at:at + wire.INLINE_OP_LEN_MAX]).finish()

    def transmit(self, file: File | None, offset: int = 0, count: int = 0, *, head: Bytes | Buffer = b"",
                 tail: Bytes | Buffer = b"", disconnect: bool = False, reuse: bool = False,
                 **common: Unpack[Posting]) -> Operation:
        """Sends a file on a stream, which the daemon reads, between a head and a tail.

        file: of Session.file(); None: only head and tail are sent. offset, count: bytes of it; 0: all to its end.
        head, tail: a Buffer, lent until the end; or bytes-like, copied now: at most 1 MiB together.
        disconnect: the end of the stream follows. reuse: and the socket is as new after that.
        The record: bytes sent, of all three. ENODATA (FILE_TOO_SHORT), EIO (FILE_UNREADABLE), EMSGSIZE: see
        docs/PROTOCOL.md. Raises OverlapError (EOPNOTSUPP, LEVEL) at level 0.
        """
        post = self._post(wire.Op.TRANSMIT_FILE, common)
        return self._transmit(post, disconnect, reuse, lambda: post.transmit(file, Range(offset, count), head, tail))

    def transmit_packets(self, packets: Sequence[Sequence[Bytes | Buffer | Range]], file: File | None = None, *,
                         disconnect: bool = False, reuse: bool = False, **common: Unpack[Posting]) -> Operation:
        """Sends memory and ranges of a file: on a datagram socket that is connected each packet as one datagram.

        packets: each is a sequence of parts, 64 in all: a Buffer, lent; bytes-like, copied; or a Range of the file.
        file: of Session.file(). disconnect, reuse: as transmit(), on a stream.
        The record: bytes sent. Raises and fails as transmit().
        """
        post = self._post(wire.Op.TRANSMIT_PACKETS, common)
        return self._transmit(post, disconnect, reuse, lambda: post.transmit_packets(file, packets))

    @staticmethod
    def _transmit(post: Post, disconnect: bool, reuse: bool, describe: Callable[[], None]) -> Operation:
        post.op_flags = wire.TransmitFlags.DISCONNECT * disconnect | wire.TransmitFlags.REUSE * reuse
        try:
            describe()
        except BaseException:
            post.drop()
            raise
        return post.start()

    def sendfile(self, file: BinaryIO, offset: int = 0, count: int | None = None) -> int:
        """Sends a file until its end, or `count` bytes of it, and waits: as socket.sendfile(), and for the same files.

        The daemon reads it, where it can: what is no regular file that is open for reading only, and every file at
        level 0, is read here. Returns the bytes that were sent; the file's position is behind them, also after an
        error. Raises OverlapError.
        """
        if self.type != _socket.SOCK_STREAM:
            raise ValueError("only SOCK_STREAM type sockets are supported")
        if count is not None and count <= 0:
            raise ValueError(f"count must be a positive integer (got {count!r})")
        try:
            lent = self.session.file(file)
        except (OverlapError, AttributeError, UnsupportedOperation) as failure:
            if isinstance(failure, OverlapError) and failure.reason not in UNFIT:
                raise
            return self._sendfile_read(file, offset, count)
        with lent:
            return self._sendfile_lent(lent, file, offset, count)

    def _sendfile_lent(self, lent: File, file: BinaryIO, offset: int, count: int | None) -> int:
        sent = 0
        try:
            while count is None or sent < count:
                left = max(fstat(file.fileno()).st_size - offset - sent, 0)
                step = min(left, _SENDFILE_MAX, left if count is None else count - sent)
                if step == 0:
                    break
                operation = self.transmit(lent, offset + sent, step)
                operation.wait()
                sent += operation.bytes
                operation.result()
        finally:
            file.seek(offset + sent)
        return sent

    def _sendfile_read(self, file: BinaryIO, offset: int, count: int | None) -> int:
        sent = 0
        if offset:
            file.seek(offset)
        try:
            while count is None or sent < count:
                data = file.read(min(wire.INLINE_OP_LEN_MAX, wire.INLINE_OP_LEN_MAX if count is None else count - sent))
                if not data:
                    break
                self.sendall(data)
                sent += len(data)
        finally:
            if hasattr(file, "seek"):
                file.seek(offset + sent)
        return sent

    def cancel(self) -> int:
        """Cancels everything on this socket, and waits until it has ended, whichever way.

        Returns how many ended by that. Raises OverlapError (ENOENT, NOT_FOUND) when nothing was pending.
        """
        reply = self.session.request("cancel", {"socket": self.id, "all": True})
        count: int = reply.get("cancel", {}).get("cancelled", 0)
        return count

    # --- Requests -------------------------------------------------------------------------------------------------

    def bind(self, address: Any) -> None:
        """Binds. Raises OverlapError: EADDRINUSE, EADDRNOTAVAIL, EACCES, EINVAL (BAD_ADDRESS and others)."""
        self.session.request("socket_bind", {"socket": self.id, "address": addresses.to_message(self.family, address)})

    def listen(self, backlog: int = 128) -> None:
        """Listens. Raises OverlapError: EINVAL (OUT_OF_ORDER: not bound), EADDRINUSE."""
        self.session.request("socket_listen", {"socket": self.id, "backlog": backlog})
        self.listens = True

    def _name(self, peer: bool) -> Any:
        reply = self.session.request("socket_name", {"socket": self.id, "peer": peer})
        return addresses.from_message(reply.get("socket_name", {}).get("address", {}))

    def getsockname(self) -> Any:
        """The local address."""
        return self._name(False)

    def getpeername(self) -> Any:
        """The peer's address. Raises OverlapError (ENOTCONN)."""
        return self._name(True)

    def set_option(self, option: Option, value: int) -> None:
        """Sets an option. Raises OverlapError: ENOPROTOOPT, EINVAL."""
        self.session.request("socket_option_set", {"socket": self.id, "option": int(option), "value": int(value)})

    def get_option(self, option: Option) -> int:
        """The value of an option."""
        reply = self.session.request("socket_option_get", {"socket": self.id, "option": int(option)})
        value: int = reply.get("socket_option", {}).get("value", 0)
        return value

    def shutdown(self, how: int) -> None:
        """Shuts down one direction or both: SHUT_RD, SHUT_WR, SHUT_RDWR. Sends that are queued leave first.

        Raises OverlapError: ENOTCONN, EINVAL.
        """
        self.session.request("socket_shutdown", {"socket": self.id, "direction": _DIRECTIONS.get(how, 0)})

    def share(self, session: int) -> bytes:
        """Makes a ticket with which another session of the same user and unit joins this socket, once.

        session: its public number. Returns 16 bytes, for its Session.join(). Raises OverlapError: ESRCH, EDQUOT.
        """
        ticket: bytes = self.session.request("socket_share", {"socket": self.id, "session": session}).get(
            "socket_share", {}).get("ticket", b"")
        return ticket

    def export(self) -> _socket.socket:
        """Ends the socket's life in the daemon and gives it to the program, as an ordinary socket in blocking mode.

        Sends that are queued leave first, all else that is pending ends with ECANCELED (EXPORTED).
        """
        reply = self.session.request("socket_export", {"socket": self.id}, wants_fd=True)
        self.closed = True
        if "fd" not in reply:
            raise error(-errno.EPROTO, 0, "the daemon's reply came without the descriptor")
        return _socket.socket(fileno=reply["fd"])

    def close(self) -> None:
        """Closes the socket. Pending operations end with ECANCELED (CLOSED), or with what they had come to, and are
        indicated before this returns where they wait for the calling thread. Closing twice is fine.

        While another session has the socket open, what this one has posted goes on instead, can still be cancelled, and
        is indicated when it ends.
        """
        if self.closed or self.session.closed or self.session.lost:
            self.closed = True
            return
        self.closed = True
        self.session.request("socket_close", {"socket": self.id})

    def __enter__(self) -> "Socket":
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()
