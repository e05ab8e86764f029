# SPDX-License-Identifier: Apache-2.0
"""What is outside of the sandbox: peer.py echo ADDRESS PORT serves an echo; peer.py send ADDRESS PORT sends to a server,
reads back, and prints the sum of both."""

import hashlib
import os
import socket
import sys
import threading

LEN = 4 << 20


def echo(connection):
    with connection:
        while data := connection.recv(65536):
            connection.sendall(data)


def serve(address):
    with socket.create_server(address) as server:
        while True:
            threading.Thread(target=echo, args=[server.accept()[0]], daemon=True).start()


def send(address):
    data = os.urandom(LEN)
    back = bytearray()
    with socket.create_connection(address, timeout=60) as connection:
        threading.Thread(target=connection.sendall, args=[data], daemon=True).start()
        while len(back) < LEN:
            piece = connection.recv(65536)
            if not piece:
                sys.exit(f"the connection ended after {len(back)} bytes")
            back += piece
    sent, received = (hashlib.sha256(both).hexdigest() for both in (data, back))
    if sent != received:
        sys.exit(f"what came back has the sum {received}, what was sent {sent}")
    print(f"sum {sent}")


if __name__ == "__main__":
    {"echo": serve, "send": send}[sys.argv[1]]((sys.argv[2], int(sys.argv[3])))
