# SPDX-License-Identifier: Apache-2.0
"""Accepting for a server: a few accepts are outstanding, and each connection learns its names before it is used."""

import asyncio
import errno
from collections.abc import Callable, Coroutine
from typing import Any

from overlap.aio.sock import Socket
from overlap.error import OverlapError
from overlap.operation import Operation

ACCEPTS = 16  # at most; a session of few credits needs them for other things
_RETRY_S = 1.0  # as asyncio does when there are no descriptors


class Listener:
    """Accepts on a socket until that is closed. serve: makes the transport of a connection."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: Socket,
                 serve: Callable[[Socket], Coroutine[Any, Any, None]]) -> None:
        self._loop, self._sock, self._serve = loop, sock, serve
        self._service, self._daemon = sock.service, sock.daemon
        self._tasks: set[asyncio.Task[None]] = set()
        for _ in range(max(1, min(ACCEPTS, self._service.session.credits // 16))):
            self._accept()

    def _accept(self) -> None:
        if self._daemon.closed or self._service.session.lost:
            return
        try:
            self._daemon.accept(routine=self._on_accepted, thread=self._service.thread)
        except OverlapError as failure:
            if self._service.is_shortage(failure):
                self._loop.call_later(_RETRY_S, self._accept)
            else:
                self._report(failure)
        self._service.flush_soon()

    def _on_accepted(self, operation: Operation) -> None:
        failure = operation.failure()
        if failure is None and operation.accepted is not None:
            self._accept()
            task = self._loop.create_task(self._welcome(Socket(self._service, operation.accepted)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif failure is not None and not self._daemon.closed and not self._service.session.lost:
            if failure.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EDQUOT):
                self._report(failure)
                self._loop.call_later(_RETRY_S, self._accept)
            elif failure.errno != errno.ECANCELED:
                self._accept()

    def _report(self, failure: OverlapError) -> None:
        self._loop.call_exception_handler({"message": "accept failed", "exception": failure, "socket": self._sock})

    async def _welcome(self, connection: Socket) -> None:
        try:
            await connection.learn_names()
        except OSError:
            connection.close()
            return
        await self._serve(connection)
