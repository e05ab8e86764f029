# SPDX-License-Identifier: Apache-2.0
"""A network of the case's own, and what changes in it: requests of rtnetlink(7), carried out when they return."""

import ctypes
import ipaddress
import os
import socket
import struct
import unittest

CLONE_NEWNET = 0x40000000
RTM_NEWLINK, RTM_NEWADDR, RTM_DELADDR, RTM_NEWROUTE, RTM_DELROUTE = 16, 20, 21, 24, 25
NLM_F_REQUEST, NLM_F_ACK, NLM_F_REPLACE, NLM_F_CREATE = 0x1, 0x4, 0x100, 0x400
IFA_ADDRESS, IFA_LOCAL, RTA_DST, RTA_OIF = 1, 2, 1, 4
RT_TABLE_MAIN, RTPROT_STATIC, RT_SCOPE_LINK, RT_SCOPE_NOWHERE, RTN_UNICAST = 254, 4, 253, 255, 1
IFF_UP, LOOPBACK = 1, 1


def _attribute(kind, data):
    return struct.pack("HH", 4 + len(data), kind) + data


def _do(kind, flags, body):
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as link:
        link.send(struct.pack("IHHII", 16 + len(body), kind, NLM_F_REQUEST | NLM_F_ACK | flags, 1, 0) + body)
        answer = link.recv(4096)
    error = struct.unpack_from("i", answer, 16)[0]
    if error:
        raise OSError(-error, os.strerror(-error))


def enter():
    """Takes this process, and what it starts, into a network that has nothing but the loopback interface."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) < 0:
        raise unittest.SkipTest("no network of its own can be made here: that takes root")
    _do(RTM_NEWLINK, 0, struct.pack("BxHiII", 0, 0, LOOPBACK, IFF_UP, IFF_UP))


def _address(kind, flags, text):
    host = ipaddress.ip_address(text)
    family = socket.AF_INET if host.version == 4 else socket.AF_INET6
    _do(kind, flags, struct.pack("BBBBI", family, host.max_prefixlen, 0, 0, LOOPBACK)
        + _attribute(IFA_LOCAL, host.packed) + _attribute(IFA_ADDRESS, host.packed))


def add_address(text):
    """Gives the loopback interface an address, which it may have."""
    _address(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, text)


def remove_address(text):
    """Takes an address from it."""
    _address(RTM_DELADDR, 0, text)


def _route(kind, flags, text):
    scope = RT_SCOPE_LINK if kind == RTM_NEWROUTE else RT_SCOPE_NOWHERE
    _do(kind, flags, struct.pack("BBBBBBBBI", socket.AF_INET, 32, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, scope, RTN_UNICAST,
                                 0)
        + _attribute(RTA_DST, socket.inet_aton(text)) + _attribute(RTA_OIF, struct.pack("I", LOOPBACK)))


def add_route(text):
    """Leads an address through the loopback interface."""
    _route(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, text)


def remove_route(text):
    """Leads it nowhere."""
    _route(RTM_DELROUTE, 0, text)
