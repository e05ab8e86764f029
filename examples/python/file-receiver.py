#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""file-receiver.py PORT DIRECTORY: receives one file per connection into a directory, on 127.0.0.1; SIGTERM or SIGINT ends
it.

While one buffer is written to the file the next ones are being filled: the buffers lie in memory that is lent to the
daemon, and the bytes are not copied on their way to the file. A file gets its name, 000001 and so on, when its connection
has come to an orderly end; what was received in part is removed.
"""

import os
import signal
import socket
import sys
import threading

import overlap

FILES, RECEIVES, SIZE = 16, 4, 262144
STOP, LISTENER, DATA = 1, 2, 3
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class File:
    """A connection and what has come from it so far."""

    def __init__(self, sock, directory, buffers):
        self.sock, self.buffers, self.n_pending, self.status = sock, buffers, 0, None
        self.name = f"{directory}/.part-{sock.id:x}"
        self.file = open(self.name, "wb", buffering=0)

    def receive(self, buffer):
        self.n_pending += 1
        self.sock.recv(buffer, user=(self, buffer))

    def received(self, operation, buffer):
        self.n_pending -= 1
        if self.status is None and operation.bytes:
            self.file.write(buffer[:operation.bytes].view)
        if self.status is None and (operation.status < 0 or operation.bytes == 0):
            self.status = operation.status
        if self.status is None:
            self.receive(buffer)
        return self.n_pending == 0

    def finish(self, name):
        self.sock.close()
        self.file.close()
        if self.status < 0:
            os.unlink(self.name)
        else:
            os.rename(self.name, name)
        return self.status == 0


def serve(session, port, listener, directory, free):
    n_names = 0
    accepting = listener.accept()
    while True:
        for packet in port.wait(maximum=16):
            if packet.key == STOP:
                return n_names
            if packet.key == LISTENER:
                accepting = None
                file = File(packet.operation.result(), directory, free.pop())
                port.associate(file.sock, DATA)
                for buffer in file.buffers:
                    file.receive(buffer)
            else:
                file, buffer = packet.operation.user
                if file.received(packet.operation, buffer):
                    n_names += file.finish(f"{directory}/{n_names + 1:06}")
                    free.append(file.buffers)
        if accepting is None and free:
            accepting = listener.accept()


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: file-receiver.py PORT DIRECTORY")
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    with overlap.Session(name="file-receiver") as session, session.port_open() as port, \
            session.region(FILES * RECEIVES * SIZE) as region:
        places = [[region.buffer((file * RECEIVES + each) * SIZE, SIZE) for each in range(RECEIVES)] for file in range(FILES)]
        listener = session.socket(socket.AF_INET, socket.SOCK_STREAM)
        port.associate(listener, LISTENER)
        listener.bind(("127.0.0.1", int(sys.argv[1])))
        listener.listen()
        threading.Thread(target=lambda: signal.sigwait(SIGNALS) and port.post(STOP), daemon=True).start()
        print("listening on {}:{}".format(*listener.getsockname()), flush=True)
        print(f"received {serve(session, port, listener, sys.argv[2], places)} files")


if __name__ == "__main__":
    main()
