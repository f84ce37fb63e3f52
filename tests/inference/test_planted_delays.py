"""A delay planted in a layer appears in that layer's part of the latency stack, and in no other.

All processes of these deployments are in the test's, on one clock. A delay is slept for long enough that whatever runs
beside it comes to its end; then the clock jumps, so that the delay is large beside what a busy machine adds.
"""

import time

import pytest
from in_process import deployed, plan_for, some_requests

from workbench.analyses.core.request_parts import EMBEDDED_PARTS, PARTS
from workbench.analyses.latency import latency
from workbench.trace.loader import load
from workbench.workloads.inference import tracing

SLEEP_S, DELAY_NS = 0.03, 1_000_000_000
REQUESTS = 6
LEAVES = [f"{part}_ns" for part in (*PARTS, *(f"embedded_{part}" for part in EMBEDDED_PARTS)) if part != "embedded"]


@pytest.fixture
def planted(monkeypatch):
    """plant(process, span, where): delay that process by DELAY_NS `inside` such a span of every second request, or
    `before` it. Returns those requests, as they come."""
    delayed, jumped_ns, clock_ns = [], 0, time.monotonic_ns
    monkeypatch.setattr(time, "monotonic_ns", lambda: clock_ns() + jumped_ns)

    def plant(process, name, where):
        open_span, enter = tracing.Lane.span, tracing.Lane.__enter__

        def delay(lane):
            nonlocal jumped_ns
            step = lane.context.step
            if lane.recorder.process == process and step % 2 and step not in delayed:
                delayed.append(step)
                until_ns = time.monotonic_ns() + DELAY_NS
                time.sleep(SLEEP_S)
                jumped_ns += until_ns - time.monotonic_ns()

        def span(lane, named, *arguments, **fields):
            if where == "before" and named == name:
                delay(lane)
            return open_span(lane, named, *arguments, **fields)

        def entered(lane):
            enter(lane)
            if where == "inside" and lane._open[-1].name == name:
                delay(lane)

        monkeypatch.setattr(tracing.Lane, "span", span)
        monkeypatch.setattr(tracing.Lane, "__enter__", entered)
        return delayed

    return plant


def stacks(tiny, folder, strategy):
    """ns by part [requests, LEAVES]."""
    model, exported = tiny

    async def scenario(deployment):
        return [
            await deployment.client.rank(number, request, 5.0)
            for number, request in enumerate(some_requests(model.config, REQUESTS))
        ]

    (folder / "run.json").write_text("{}")
    answers = deployed(exported, plan_for(model.config, strategy, 2), scenario, record=folder)
    assert {answer.status for answer in answers} == {"OK"}
    return latency(load(folder), by="request").table.set_index("step")[LEAVES]


@pytest.mark.parametrize(
    ("process", "span", "where", "part", "strategy"),
    [
        ("client", "serialize", "inside", "serialization", "one_shard"),
        ("client", "serialize", "before", "unaccounted", "one_shard"),
        ("main", "handler", "before", "service", "one_shard"),
        ("main", "queue", "inside", "scheduling", "one_shard"),
        ("main", "batch_wait", "before", "service", "one_shard"),
        ("main", "net", "before", "scheduling", "one_shard"),
        ("main", "top", "inside", "dense", "one_shard"),
        ("main", "rpc", "inside", "embedded_network", "one_shard"),
        ("main", "rpc", "before", "embedded_scheduling", "one_shard"),
        ("shard-0", "handler", "before", "embedded_network", "one_shard"),
        ("shard-0", "net", "before", "embedded_service", "one_shard"),
        ("shard-0", "deserialize", "inside", "embedded_serialization", "one_shard"),
        ("shard-0", "sparse_lookup", "inside", "embedded_sparse", "one_shard"),
        ("main", "sparse_lookup", "inside", "embedded_sparse", "singular"),
    ],
)
def test_a_planted_delay_appears_in_its_part(tiny, tmp_path, planted, process, span, where, part, strategy):
    delayed = planted(process, span, where)
    taken_ns = stacks(tiny, tmp_path, strategy)
    assert delayed == list(range(1, REQUESTS, 2))
    # A busy machine only adds, now to one part and now to another: the least of each is what it takes undisturbed.
    grown_ns = taken_ns.loc[delayed].min() - taken_ns.drop(delayed).min()
    grown_ns[f"{part}_ns"] -= DELAY_NS
    assert abs(grown_ns[f"{part}_ns"]) <= 0.05 * DELAY_NS
    assert (grown_ns <= 0.05 * DELAY_NS).all()
