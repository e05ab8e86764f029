# SPDX-License-Identifier: Apache-2.0
"""A Unix stream that carries frames, with their descriptors; either side of it."""

import array
import errno
import os
import select
import socket
import struct
import time

from kit import codec
from kit.values import Problem


class Frame:
    def __init__(self, kind, n_fds, reserved, body, fds):
        self.kind, self.n_fds, self.reserved, self.body, self.fds = kind, n_fds, reserved, body, fds


class Stream:
    def __init__(self, connection, patience):
        self.connection, self.patience = connection, patience
        self.raw, self.fds = b"", []
        self.chop = 0  # bytes that leave with one system call; 0: as many as there are
        self.has_ended = False

    def close(self):
        self.connection.close()
        for fd in self.fds:
            os.close(fd)
        self.fds = []

    def send(self, raw, fd=None):
        """Raises BrokenPipeError or ConnectionResetError when the other side has closed."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))] if fd is not None else []
        step = self.chop or len(raw)
        self.connection.settimeout(self.patience)
        at = 0
        while at < len(raw):
            at += self.connection.sendmsg([raw[at:at + step]], rights if at == 0 else [])

    def fill(self, timeout):
        """Reads what is there. Returns False when nothing came within the timeout."""
        if not select.select([self.connection], [], [], max(0, timeout))[0]:
            return False
        try:
            part, control, _, _ = self.connection.recvmsg(1 << 18, socket.CMSG_SPACE(16 * 4))
        except OSError as error:
            if error.errno not in (errno.ECONNRESET, errno.EPIPE):
                raise
            part, control = b"", []
        for level, kind, data in control:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                self.fds += struct.unpack(f"{len(data) // 4}i", data[:len(data) // 4 * 4])
        if part:
            self.raw += part
        else:
            self.has_ended = True
        return True

    def take(self):
        """A frame that has come whole, or None."""
        if len(self.raw) < 8:
            return None
        length, kind, n_fds, reserved = codec.HEADER.unpack_from(self.raw)
        if len(self.raw) < 8 + length:
            return None
        body, self.raw = self.raw[8:8 + length], self.raw[8 + length:]
        fds, self.fds = self.fds[:n_fds], self.fds[n_fds:]
        return Frame(kind, n_fds, reserved, body, fds)

    def read(self, what="a frame"):
        """The next frame, or None at the end of the stream."""
        deadline = time.monotonic() + self.patience
        while True:
            frame = self.take()
            if frame is not None:
                return frame
            if self.has_ended:
                if self.raw:
                    raise Problem(f"the stream ended within a frame: {len(self.raw)} bytes are left of it")
                return None
            if not self.fill(deadline - time.monotonic()):
                raise Problem(f"{what} did not come within {self.patience} s")
