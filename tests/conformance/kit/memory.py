# SPDX-License-Identifier: Apache-2.0
"""Memory that is shared: regions, and the two halves of a lane.

Words that both sides use are written through a view of aligned 32-bit numbers, with one store each. Python has no
barriers; a lock that is taken and released is one on x86-64. Whoever waits here also looks again after a while, so that
a bell which went missing for want of a barrier on another machine costs time and no more.
"""

import fcntl
import mmap
import os
import struct
import threading

from kit.values import Problem

LANE_MAGIC, LANE_DATA, SLOT = 0x4e4c564f, 4096, 64
F_ADD_SEALS, F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_WRITE = 1033, 1, 2, 8


def barrier():
    with threading.Lock():
        pass


def make_memfd(size, allocate=True, seals=0, flags=os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING):
    fd = os.memfd_create("conformance", flags)
    os.ftruncate(fd, size)
    if allocate and size:
        os.posix_fallocate(fd, 0, size)
    if seals:
        fcntl.fcntl(fd, F_ADD_SEALS, seals)
    return fd


class Mapping:
    def __init__(self, fd, size, writable=True):
        self.map = mmap.mmap(fd, size, prot=mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0))
        self.size = size

    def close(self):
        try:
            self.map.close()
        except BufferError:
            pass

    def word(self, offset):
        with memoryview(self.map) as view, view[offset:offset + 4] as part, part.cast("I") as word:
            return word[0]

    def set_word(self, offset, value):
        with memoryview(self.map) as view, view[offset:offset + 4] as part, part.cast("I") as word:
            word[0] = value & 0xffffffff

    def read(self, offset, length):
        return self.map[offset:offset + length]

    def write(self, offset, data):
        self.map[offset:offset + len(data)] = data


class Region(Mapping):
    """A region, and where in it there is room. Nothing is ever given back: a case is short."""

    def __init__(self, size):
        self.fd = make_memfd(size)
        super().__init__(self.fd, size)
        self.number, self.used = 0, 0

    def reserve(self, length):
        at = self.used
        self.used = at + length + 63 & ~63
        if self.used > self.size:
            raise Problem(f"the case needs more than the {self.size} bytes of its region")
        return at


class Lane:
    """The client's side of a lane."""

    def __init__(self, n_slots):
        self.size = LANE_DATA + SLOT * n_slots + 4095 & ~4095
        self.fd = make_memfd(self.size)
        self.ours = Mapping(self.fd, self.size)
        self.ours.write(0, struct.pack("<III", LANE_MAGIC, 1, n_slots))
        self.n_slots, self.n_records = n_slots, 0
        self.tail, self.head = 0, 0
        self.theirs = None

    def accept(self, fd, n_records):
        """The daemon's half, which the reply brought."""
        size = os.fstat(fd).st_size
        wanted = LANE_DATA + SLOT * n_records
        if n_records < 1 or n_records & n_records - 1 or size != wanted:
            raise Problem(f"the daemon's half of the lane has {size} bytes; for {n_records} records it should have "
                          f"{wanted}, and their number should be a power of two")
        try:
            mmap.mmap(fd, size).close()
            raise Problem("the daemon's half of the lane can be mapped for writing")
        except PermissionError:
            pass
        self.theirs = Mapping(fd, size, writable=False)
        self.n_records = n_records
        magic, version, number = struct.unpack("<III", self.theirs.read(0, 12))
        if (magic, version, number) != (LANE_MAGIC, 1, n_records):
            raise Problem(f"the header of the daemon's half is {magic:#x}, {version}, {number}")

    def close(self):
        self.ours.close()
        if self.theirs:
            self.theirs.close()
        os.close(self.fd)

    def room(self):
        return self.n_slots - (self.tail - self.theirs.word(64) & 0xffffffff)

    def post(self, raw):
        """Writes slots and shows them. Returns whether the daemon wants the doorbell."""
        for at in range(0, len(raw), SLOT):
            place = (self.tail + at // SLOT) % self.n_slots
            self.ours.write(LANE_DATA + place * SLOT, raw[at:at + SLOT])
        self.tail = self.tail + len(raw) // SLOT & 0xffffffff
        self.ours.set_word(64, self.tail)
        barrier()
        return self.theirs.word(68) == 1

    def take(self):
        """The records that have come."""
        tail = self.theirs.word(128)
        n_new = tail - self.head & 0xffffffff
        if n_new > self.n_records:
            raise Problem(f"records_tail is {n_new} ahead, but the ring has {self.n_records} places")
        found = []
        for number in range(n_new):
            place = (self.head + number) % self.n_records
            found.append(self.theirs.read(LANE_DATA + place * SLOT, SLOT))
        self.head = tail
        self.ours.set_word(128, tail)
        return found

    def settled(self):
        return struct.unpack("<Q", self.theirs.read(72, 8))[0]

    def sleep(self, asleep):
        self.ours.set_word(132, 1 if asleep else 0)
        barrier()
