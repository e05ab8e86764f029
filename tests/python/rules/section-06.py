#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Section 6 of docs/SEMANTICS.md: results. TAP."""

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


if __name__ == "__main__":
    stage.main()
