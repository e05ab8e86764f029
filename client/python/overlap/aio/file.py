# SPDX-License-Identifier: Apache-2.0
"""Files that are sent by asyncio's sendfile() and sock_sendfile(): the daemon reads them, where it can.

What it cannot (level 0, and what is no regular file that is open for reading only) is said by an error of asyncio's,
which then reads the file itself, unless the program forbids that.
"""

import io
import os
from asyncio import exceptions
from typing import Any

from overlap.aio.sock import Socket
from overlap.error import OverlapError
from overlap.file import UNFIT, File
from overlap.message import Message
from overlap.operation import Operation

SEND_FILE_MAX = 1 << 30  # bytes of one operation


async def send_file(sock: Socket, file: Any, offset: int, count: int | None) -> int:
    """Sends a file to its end, or `count` bytes of it. Returns how many were sent; the file's position is behind them,
    whatever happens."""
    service = sock.service

    def give_back(reply: Message) -> None:
        if not service.session.closed:
            service.ask("file_remove", {"file": File(service.session, reply).number}, lambda *unused: None)

    if service.session.level < 1:
        raise exceptions.SendfileNotAvailableError("the session has level 0, which lends no files")
    try:
        fd = file.fileno()
        reply = await service.request("file_add", {}, give_back, fd)
    except (AttributeError, io.UnsupportedOperation) as failure:
        raise exceptions.SendfileNotAvailableError("not a regular file") from failure
    except OverlapError as failure:
        if failure.reason not in UNFIT:
            raise
        raise exceptions.SendfileNotAvailableError(str(failure)) from failure
    lent, sent = File(service.session, reply), 0

    def count_sent(operation: Operation) -> None:
        nonlocal sent
        sent += operation.bytes

    try:
        while count is None or sent < count:
            left = max(os.fstat(fd).st_size - offset - sent, 0)
            step = min(left, SEND_FILE_MAX, left if count is None else count - sent)
            if step == 0:
                break
            at = offset + sent
            operation = await service.operate(
                lambda routine, at=at, step=step: sock.daemon.transmit(
                    lent, at, step, routine=routine, thread=service.thread), count_sent)
            count_sent(operation)
            operation.result()
    finally:
        give_back(reply)
        file.seek(offset + sent)
    return sent
