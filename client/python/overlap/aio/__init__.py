# SPDX-License-Identifier: Apache-2.0
"""asyncio on sockets of overlapd: the program stays as it is, only its loop is another.

    overlap.aio.run(main())                                          # instead of asyncio.run(main())
    asyncio.set_event_loop_policy(overlap.aio.EventLoopPolicy())     # or once, for all loops that are made later

start_server, open_connection, create_server, create_connection, create_datagram_endpoint, TLS, start_tls, sendfile and
sock_*() then work on sockets that the daemon owns, and names are resolved by the daemon, so a program that has no
network of its own has one. What is not a network socket of the loop's making stays the kernel's: Unix sockets, pipes,
processes, and sockets that the program brings along.

For loop.sock_recv() and its like the program needs a socket of the daemon: `await overlap.aio.open_socket(family,
kind)` makes one.
"""

from overlap.aio.loop import EventLoop, EventLoopPolicy, open_socket, run
from overlap.aio.sock import Socket

__all__ = ["EventLoop", "EventLoopPolicy", "Socket", "open_socket", "run"]
