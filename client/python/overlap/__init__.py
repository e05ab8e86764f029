# SPDX-License-Identifier: Apache-2.0
"""overlap: overlapped I/O through overlapd, in pure Python.

    with overlap.Session() as session:
        connection = session.socket(socket.AF_INET, socket.SOCK_STREAM)
        connection.connect(("192.0.2.1", 80)).finish()
        first, second = connection.recv(65536), connection.recv(65536)  # both outstanding, filled in this order
        connection.send(b"GET / HTTP/1.0\\r\\n\\r\\n")
        print(first.finish(), first.data)

A session is a connection to the daemon. Sockets belong to it, and operations on them are *overlapped*: a method posts
one and returns an Operation, which ends later. How that is told:

    by waiting           Operation.wait(), finish(), or looking at `done`; or by blocking calls (Socket.blocking())
    by routine           a function that runs in an alertable wait (Thread.sleep()) of the very thread that posted
    by completion port   where the socket has one: any thread that waits on the port gets a packet

Programs that use asyncio need none of this: see overlap.aio. The protocol is docs/PROTOCOL.md; this library speaks its
levels 0 and 1, starts no threads, installs no signal handlers and logs nothing.
"""

from overlap.blocking import BlockingSocket
from overlap.error import OverlapError, Reason
from overlap.file import File, Range
from overlap.handle import ThreadHandle
from overlap.interface import Interface
from overlap.items import Items, PacketInfo
from overlap.operation import Operation
from overlap.options import Option, option_of
from overlap.port import Packet, Port
from overlap.region import Buffer, Region
from overlap.session import VERSION, Session
from overlap.socket import Socket
from overlap.thread import Thread
from overlap.wire import Poll, ReceivedFlags, RecordFlags

__version__ = VERSION
__all__ = ["BlockingSocket", "Buffer", "File", "Interface", "Items", "Operation", "Option", "OverlapError", "Packet",
           "PacketInfo", "Poll", "Port", "Range", "Reason", "ReceivedFlags", "RecordFlags", "Region", "Session",
           "Socket", "Thread", "ThreadHandle", "option_of"]
