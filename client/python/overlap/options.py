# SPDX-License-Identifier: Apache-2.0
"""Socket options: the daemon's numbers, and which of setsockopt(2)'s they are."""

import enum
import errno
import socket

from overlap.error import Reason, error


class Option(enum.IntEnum):
    """The options that a client may use; values are numbers, truth values are 0 and 1."""

    REUSE_ADDRESS = 1
    REUSE_PORT = 2
    KEEP_ALIVE = 3
    KEEP_ALIVE_IDLE = 4  # seconds
    KEEP_ALIVE_INTERVAL = 5  # seconds
    KEEP_ALIVE_COUNT = 6
    NO_DELAY = 7
    CORK = 8
    SEND_BUFFER = 9  # bytes
    RECEIVE_BUFFER = 10  # bytes
    USER_TIMEOUT = 11  # milliseconds
    V6_ONLY = 12
    ERROR = 13  # can only be read, and reading clears it
    QUICK_ACK = 14
    TRAFFIC_CLASS = 15
    OOB_INLINE = 16
    BROADCAST = 17
    HOPS = 18
    MULTICAST_HOPS = 19
    MULTICAST_LOOP = 20
    RECV_PACKET_INFO = 21  # RECVMSG tells whom a datagram was sent to, and where it came in
    RECV_HOP_LIMIT = 22
    RECV_TRAFFIC_CLASS = 23
    CONNECT_TIME = 24  # can only be read: seconds since the stream is connected; 0xffffffff: it is not
    RECV_REFUSAL = 27  # at first 1: a receive ends with ECONNREFUSED for each datagram that nobody had the port for


# Of linux/in.h and linux/in6.h; the module socket has no names for them.
_IP_PKTINFO, _IP_RECVERR, _IP_RECVTTL, _IPV6_RECVERR = 8, 11, 12, 25

_BY_NUMBERS: dict[tuple[int, int], Option] = {
    (socket.SOL_SOCKET, socket.SO_REUSEADDR): Option.REUSE_ADDRESS,
    (socket.SOL_SOCKET, socket.SO_REUSEPORT): Option.REUSE_PORT,
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE): Option.KEEP_ALIVE,
    (socket.SOL_SOCKET, socket.SO_SNDBUF): Option.SEND_BUFFER,
    (socket.SOL_SOCKET, socket.SO_RCVBUF): Option.RECEIVE_BUFFER,
    (socket.SOL_SOCKET, socket.SO_ERROR): Option.ERROR,
    (socket.SOL_SOCKET, socket.SO_OOBINLINE): Option.OOB_INLINE,
    (socket.SOL_SOCKET, socket.SO_BROADCAST): Option.BROADCAST,
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE): Option.KEEP_ALIVE_IDLE,
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL): Option.KEEP_ALIVE_INTERVAL,
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT): Option.KEEP_ALIVE_COUNT,
    (socket.IPPROTO_TCP, socket.TCP_NODELAY): Option.NO_DELAY,
    (socket.IPPROTO_TCP, socket.TCP_CORK): Option.CORK,
    (socket.IPPROTO_TCP, socket.TCP_QUICKACK): Option.QUICK_ACK,
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT): Option.USER_TIMEOUT,
    (socket.IPPROTO_IP, socket.IP_TOS): Option.TRAFFIC_CLASS,
    (socket.IPPROTO_IP, socket.IP_TTL): Option.HOPS,
    (socket.IPPROTO_IP, socket.IP_MULTICAST_TTL): Option.MULTICAST_HOPS,
    (socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP): Option.MULTICAST_LOOP,
    (socket.IPPROTO_IP, _IP_PKTINFO): Option.RECV_PACKET_INFO,
    (socket.IPPROTO_IP, _IP_RECVTTL): Option.RECV_HOP_LIMIT,
    (socket.IPPROTO_IP, socket.IP_RECVTOS): Option.RECV_TRAFFIC_CLASS,
    (socket.IPPROTO_IP, _IP_RECVERR): Option.RECV_REFUSAL,
    (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY): Option.V6_ONLY,
    (socket.IPPROTO_IPV6, socket.IPV6_TCLASS): Option.TRAFFIC_CLASS,
    (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS): Option.HOPS,
    (socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS): Option.MULTICAST_HOPS,
    (socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP): Option.MULTICAST_LOOP,
    (socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO): Option.RECV_PACKET_INFO,
    (socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT): Option.RECV_HOP_LIMIT,
    (socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS): Option.RECV_TRAFFIC_CLASS,
    (socket.IPPROTO_IPV6, _IPV6_RECVERR): Option.RECV_REFUSAL,
}


def option_of(level: int, name: int) -> Option:
    """The option that setsockopt(2) knows by level and name. Raises OverlapError (ENOPROTOOPT, UNKNOWN_OPTION)."""
    try:
        return _BY_NUMBERS[level, name]
    except KeyError:
        raise error(-errno.ENOPROTOOPT, Reason.UNKNOWN_OPTION,
                    f"the daemon has no option for level {level}, name {name}: overlap.Option lists those that "
                    f"there are") from None
