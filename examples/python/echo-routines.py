#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""echo-routines.py [PORT]: an echo server by completion routines, on 127.0.0.1; SIGTERM or SIGINT ends it.

Every connection has several receives outstanding. They fill in the order in which they were posted, and their routines run
in that order, in the thread that posted them: a routine that sends at once sends in order, and needs no lock.
"""

import signal
import socket
import sys
import threading

import overlap

RECEIVES, SIZE = 4, 16384
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Connection:
    def __init__(self, sock):
        self.sock, self.n_pending, self.ended = sock, 0, False
        for _ in range(RECEIVES):
            self.receive()

    def receive(self):
        self.n_pending += 1
        self.sock.recv(SIZE, routine=self.received)

    def received(self, operation):
        if operation.status < 0 or operation.bytes == 0:
            self.ended = True
        else:
            self.n_pending += 1
            self.sock.send(operation.data, routine=self.sent)
        self.settle()

    def sent(self, operation):
        if operation.status < 0:
            self.ended = True
        elif not self.ended:
            self.receive()
        self.settle()

    def settle(self):
        self.n_pending -= 1
        if self.n_pending == 0:  # the peer has closed, and all that it sent went back
            self.sock.close()


def listen(session, port):
    listener = session.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.set_option(overlap.Option.REUSE_ADDRESS, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen()
    return listener


def main():
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    with overlap.Session(name="echo-routines") as session:
        listener = listen(session, int(sys.argv[1]) if len(sys.argv) > 1 else 0)

        def accepted(operation):
            Connection(operation.result())
            listener.accept(routine=accepted)

        listener.accept(routine=accepted)
        ended = threading.Event()

        def wait_for_signal():
            signal.sigwait(SIGNALS)
            session.thread.queue_apc(ended.set)  # runs like any routine

        threading.Thread(target=wait_for_signal, daemon=True).start()
        print("listening on {}:{}".format(*listener.getsockname()), flush=True)
        while not ended.is_set():
            with session.thread.cork():  # what one turn leads to leaves with one system call
                session.thread.sleep()


if __name__ == "__main__":
    main()
