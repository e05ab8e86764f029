# SPDX-License-Identifier: Apache-2.0
"""What is outside of the sandbox: peer.py echo PORT serves an echo; peer.py send PORT sends to a server and reads back."""

import socket
import sys
import threading

LEN = 4 << 20


def echo(connection):
    with connection:
        while data := connection.recv(65536):
            connection.sendall(data)


def serve(port):
    with socket.create_server(("127.0.0.1", port)) as server:
        while True:
            threading.Thread(target=echo, args=[server.accept()[0]], daemon=True).start()


def send(port):
    data = bytes(range(256)) * (LEN // 256)
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        threading.Thread(target=connection.sendall, args=[data], daemon=True).start()
        back = bytearray()
        while len(back) < LEN:
            piece = connection.recv(65536)
            if not piece:
                sys.exit(f"the connection ended after {len(back)} bytes")
            back += piece
    sys.exit(0 if back == data else "what came back is not what was sent")


if __name__ == "__main__":
    (serve if sys.argv[1] == "echo" else send)(int(sys.argv[2]))
