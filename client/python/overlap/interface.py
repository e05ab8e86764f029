# SPDX-License-Identifier: Apache-2.0
"""Interfaces of the daemon's machine: one address of one of them each."""

from typing import Any, NamedTuple

from overlap import address as addresses
from overlap import wire


class Interface(NamedTuple):
    """An address that an interface has."""

    name: str
    index: int
    flags: wire.InterfaceFlags
    prefix_len: int  # bits of the address that are the network's
    address: Any  # as Python's socket module has it, with port 0


def interface_from_wire(raw: bytes | memoryview) -> Interface:
    """What a row of an interface list says."""
    index, flags, prefix_len, name, address = wire.INTERFACE.unpack_from(raw)
    return Interface(name.rstrip(b"\0").decode(errors="replace"), index, wire.InterfaceFlags(flags), prefix_len,
                     addresses.from_wire(address))
