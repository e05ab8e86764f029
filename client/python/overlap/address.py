# SPDX-License-Identifier: Apache-2.0
"""Addresses: as Python's socket module has them, as an entry has them, and as a control message has them.

Python's forms are (host, port), (host, port, flowinfo, scope_id) and a path. Hosts are numeric here: what resolves
names is Session.resolve(). A relative path is made absolute, because the daemon has a working directory of its own.
"""

import errno
import os
import socket
from typing import Any

from overlap import wire
from overlap.error import OverlapError, Reason, error
from overlap.message import Message

Address = Any  # a tuple of Python's socket module, or a path (str or bytes)

FAMILIES = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6)
_HOST_LEN = {socket.AF_INET: 4, socket.AF_INET6: 16}
_PATH_MAX = 108


def _bad(family: int, address: Address, why: str) -> OverlapError:
    return error(-errno.EINVAL, Reason.BAD_ADDRESS, f"{address!r} is no address of family {family}: {why}")


def _path(address: Address) -> bytes:
    if not isinstance(address, (str, bytes, os.PathLike)):
        raise _bad(socket.AF_UNIX, address, "it has to be a path")
    path = os.fsencode(address)
    if path and not path.startswith((b"/", b"\0")):
        path = os.path.abspath(path)
    if not 0 < len(path) <= _PATH_MAX:
        raise _bad(socket.AF_UNIX, address, f"a path has 1 to {_PATH_MAX} bytes")
    return path


def _host(family: int, address: Address) -> tuple[bytes, int]:
    """The bytes of a numeric host, and the interface that it names."""
    host, _, interface = str(address[0]).partition("%")
    scope_id = int(address[3]) if family == socket.AF_INET6 and len(address) > 3 else 0
    if host == "":
        host = "0.0.0.0" if family == socket.AF_INET else "::"
    elif host == "<broadcast>":
        host = "255.255.255.255"
    try:
        raw = socket.inet_pton(family, host)
        if interface:
            scope_id = int(interface) if interface.isdecimal() else socket.if_nametoindex(interface)
    except OSError as failure:
        raise _bad(family, address, "its host is not numeric; resolve names first") from failure
    return raw, scope_id


def to_message(family: int, address: Address) -> Message:
    """An Address message. Raises OverlapError with BAD_ADDRESS."""
    if family == socket.AF_UNIX:
        return {"family": int(family), "host": _path(address)}
    if family not in _HOST_LEN or not isinstance(address, tuple) or len(address) < 2:
        raise _bad(family, address, "it has to be a tuple of host and port")
    if not isinstance(address[1], int) or not 0 <= address[1] <= 65535:
        raise _bad(family, address, "a port is a number from 0 to 65535")
    host, scope_id = _host(family, address)
    return {"family": int(family), "port": address[1], "scope_id": scope_id, "host": host}


def to_wire(family: int, address: Address) -> bytes:
    """The 116 bytes that an entry holds. Raises OverlapError with BAD_ADDRESS."""
    fields = to_message(family, address)
    host = fields["host"]
    path_len = len(host) if family == socket.AF_UNIX else 0
    return wire.ADDRESS.pack(family, path_len, fields.get("port", 0), fields.get("scope_id", 0), host)


def _to_python(family: int, port: int, scope_id: int, host: bytes) -> Address:
    if family == socket.AF_UNIX:
        return host if host.startswith(b"\0") else os.fsdecode(host)
    if family not in _HOST_LEN:
        return None
    name = socket.inet_ntop(family, host[:_HOST_LEN[socket.AddressFamily(family)]])
    return (name, port) if family == socket.AF_INET else (name, port, 0, scope_id)


def from_message(message: Message) -> Address:
    """What an Address message says; None if it has no family."""
    family, host = message.get("family", 0), message.get("host", b"")
    if family in _HOST_LEN and len(host) != _HOST_LEN[socket.AddressFamily(family)]:
        return None
    return _to_python(family, message.get("port", 0), message.get("scope_id", 0), host)


def from_wire(raw: bytes | memoryview) -> Address:
    """What the 116 bytes of an address say; None if it has no family."""
    family, path_len, port, scope_id, host = wire.ADDRESS.unpack_from(raw)
    return _to_python(family, port, scope_id, host[:path_len] if family == socket.AF_UNIX else host)


def family_of_wire(raw: bytes | memoryview) -> int:
    """The family of 116 bytes of address."""
    return raw[0]
