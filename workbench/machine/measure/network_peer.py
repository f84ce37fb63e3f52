"""The other end of the loopback measurement: `python network_peer.py PORT` answers each message with one byte.

A message is its length (8 bytes) and that many bytes. Runs alone, without this package, so that it starts at once.
"""

import socket
import struct
import sys

LENGTH = struct.Struct("<Q")


def answer(port: int) -> None:
    """Until the other end closes."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        buffer = memoryview(bytearray(1 << 20))
        while connection.recv_into(buffer[: LENGTH.size], LENGTH.size, socket.MSG_WAITALL) == LENGTH.size:
            (left,) = LENGTH.unpack(buffer[: LENGTH.size])
            while left > 0:
                left -= connection.recv_into(buffer, min(left, len(buffer)))
            connection.sendall(b"\0")


if __name__ == "__main__":
    answer(int(sys.argv[1]))
