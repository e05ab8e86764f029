# SPDX-License-Identifier: Apache-2.0
"""What the rules' cases have in common: a session, one connected socket, and what its routines have done.

The sections are those of docs/SEMANTICS.md, and so are the numbers with which the descriptions of the cases begin.
"""

import os
import socket
import struct
import threading

import overlap
import stage

NOTHING_S = 0.05  # how long a case waits to see that nothing happens


class Case(stage.Case):
    """A case with a connected socket. The level is that of the program."""

    level = int(os.environ.get("OVL_TEST_LEVEL", "1"))

    def setUp(self):
        super().setUp()
        self.session = self.open()
        self.mine, self.other = self.connect(self.session)
        self.order: list[object] = []  # what ran

    def ran(self, operation):
        """A routine that notes what it was called for. It runs in the thread that posted."""
        self.assertEqual(threading.get_ident(), self.session.thread.owner)
        self.order.append(operation.user)

    def bring(self, data, mine=None):
        """Data has come to the socket, and no operation takes it."""
        self.other.sendall(data)
        (mine or self.mine).poll(quiet=True).finish(stage.PATIENCE_S)

    def port_of(self, mine, key=7):
        """A port that the socket is associated with."""
        port = self.session.port_open()
        self.addCleanup(port.close)
        port.associate(mine, key)
        return port

    def nothing_at(self, port):
        """Sees that no packet comes to the port."""
        with self.assertRaises(TimeoutError):
            port.wait(NOTHING_S)

    def reset(self, other=None):
        """The ordinary end resets its connection."""
        other = other or self.other
        other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        other.close()

    def expect(self, operation, status, n_bytes=0):
        """The operation has ended so."""
        self.assertTrue(operation.wait(stage.PATIENCE_S), f"{operation.op.name} has not ended")
        self.assertEqual((operation.status, operation.bytes), (status, n_bytes))

    def expect_nothing(self, *operations):
        """Sees that none of them ends."""
        for operation in operations:
            self.assertFalse(operation.wait(NOTHING_S))

    def read(self, size, other=None):
        """So many bytes from the ordinary end, or fewer if that is all."""
        data = bytearray()
        while len(data) < size and (piece := (other or self.other).recv(65536)):
            data += piece
        return bytes(data)

    def not_started(self, code, function, *arguments, **options):
        """Sees that a post is refused with this error."""
        with self.assertRaises(overlap.OverlapError) as caught:
            function(*arguments, **options)
        self.assertEqual(caught.exception.errno, code, str(caught.exception))
