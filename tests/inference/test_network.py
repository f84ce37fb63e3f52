"""The simulated link: when messages arrive, and how they wait for that."""

import asyncio
from types import SimpleNamespace

import pytest

from workbench.trace.recorder import Recorder
from workbench.workloads.inference import network
from workbench.workloads.inference.network import Link
from workbench.workloads.inference.tracing import Lane, TraceContext

TIMER_LATE_NS, TURN_NS = 120_000, 8_000


def test_messages_queue_for_the_link():
    link = Link(delay_ns=10, bytes_per_s=1e9)  # a byte a nanosecond
    assert link.arrival_ns(100, 50) == 160
    assert link.arrival_ns(120, 50) == 210  # waits until 150
    assert link.arrival_ns(500, 1) == 511


@pytest.mark.parametrize(("delay_ns", "slept_ns"), [(1_000_000, [750_000]), (200_000, [])])
def test_a_message_is_awake_when_it_arrives(monkeypatch, delay_ns, slept_ns):
    """On a machine whose timers are late, and whose event loop takes some time for a turn."""
    now_ns, waits_ns = 0, []

    async def sleep(seconds):
        nonlocal now_ns
        waits_ns.append(round(seconds * 1e9))
        now_ns += waits_ns[-1] + TIMER_LATE_NS if seconds else TURN_NS

    monkeypatch.setattr(network, "asyncio", SimpleNamespace(sleep=sleep))
    monkeypatch.setattr(network, "time", SimpleNamespace(monotonic_ns=lambda: now_ns))
    lane = Lane(Recorder(None), "request-0", TraceContext.new(0))
    asyncio.run(Link(delay_ns).cross(lane, 100))
    assert [wait for wait in waits_ns if wait] == slept_ns == waits_ns[: len(slept_ns)]
    assert delay_ns <= now_ns < delay_ns + TURN_NS
