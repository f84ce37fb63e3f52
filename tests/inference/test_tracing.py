"""Trace context over processes, and CPU time over threads."""

import asyncio
import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from workbench.trace.readers import spans
from workbench.trace.recorder import Recorder
from workbench.workloads.inference.tracing import Lane, LaneNames, TraceContext, _LoopClock


def spin(cpu_ns: int) -> int:
    """Spend CPU time; returns how much it was: a virtual machine may charge a thread for more."""
    began_ns = time.thread_time_ns()
    while (spent_ns := time.thread_time_ns() - began_ns) < cpu_ns:
        pass
    return spent_ns


@pytest.mark.parametrize("sampled", [True, False])
def test_context_crosses_a_call(sampled):
    context = TraceContext("a" * 32, "b" * 16, 7, sampled)
    assert TraceContext.received(context.metadata) == context


@pytest.mark.parametrize("traceparent", ["", "00-zz-bb-01", f"00-{'0' * 32}-{'b' * 16}-01", f"01-{'a' * 32}"])
def test_a_malformed_context_begins_a_new_trace(traceparent):
    context = TraceContext.received([("traceparent", traceparent), ("tracestate", "recsys-workbench=7")])
    assert len(context.trace) == 32 and context.parent == "" and context.step == -1


def test_cpu_time_is_that_of_the_span_it_was_spent_in(tmp_path):
    """What the event loop did just before it handed work to a thread is not the work's, even where they overlap."""
    recorder, spent_ns = Recorder(tmp_path, "main"), {}
    lane = Lane(recorder, "request-0", TraceContext.new(0))

    def on_thread():
        with lane.span("worker"):
            spent_ns["worker"] = spin(3_000_000)

    async def work(pool):
        with lane.span("handler"):
            with lane.span("loop"):
                spent_ns["loop"] = spin(4_000_000)
            await asyncio.sleep(0.01)
            spent_ns["hand over"] = spin(2_000_000)  # in the stretch that hands the work over
            await lane.run_on(pool, on_thread)

    with ThreadPoolExecutor(1) as pool:
        asyncio.run(lane.run(work(pool)))
    recorder.close()
    cpu_ns = spans.read(tmp_path / "main.spans.jsonl").events.set_index("name")["cpu_ns"]
    assert cpu_ns["loop"] == pytest.approx(spent_ns["loop"], abs=500_000)
    assert cpu_ns["worker"] == pytest.approx(spent_ns["worker"], abs=500_000)
    assert cpu_ns["handler"] == pytest.approx(sum(spent_ns.values()), abs=1_500_000)


def test_what_short_stretches_were_told_is_taken_off_the_next_reading(monkeypatch):
    """The thread has spent 1,000 ns, of which 300 were told unread: a stretch of 900 that was interrupted gets 700."""
    thread_ns = iter([1_000, 1_500])
    monkeypatch.setattr(time, "thread_time_ns", lambda: next(thread_ns))
    clock = _LoopClock()
    clock.told_ns = 300
    assert clock.read(900) == 700
    assert clock.read(400) == 400 and (clock.read_ns, clock.told_ns) == (1_500, 0)


def test_a_branch_names_what_caused_it_though_its_lines_are_made_first(tmp_path):
    recorder = Recorder(tmp_path, "main")
    lane = Lane(recorder, "request-0", TraceContext.new(0))

    async def called(beside):
        with beside.span("call"):
            pass

    async def work():
        with lane.span("handler", phase="net-0"):
            beside = lane.branch("shard-0")
            await beside.run(called(beside))
            recorder.flush()  # while the lane goes on
            assert spans.read(tmp_path / "main.spans.jsonl").events["name"].tolist() == ["call"]

    asyncio.run(lane.run(work()))
    recorder.close()
    found = spans.read(tmp_path / "main.spans.jsonl").events.set_index("name")
    assert found["parent_span_id"]["call"] == found["span_id"]["handler"] != 0
    assert found["lane"]["call"].startswith("request-0/shard-0") and "shard" not in found["lane"]["handler"]
    assert (found["phase"] == "net-0").all()


def test_spans_of_a_failure_end_with_it(tmp_path):
    recorder = Recorder(tmp_path, "main")
    lane = Lane(recorder, "request-0", TraceContext.new(0))

    async def work():
        with lane.span("handler", tags="warmup"):
            with lane.span("deserialize", kind="serialization", message_bytes=5):
                pass
            raise KeyError

    with pytest.raises(KeyError):
        asyncio.run(lane.run(work()))
    recorder.close()
    found = spans.read(tmp_path / "main.spans.jsonl").events.set_index("name")
    assert found["tags"].to_dict() == {"deserialize": "", "handler": "warmup error"}
    assert found["message_bytes"]["deserialize"] == 5


def test_forked_processes_draw_span_ids_of_their_own(tmp_path):
    def drawn(process):
        recorder = Recorder(tmp_path, process)
        lane = Lane(recorder, "request-0", TraceContext.new(0))

        async def work():
            with lane.span("handler"):
                pass

        asyncio.run(lane.run(work()))
        recorder.close()

    child = os.fork()
    if child == 0:
        drawn("shard-0")
        os._exit(0)
    os.waitpid(child, 0)
    drawn("main")
    ids = {spans.read(tmp_path / f"{process}.spans.jsonl").events["span_id"][0] for process in ("shard-0", "main")}
    assert len(ids) == 2


def test_lanes_are_reused_by_the_lowest_number():
    names = LaneNames()
    with names.taken() as first, names.taken() as second:
        assert (first, second) == ("request-0", "request-1")
    with names.taken() as again:
        assert again == "request-0"
