"""A delay planted in a layer appears in that layer's part of the latency stack, and in no other."""

import time

import numpy as np
import pytest
from in_process import deployed, plan_for, some_requests

from workbench.analyses.latency import latency
from workbench.trace.loader import load
from workbench.workloads.inference import tracing

DELAY_NS = 60_000_000
REQUESTS = 5


@pytest.fixture
def planted(monkeypatch):
    """plant(process, span, where): delay that process `inside` such a span of every request, or `before` it."""
    delayed_ns = {}

    def plant(process, name, where):
        open_span, enter = tracing.Lane.span, tracing.Lane.__enter__
        asleep = set()

        def sleep(lane):
            if lane.recorder.process == process and (lane.context.step, name) not in asleep:
                asleep.add((lane.context.step, name))
                start_ns = time.monotonic_ns()
                time.sleep(DELAY_NS / 1e9)
                delayed_ns[lane.context.step] = time.monotonic_ns() - start_ns

        def span(lane, named, *arguments, **fields):
            if where == "before" and named == name:
                sleep(lane)
            return open_span(lane, named, *arguments, **fields)

        def entered(lane):
            enter(lane)
            if where == "inside" and lane._open[-1].name == name:
                sleep(lane)

        monkeypatch.setattr(tracing.Lane, "span", span)
        monkeypatch.setattr(tracing.Lane, "__enter__", entered)
        return delayed_ns

    return plant


def stacks(tiny, folder, strategy):
    model, exported = tiny

    async def scenario(deployment):
        return [
            await deployment.client.rank(number, request, 5.0)
            for number, request in enumerate(some_requests(model.config, REQUESTS))
        ]

    folder.mkdir()
    (folder / "run.json").write_text("{}")
    answers = deployed(exported, plan_for(model.config, strategy, 2), scenario, record=folder)
    assert {answer.status for answer in answers} == {"OK"}
    return latency(load(folder), by="request").table.set_index("step")


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
    before = stacks(tiny, tmp_path / "before", strategy)
    delayed_ns = planted(process, span, where)
    after = stacks(tiny, tmp_path / "after", strategy)
    assert set(delayed_ns) == set(range(REQUESTS))
    grown_ns = after[f"{part}_ns"] - np.array([delayed_ns[step] for step in after.index])
    assert grown_ns.median() == pytest.approx(before[f"{part}_ns"].median(), abs=0.05 * DELAY_NS)
