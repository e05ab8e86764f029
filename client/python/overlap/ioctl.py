# SPDX-License-Identifier: Apache-2.0
"""Ioctls of a socket: what is asked of it, or of the machine's addresses and routes through it.

They have no place in the order of other operations. What they come to is Operation.result(), as each method says; what
they have in common with other posting methods is in socket.py.
"""

import errno
from typing import TYPE_CHECKING, Any, Unpack

from overlap import address as addresses
from overlap import wire
from overlap.error import Reason, error
from overlap.operation import Operation
from overlap.post import Post

if TYPE_CHECKING:
    from overlap.socket import Posting


def _milliseconds(seconds: float, what: str) -> int:
    milliseconds = round(seconds * 1000)
    if not 0 < milliseconds <= wire.KEEP_ALIVE_MS_MAX:
        raise error(-errno.EINVAL, Reason.BAD_INPUT, f"{what} of {seconds} seconds: there are 0.001 to "
                                                     f"{wire.KEEP_ALIVE_MS_MAX // 1000}")
    return milliseconds


class Ioctls:
    """The part of a socket that has them."""

    family: int

    def _post(self, op: wire.Op, common: "Posting") -> Post:
        raise NotImplementedError

    def _ioctl(self, code: wire.Ioctl, common: "Posting", data: bytes = b"") -> Post:
        post = self._post(wire.Op.IOCTL, common)
        post.operation.ioctl, post.other = code, int(code)
        post.send(data)
        return post

    def address_list_change(self, **common: "Unpack[Posting]") -> Operation:
        """Waits for the first change of the machine's addresses of the socket's family: one came or went.

        With a verdict, changes count from the return of this method on. For the next change it is posted again.
        The record: result() is None. EOPNOTSUPP (not an IPv4 or IPv6 socket), ENOBUFS (QUOTA), NOT_WATCHED.
        """
        return self._ioctl(wire.Ioctl.ADDRESS_LIST_CHANGE, common).start()

    def route_change(self, address: Any, **common: "Unpack[Posting]") -> Operation:
        """Waits for the first change of the route to an address: another interface or source address leads there, or
        none does. Its port does not count. Else as address_list_change()."""
        post = self._ioctl(wire.Ioctl.ROUTING_INTERFACE_CHANGE, common)
        post.address = addresses.to_wire(self.family, address)
        return post.start()

    def route_query(self, address: Any, **common: "Unpack[Posting]") -> Operation:
        """Asks what leads to an address. Its port does not count.

        The record: result() is the number of the interface, and the address that the machine has there. ENETUNREACH.
        """
        post = self._ioctl(wire.Ioctl.ROUTING_INTERFACE_QUERY, common)
        post.address = addresses.to_wire(self.family, address)
        post.want(wire.ADDRESS_SIZE)
        return post.start()

    def interface_list(self, maximum: int = 64, **common: "Unpack[Posting]") -> Operation:
        """Asks for the machine's addresses of the socket's family, with their interfaces.

        maximum: how many there is room for, 1 to 256.
        The record: result() is a list of Interface. ERANGE (OUTPUT_TOO_SMALL): `value` says how many there are.
        """
        if maximum < 1:
            raise error(-errno.EFAULT, Reason.OUTPUT_TOO_SMALL, f"room for {maximum} interfaces: there is 1 at least")
        post = self._ioctl(wire.Ioctl.INTERFACE_LIST, common)
        post.want(min(maximum, wire.INTERFACES_MAX) * wire.INTERFACE.size)
        return post.start()

    def keep_alive(self, idle: float | None, interval: float = 1, **common: "Unpack[Posting]") -> Operation:
        """Sets after how many seconds of silence TCP probes a connection, and how many are between probes; both are
        rounded up to whole ones. idle: None: it does not probe. The record: result() is None."""
        times = (1, _milliseconds(idle, "silence"), _milliseconds(interval, "an interval")) if idle is not None else (
            0, 0, 0)
        return self._ioctl(wire.Ioctl.KEEP_ALIVE_VALUES, common, wire.KEEP_ALIVE.pack(*times, 0)).start()

    def bytes_to_read(self, **common: "Unpack[Posting]") -> Operation:
        """Asks how much can be received now; on a datagram socket how long the next one is. The record: result() is
        that number."""
        return self._ioctl(wire.Ioctl.BYTES_TO_READ, common).start()

    def at_mark(self, **common: "Unpack[Posting]") -> Operation:
        """Asks whether the next byte of a TCP stream is the urgent one. The record: result() is True or False."""
        return self._ioctl(wire.Ioctl.AT_MARK, common).start()

    def flush(self, **common: "Unpack[Posting]") -> Operation:
        """Discards sends that are queued, and ends with ECANCELED whatever this session has pending on the socket.
        The record comes after all of theirs; result() is None."""
        return self._ioctl(wire.Ioctl.FLUSH, common).start()
