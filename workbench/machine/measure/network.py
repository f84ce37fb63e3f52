"""TCP over loopback: bytes a second one way and the time of a round trip - the floor of any RPC on this host.

A second process answers every message with one byte (`network_peer.py`); a thread would wait for our own interpreter.
"""

import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from workbench.machine.measure import network_peer
from workbench.machine.measure.plan import Plan
from workbench.machine.measure.sampling import Found, Unavailable, interleaved

_MESSAGE_BYTES = 8 << 20
_ROUND_TRIPS = 50  # a sample
_PATIENCE_S = 30


def measure(plan: Plan) -> Found:
    """Rows tier network: kind bandwidth (send) and kind latency (round_trip)."""
    found = Found()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(_PATIENCE_S)
        peer = subprocess.Popen([sys.executable, str(Path(network_peer.__file__)), str(server.getsockname()[1])])
        try:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(_PATIENCE_S)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                trials = {
                    "send": _exchange(connection, _MESSAGE_BYTES, 1),
                    "round_trip": _exchange(connection, 1, _ROUND_TRIPS),
                }
                samples_ns = interleaved(trials, plan.repeats)
        except TimeoutError:
            raise Unavailable(f"a loopback connection did not answer within {_PATIENCE_S} s") from None
        finally:
            peer.kill()
            peer.wait()
    same = {"tier": "network", "backend": "tcp", "active": 1}
    where = "loopback TCP between two processes"
    rates = [_MESSAGE_BYTES / took_ns * 1e9 for took_ns in samples_ns["send"]]
    found.rate(rates, f"{where}, 8 MiB acknowledged", kind="bandwidth", name="send", unit="B/s", **same)
    found.time(samples_ns["round_trip"], f"{where}, 1 B each way", kind="latency", name="round_trip", **same)
    return found


def _exchange(connection: socket.socket, message_bytes: int, times: int) -> Callable[[], float]:
    """ns of one message of `message_bytes` and its one-byte answer, the mean over `times`."""
    message = network_peer.LENGTH.pack(message_bytes) + bytes(message_bytes)

    def sample() -> float:
        start_ns = time.perf_counter_ns()
        for _ in range(times):
            connection.sendall(message)
            connection.recv(1)
        return (time.perf_counter_ns() - start_ns) / times

    return sample
