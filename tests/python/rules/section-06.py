#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Section 6 of docs/SEMANTICS.md: results. TAP."""

import errno
import socket

import overlap
import section
import stage


class Results(section.Case):
    """What an operation came to."""

    def test_any_thread_any_number_of_times(self):
        """6.8 the result can be asked for again and again, by any thread"""
        operation = self.mine.recv(10)
        self.other.sendall(b"five!")

        def asks():
            return [(operation.finish(stage.PATIENCE_S), operation.data, operation.status) for _ in range(3)]

        tasks = [self.thread(asks) for _ in range(2)]
        self.assertEqual([task.join() for task in tasks] + [asks()], [[(5, b"five!", 0)] * 3] * 3)


    def test_how_it_stands(self):
        """6.1 6.2 who asks is told how it stands, without a wait, and nothing is written before the end"""
        receive = self.mine.recv(10, verdict=True)
        with self.assertRaises(overlap.OverlapError) as caught:
            receive.result()
        self.assertEqual(caught.exception.errno, errno.EINPROGRESS)
        self.assertFalse(receive.wait(0))
        self.assertEqual((receive.done, receive.bytes, receive.data, receive.flags), (False, 0, None, 0))
        self.other.sendall(b"five!")
        self.assertEqual(receive.finish(stage.PATIENCE_S), 5)
        ended = self.mine.recv(10, verdict=True)
        self.assertTrue(ended.cancel())
        with self.assertRaises(overlap.OverlapError) as caught:
            ended.result()
        self.assertEqual(caught.exception.errno, errno.ECANCELED)
        with self.assertRaises(TimeoutError):
            self.mine.recv(10).finish(section.NOTHING_S)

    def test_a_wait_is_for_the_operation(self):
        """6.3 a wait ends with its operation, not with others, and runs nothing"""
        waited, other = self.mine.recv(1, verdict=True), self.mine.recv(1, routine=self.ran, user="ran", verdict=True)
        self.assertTrue(other.cancel())
        self.assertFalse(waited.wait(section.NOTHING_S))
        self.other.sendall(b"x")
        self.assertTrue(waited.wait(stage.PATIENCE_S))
        self.assertEqual(self.order, [])

    def test_bytes_and_flags(self):
        """6.5 6.6 bytes and flags are told at every end, also of what failed"""
        cut = self.session.socket(socket.AF_INET, socket.SOCK_DGRAM)
        cut.bind(("127.0.0.1", 0))
        receive = cut.recv(4, verdict=True)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.sendto(b"0123456789", cut.getsockname())
        self.expect(receive, -errno.EMSGSIZE, 4)
        self.assertEqual(receive.flags & overlap.RecordFlags.TRUNCATED, overlap.RecordFlags.TRUNCATED)
        whole = self.mine.recv(10, waitall=True, verdict=True)
        self.other.sendall(b"five!")
        self.expect_nothing(whole)
        self.assertTrue(whole.cancel())
        self.expect(whole, -errno.ECANCELED, 5)
        self.assertEqual((whole.data, whole.flags & overlap.RecordFlags.TRUNCATED), (b"five!", 0))
        reset = self.mine.recv(10, verdict=True)
        self.reset()
        self.expect(reset, -errno.ECONNRESET)


if __name__ == "__main__":
    stage.main()
