# SPDX-License-Identifier: Apache-2.0
"""Memory that is lent to the daemon: regions, the buffers in them, and the arena that deals out buffers.

A region is a memfd, sealed by the daemon so that neither side can take its pages away from the other. A buffer is a run
of its bytes. From the post of an operation until its record has come the bytes belong to the daemon: the library notes
that, and refuses to give such a buffer back.

The arena holds regions of 4 MiB. Each is cut into chunks of 1 MiB, and each chunk into blocks of one size; a chunk
whose blocks are all free may be cut otherwise the next time. So blocks of every size come from the same few regions,
and nothing is searched.
"""

import errno
import mmap
import os
from typing import TYPE_CHECKING

from overlap import wire
from overlap.error import Reason, error

if TYPE_CHECKING:
    from overlap.session import Session
    from overlap.thread import Thread

PAGE = 4096
_REGION_SIZE, _CHUNK_SIZE = 4 << 20, 1 << 20
_BLOCK_SIZES = (256, 4096, 16384, 65536, 262144, _CHUNK_SIZE)
BLOCK_MAX = _CHUNK_SIZE


class Buffer:
    """A run of bytes in a region; slice it to name a part of it. `view` is the memory itself."""

    __slots__ = ("region", "offset", "_len")

    def __init__(self, region: "Region", offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > region.size:
            raise error(-errno.EFAULT, Reason.OUTSIDE_REGION,
                        f"bytes {offset} to {offset + length} do not lie within a region of {region.size}")
        self.region, self.offset, self._len = region, offset, length

    def __len__(self) -> int:
        return self._len

    def __getitem__(self, part: slice) -> "Buffer":
        start, stop, step = part.indices(self._len)
        if step != 1:
            raise ValueError("a buffer is one run of bytes: it has no step")
        return Buffer(self.region, self.offset + start, max(0, stop - start))

    @property
    def view(self) -> memoryview:
        """The bytes, to be read and written. Not while they are lent."""
        return self.region.view[self.offset:self.offset + self._len]

    def slice(self) -> wire.Slice:
        """What an entry says of it."""
        return wire.Slice(self.offset, self._len, self.region.number)


class Region:
    """Memory that the session lends to the daemon. Made by Session.region()."""

    def __init__(self, session: "Session", size: int, thread: "Thread | None" = None) -> None:
        self.session, self.size, self.number = session, -(-size // PAGE) * PAGE, 0
        self.n_lent = 0  # operations that use it
        fd = os.memfd_create("overlap-region", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, self.size)
            os.posix_fallocate(fd, 0, self.size)
            self._map = mmap.mmap(fd, self.size)
            self._view = memoryview(self._map)
            try:
                reply = session.request("region_add", {"size": self.size}, thread=thread, fd=fd)
            except BaseException:
                self._unmap()
                raise
            self.number = reply.get("region_add", {}).get("region", 0)
        finally:
            os.close(fd)
        session.regions[self.number] = self

    @property
    def view(self) -> memoryview:
        """All of its bytes."""
        return self._view

    def buffer(self, offset: int = 0, length: int | None = None) -> Buffer:
        """The bytes from `offset`, `length` of them or all that follow. Raises OverlapError (EFAULT,
        OUTSIDE_REGION)."""
        return Buffer(self, offset, self.size - offset if length is None else length)

    def close(self, thread: "Thread | None" = None) -> None:
        """Takes the memory back: waits until the daemon and the kernel are done with it, then unmaps it.

        thread: whose connection carries the request; None: the calling thread's.
        Operations that use it should have been cancelled: the call waits for their end. Closing twice is fine.
        Raises OverlapError when the daemon is gone; the memory is the program's again in every case.
        """
        if self.session.regions.pop(self.number, None) is None:
            return
        try:
            self.session.request("region_remove", {"region": self.number}, thread=thread)
        finally:
            self._unmap()

    def _unmap(self) -> None:
        self._view.release()
        try:
            self._map.close()
        except BufferError:
            pass  # the program still has a view of it: the memory goes with that

    def __enter__(self) -> "Region":
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()


class _Chunk:
    """1 MiB of a region, cut into blocks of one size."""

    def __init__(self, region: Region, offset: int) -> None:
        self.region, self.offset, self.block_size = region, offset, 0
        self.free: list[int] = []
        self.n_blocks = 0

    def cut(self, block_size: int) -> None:
        self.block_size, self.n_blocks = block_size, _CHUNK_SIZE // block_size
        self.free = list(range(self.offset + _CHUNK_SIZE - block_size, self.offset - 1, -block_size))


class Block(Buffer):
    """A buffer of the arena, to be given back once."""

    __slots__ = ("chunk",)

    def __init__(self, chunk: _Chunk, offset: int, length: int) -> None:
        super().__init__(chunk.region, offset, length)
        self.chunk: _Chunk | None = chunk


class Arena:
    """Deals out buffers of up to 1 MiB from regions that it adds when it needs them."""

    def __init__(self, session: "Session") -> None:
        self._session = session
        self._whole: list[_Chunk] = []  # not cut
        self._cut: dict[int, dict[_Chunk, None]] = {size: {} for size in _BLOCK_SIZES}  # with free blocks
        self.bytes_lent = 0

    def take(self, length: int) -> Block:
        """A buffer of `length` bytes. Without the lock: it may have to ask the daemon for a region.

        Raises OverlapError: EMSGSIZE above 1 MiB, EDQUOT when the session may have no more memory.
        """
        block_size = next((size for size in _BLOCK_SIZES if size >= length), 0)
        if not block_size:
            raise error(-errno.EMSGSIZE, Reason.BUFFER_TOO_LONG,
                        f"{length} bytes: without a region of its own an operation moves at most {BLOCK_MAX}")
        while True:
            with self._session.lock:
                if (block := self._pop(block_size, length)) is not None:
                    return block
            region = Region(self._session, _REGION_SIZE)
            with self._session.lock:
                self._whole += [_Chunk(region, offset) for offset in range(0, _REGION_SIZE, _CHUNK_SIZE)]

    def _pop(self, block_size: int, length: int) -> Block | None:
        cut = self._cut[block_size]
        if not cut and not self._whole:
            return None
        if not cut:
            chunk = self._whole.pop()
            chunk.cut(block_size)
            cut[chunk] = None
        chunk = next(reversed(cut))
        block = Block(chunk, chunk.free.pop(), length)
        if not chunk.free:
            del cut[chunk]
        self.bytes_lent += block_size
        return block

    def give(self, block: Block) -> None:
        """Takes a buffer back. With the lock held. Giving the same one twice is an error of the program."""
        chunk, block.chunk = block.chunk, None
        if chunk is None:
            raise ValueError("this buffer was given back before")
        chunk.free.append(block.offset)
        cut = self._cut[chunk.block_size]
        cut[chunk] = None
        if len(chunk.free) == chunk.n_blocks:
            del cut[chunk]
            self._whole.append(chunk)
        self.bytes_lent -= chunk.block_size
