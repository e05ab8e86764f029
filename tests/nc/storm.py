#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Many connections through overlap-nc, each under a seed: sizes, pauses, who ends first, by which way. TAP.

usage: storm.py [SEEDS]    how many; the first one is OVL_TEST_SEED, or 1
"""

import os
import random
import socket
import sys
import time

import frame

FIRST = int(os.environ.get("OVL_TEST_SEED", "1"))
SEEDS = int(sys.argv.pop(1)) if len(sys.argv) > 1 else 20


class Storm(frame.Case):
    """Whatever happens in which order, what goes in comes out."""

    def pour(self, dice, data, write, end):
        """Writes in pieces, with pauses now and then."""
        view = memoryview(data)
        while view:
            size = dice.choice((1, 100, 4096, 65536, 65537, 300000))
            piece, view = view[:size], view[size:]
            write(piece)
            if dice.random() < 0.05:
                time.sleep(dice.random() / 100)
        end()

    def drain(self, dice, read):
        """Reads to the end, with pauses now and then."""
        back = bytearray()
        while piece := read(dice.choice((1, 512, 65536, 1 << 20))):
            back += piece
            if dice.random() < 0.02:
                time.sleep(dice.random() / 100)
        return bytes(back)

    def exchange(self, seed, here, there):
        """Both ways at once between two ends, each a write, an end and a read."""
        dice = random.Random(seed)
        mine, theirs = (dice.randbytes(dice.choice((0, 1, 3000, 70000, 1 << 20, 3 << 20))) for _ in range(2))
        tasks = [self.thread(self.pour, random.Random(seed + 1), mine, here[0], here[1]),
                 self.thread(self.pour, random.Random(seed + 2), theirs, there[0], there[1]),
                 self.thread(self.drain, random.Random(seed + 3), there[2]),
                 self.thread(self.drain, random.Random(seed + 4), here[2])]
        back = [task.join() for task in tasks]
        self.assertEqual(frame.digest(back[2]), frame.digest(mine), f"seed {seed}")
        self.assertEqual(frame.digest(back[3]), frame.digest(theirs), f"seed {seed}")

    @staticmethod
    def ends_of(connection):
        return connection.sendall, lambda: connection.shutdown(socket.SHUT_WR), connection.recv

    @staticmethod
    def ends_of_nc(program):
        return program.write, program.stdin.close, lambda size: os.read(program.stdout.fileno(), size)

    def test_connected(self):
        for seed in range(FIRST, FIRST + SEEDS):
            program, peer = self.connected("-N")
            self.exchange(seed, self.ends_of_nc(program), self.ends_of(peer))
            program.wait()
            program.close()
            peer.close()

    def test_from_one_to_another(self):
        for seed in range(FIRST, FIRST + SEEDS):
            server = self.nc("-v", "-N", "-l", "127.0.0.1", 0)
            client = self.nc("-N", "127.0.0.1", self.port_of(server))
            self.exchange(seed, self.ends_of_nc(client), self.ends_of_nc(server))
            client.wait()
            server.wait()
            client.close()
            server.close()

    def test_carried_many_at_once(self):
        listener, port = self.server()
        listener.listen(64)
        path = self.folder() + "/s"
        program = self.nc("-v", "--local", path, "127.0.0.1", port)
        self.listening(program)

        def one(seed):
            client = self.reach(path, socket.AF_UNIX)
            client.sendall(b"%8d" % seed)
            peer = self.accept(listener)
            other = int(peer.recv(8, socket.MSG_WAITALL))
            return seed, client, other, peer

        for first in range(FIRST, FIRST + SEEDS, 20):  # as many as it serves at a time at each level
            started = [one(seed) for seed in range(first, min(first + 20, FIRST + SEEDS))]
            peers = {other: peer for _, _, other, peer in started}
            tasks = [self.thread(self.exchange, seed, self.ends_of(client), self.ends_of(peers[seed]))
                     for seed, client, _, _ in started]
            for task in tasks:
                task.join()
            for _, client, _, peer in started:
                client.close()
                peer.close()
        self.assertIsNone(program.process.poll(), program.said())


if __name__ == "__main__":
    frame.main()
