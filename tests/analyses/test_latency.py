"""The latency analysis on requests worked out by hand, on random trees, and against theory."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_lanes import one_span

from workbench.analyses.core import block_bootstrap
from workbench.analyses.core.block_bootstrap import block_length, interval_95, percentile_draws
from workbench.analyses.core.request_parts import EMBEDDED_PARTS, PARTS
from workbench.analyses.latency import latency
from workbench.errors import InputError
from workbench.metrics import define
from workbench.trace.loader import load
from workbench.trace.rundir import RunDirectory

US = 1000


class Written:
    """A run directory written span by span, in microseconds; every process has a clock of its own."""

    def __init__(self, folder, **config):
        self._directory = RunDirectory.create(
            folder, "inference", "by-hand", config={"strategy": "load_balanced", **config}, host={"usable_cpus": [0, 1]}
        )
        self._recorders, self._spans = {}, 0

    def span(self, process, lane, name, kind, start, end, parent=0, cpu=0, **fields):
        """Returns the span's id."""
        self._spans += 1
        if process not in self._recorders:
            self._recorders[process] = self._directory.recorder(process)
        self._recorders[process].add_line(
            one_span(
                name, kind, start * US, end * US, lane=lane, trace="1" * 32, number=self._spans, around=parent,
                cpu_ns=cpu * US, **fields,
            )
        )  # fmt: skip
        return self._spans

    def cpu(self, process, *readings):
        for reading in readings:
            self._recorders[process].metric("process_cpu_ns", reading * US)

    def load(self):
        for recorder in self._recorders.values():
            recorder.close()
        self._directory.finish("complete")
        return load(self._directory.path)


def write_rpc(run, lane, shard, start, end, net, shard_start):
    """An RPC operator around a shard's 100 us; returns its id."""
    operator = run.span("main", lane, "rpc_operator", "span", start, end, net, cpu=20)
    run.span("main", lane, "serialize", "serialization", start + 2, start + 10, operator, cpu=8)
    rpc = run.span("main", lane, "rpc", "communication", start + 12, end - 10, operator, message_bytes=500)
    run.span("main", lane, "deserialize", "serialization", end - 8, end - 2, operator, cpu=6)
    at = shard_start
    handler = run.span(shard, "request-0", "handler", "span", at, at + 100, rpc, cpu=90)
    run.span(shard, "request-0", "deserialize", "serialization", at, at + 10, handler, cpu=10)
    inner = run.span(shard, "request-0", "net", "span", at + 12, at + 82, handler, cpu=68)
    run.span(shard, "request-0", "sparse_lookup", "compute", at + 16, at + 76, inner, cpu=60)
    run.span(shard, "request-0", "serialize", "serialization", at + 84, at + 96, handler, cpu=12)


def write_request(run, step=0, tags="", at=0):
    """One request of 1,000 us: its first net waits for shard-0, its second for its own bottom layers."""
    mine = {"step": step}
    root = run.span("client", "request-0", "request", "span", at, at + 1000, tags=tags, **mine)
    run.span("client", "request-0", "send_delay", "wait", at, at + 50, root)
    run.span("client", "request-0", "serialize", "serialization", at + 60, at + 100, root)
    rpc = run.span("client", "request-0", "rpc", "communication", at + 110, at + 950, root)
    run.span("client", "request-0", "deserialize", "serialization", at + 960, at + 990, root)

    def main(name, kind, start, end, parent, lane="request-0", **fields):
        return run.span("main", lane, name, kind, at + start, at + end, parent, **mine, **fields)

    handler = main("handler", "span", 5000, 5800, rpc, cpu=100)
    main("queue", "wait", 5000, 5020, handler)
    main("deserialize", "serialization", 5030, 5060, handler, cpu=30)
    wait = main("batch_wait", "wait", 5070, 5700, handler, cpu=10)
    main("serialize", "serialization", 5710, 5760, handler, cpu=50)
    batch = main("batch", "span", 5080, 5690, wait, "batch-0", cpu=400)
    user = main("net", "span", 5090, 5400, batch, "batch-0", cpu=150)
    main("cut", "memory", 5090, 5100, user, "batch-0", cpu=10)
    main("bottom", "compute", 5120, 5180, user, "batch-0", cpu=60)
    main("rpc_wait", "wait", 5190, 5340, user, "batch-0")
    main("join", "memory", 5345, 5350, user, "batch-0", cpu=5)
    main("top", "compute", 5352, 5390, user, "batch-0", cpu=38)
    write_rpc(run, "shard-0", "shard-0", at + 5110, at + 5330, user, at + 777_000)
    write_rpc(run, "shard-1", "shard-1", at + 5112, at + 5250, user, at + 1000)
    item = main("net", "span", 5410, 5680, batch, "batch-0", cpu=240)
    main("cut", "memory", 5410, 5420, item, "batch-0", cpu=10)
    main("bottom", "compute", 5430, 5600, item, "batch-0", cpu=170)
    main("rpc_wait", "wait", 5605, 5607, item, "batch-0")
    main("top", "compute", 5610, 5670, item, "batch-0", cpu=60)
    write_rpc(run, "shard-1", "shard-1", at + 5425, at + 5560, item, at + 2000)


def parts_us(row, names=PARTS, prefix=""):
    return {name: row[f"{prefix}{name}_ns"] / US for name in names}


@pytest.fixture
def by_hand(tmp_path):
    run = Written(tmp_path)
    write_request(run)
    return run


def test_a_request_worked_out_by_hand(by_hand):
    (row,) = latency(by_hand.load(), by="request").table.to_dict("records")
    assert row["end_to_end_ns"] == 1000 * US
    expected = {"dense": 293, "embedded": 220, "serialization": 150, "service": 110, "scheduling": 187}
    assert parts_us(row) == {**expected, "unaccounted": 40}
    expected = {"network": 98, "serialization": 36, "service": 8, "scheduling": 18, "sparse": 60}
    assert parts_us(row, EMBEDDED_PARTS, "embedded_") == expected
    assert row["queued_ns"] == 70 * US
    assert (row["bounding_shard"], row["rpcs"], row["source"]) == ("shard-0", 3, "measured")


def test_cpu_time_counts_every_shard_and_not_the_caller(by_hand):
    by_hand.cpu("main", 1000, 3000)
    by_hand.cpu("shard-1", 500, 600)
    (row,) = latency(by_hand.load(), by="request").table.to_dict("records")
    # Of main 100 + 400 and three RPC operators of 20, of shards three times 90.
    assert parts_us(row, ("dense", "sparse", "serialization"), "cpu_") == {
        "dense": 353, "sparse": 180, "serialization": 80 + 3 * 14 + 3 * 22,
    }  # fmt: skip
    spans_us = sum(parts_us(row, ("dense", "sparse", "serialization", "service", "scheduling"), "cpu_").values())
    assert spans_us == 100 + 400 + 3 * 20 + 3 * 90


def test_cpu_time_outside_of_spans_is_a_mean(tmp_path):
    run = Written(tmp_path)
    for step in range(3):
        write_request(run, step, at=10_000 * step)
    run.cpu("main", 1000, 3000, 5000)
    (first, *_) = latency(run.load(), by="request").table.to_dict("records")
    assert first["cpu_outside_ns"] == pytest.approx((2000 - (100 + 400 + 3 * 20 + 3 * 90)) * US)


def test_shards_by_hand(by_hand):
    table = latency(by_hand.load(), by="shard").table.set_index("shard")
    assert table.loc["shard-0"].to_dict() == {
        "calls": 1, "bounding_share": 1.0, "outstanding_ns": 198 * US, "shard_ns": 100 * US, "sparse_ns": 60 * US,
        "message_bytes": 500, "network_ns": 98 * US, "source": "measured",
    }  # fmt: skip
    assert table.loc["shard-1", ["calls", "bounding_share"]].tolist() == [2, 0.0]


def test_warm_up_and_failures_are_left_out(tmp_path):
    run = Written(tmp_path)
    write_request(run, 0, "warmup")
    write_request(run, 1, "error", at=10_000)
    write_request(run, 2, at=20_000)
    result = latency(run.load(), by="request")
    assert list(result.table["step"]) == [2]
    assert (result.summary["requests"], result.summary["failed_requests"]) == (1, 1)


def test_strands_in_turn_are_put_side_by_side(tmp_path):
    """Two RPCs in turn, 50 and 80 us, beside bottom layers of 30 us."""
    run = Written(tmp_path, uncontended=True)
    handler = run.span("main", "request-0", "handler", "span", 0, 200)
    run.span("main", "request-0", "cut", "memory", 0, 8, handler)
    run.span("main", "request-0", "bottom", "compute", 15, 45, handler)
    run.span("main", "shard-0", "rpc_operator", "span", 10, 60, handler)
    run.span("main", "shard-1", "rpc_operator", "span", 60, 140, handler)
    run.span("main", "request-0", "rpc_wait", "wait", 50, 150, handler)
    run.span("main", "request-0", "top", "compute", 155, 195, handler)
    (row,) = latency(run.load(), by="request").table.to_dict("records")
    expected = {"dense": 48, "embedded": 80, "serialization": 0, "service": 12, "scheduling": 10, "unaccounted": 0}
    assert parts_us(row) == expected and row["source"] == "modelled"


def test_side_by_side_the_lanes_own_work_counts_where_it_is_longer(tmp_path):
    run = Written(tmp_path, uncontended=True)
    handler = run.span("main", "request-0", "handler", "span", 0, 200)
    run.span("main", "shard-0", "rpc_operator", "span", 10, 60, handler)
    run.span("main", "request-0", "bottom", "compute", 15, 115, handler)
    run.span("main", "shard-1", "rpc_operator", "span", 60, 140, handler)
    run.span("main", "request-0", "rpc_wait", "wait", 120, 150, handler)
    (row,) = latency(run.load(), by="request").table.to_dict("records")
    assert parts_us(row, ("dense", "embedded", "scheduling")) == {"dense": 100, "embedded": 0, "scheduling": 10}


def test_a_simulated_network_makes_the_result_simulated(tmp_path):
    run = Written(tmp_path)
    handler = run.span("main", "request-0", "handler", "span", 0, 200)
    operator = run.span("main", "request-0", "rpc_operator", "span", 10, 60, handler)
    run.span("main", "request-0", "network", "communication", 10, 40, operator, source="simulated")
    (row,) = latency(run.load(), by="request").table.to_dict("records")
    assert row["source"] == "simulated" and row["embedded_network_ns"] == 30 * US


def test_what_simulating_a_network_takes_is_no_requests_cpu_time(tmp_path):
    run = Written(tmp_path)
    handler = run.span("main", "request-0", "handler", "span", 0, 200, cpu=90)
    operator = run.span("main", "request-0", "rpc_operator", "span", 10, 60, handler, cpu=40)
    rpc = run.span("main", "request-0", "rpc", "communication", 10, 50, operator, cpu=35)
    run.span("main", "request-0", "network", "communication", 10, 40, rpc, cpu=25, source="simulated")
    result = latency(run.load(), by="request")
    (row,) = result.table.to_dict("records")
    assert parts_us(row, ("service", "scheduling"), "cpu_") == {"service": 50 + 10, "scheduling": 5}
    assert result.summary["cpu_ns"] == (90 - 25) * US


def test_percentiles_are_stacks_of_requests_and_every_key_is_defined(tmp_path):
    run = Written(tmp_path)
    for step in range(200):
        start = 10_000 * step
        root = run.span("client", "request-0", "request", "span", start, start + 100 + step, step=step)
        run.span("client", "request-0", "serialize", "serialization", start, start + 50 + step, root, step=step)
    loaded = run.load()
    results = [latency(loaded, by=by) for by in ("percentile", "request", "shard", "tail")]
    results.append(latency(loaded, baseline=loaded.path))
    table = results[0].table.set_index("percentile")
    latencies_us = 100 + np.arange(200)
    for percentile, row in table.iterrows():
        assert row["latency_ns"] == pytest.approx(np.percentile(latencies_us, percentile) * US)
        assert row["end_to_end_ns"] == pytest.approx(row["latency_ns"], rel=0.02)
        assert sum(parts_us(row).values()) == pytest.approx(row["end_to_end_ns"] / US)
        assert row["latency_low_ns"] <= row["latency_ns"] <= row["latency_high_ns"]
    tail = results[3].table.set_index("part")
    assert tail.loc["serialization", "excess_share"] == pytest.approx(1) and len(results[2].table) == 0
    overhead = results[4].table
    assert (overhead["overhead_pct"] == 0).all() and (overhead["overhead_low_pct"] < 0).all()
    for result in results:
        for key in [*result.table.columns, *result.summary]:
            assert define("latency", key), key


def test_what_does_not_apply_says_so(golden_run, by_hand):
    assert not latency(golden_run).applies
    with pytest.raises(InputError, match="no distributed request"):
        latency(by_hand.load(), baseline=golden_run.path)


@st.composite
def trees(draw):
    """Spans (name, kind, lane, start, end, parent) of one process: work in order, and strands that waits join."""
    spans = []

    def grow(lane, start, end, parent, depth):
        spans.append((draw(st.sampled_from(["net", "top", "odd"])), "span", lane, start, end, parent))
        me, at = len(spans), start
        while depth and end - at > 4 and draw(st.booleans()):
            first = draw(st.integers(at, end - 2))
            last = draw(st.integers(first + 1, end))
            if draw(st.booleans()):
                grow(lane, first, last, me, depth - 1)
            else:
                spans.append(("rpc_wait", "wait", lane, first, last, me))
                for strand in range(draw(st.integers(1, 3))):
                    begin = draw(st.integers(at, last - 1))
                    grow(f"{lane}/{len(spans)}-{strand}", begin, draw(st.integers(begin + 1, last)), me, depth - 1)
            at = last

    grow("0", 0, draw(st.integers(10, 1000)), 0, 3)
    return spans


@settings(max_examples=30, deadline=None)
@given(trees())
def test_own_times_of_a_path_sum_to_the_request(tmp_path_factory, spans):
    run = Written(tmp_path_factory.mktemp("random"))
    for number, (name, kind, lane, start, end, parent) in enumerate(spans):
        name, kind = ("handler", "span") if number == 0 else (name, kind)
        run.span("main", lane, name, kind, start, end, parent)
    (row,) = latency(run.load(), by="request").table.to_dict("records")
    assert row["end_to_end_ns"] == spans[0][4] * US == sum(row[f"{part}_ns"] for part in PARTS)
    assert all(row[f"{part}_ns"] >= 0 for part in PARTS)


def autoregressive(count, correlation, random):
    noise = random.normal(size=count)
    values = np.empty(count)
    values[0] = noise[0] / np.sqrt(1 - correlation**2)
    for index in range(1, count):
        values[index] = correlation * values[index - 1] + noise[index]
    return values


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_intervals_of_the_median_hold_it_as_often_as_they_say(correlation):
    """The median of an autoregressive process is 0; a bootstrap of single values would hold it in 50 % at 0.8."""
    random = np.random.default_rng(0)
    hits = 0
    for seed in range(60):
        low, high = interval_95(percentile_draws(autoregressive(600, correlation, random), [50.0], seed, draws=200))
        hits += low[0] <= 0 <= high[0]
    assert 0.85 <= hits / 60 <= 1.0


def test_blocks_are_longer_where_values_hang_together():
    random = np.random.default_rng(0)
    assert block_length(random.normal(size=1000)) == 10
    assert block_length(autoregressive(1000, 0.9, random)) > 40
    assert block_length(np.ones(8)) == 2


def test_draws_are_the_same_however_many_are_made_at_once(monkeypatch):
    values, percentiles = np.random.default_rng(0).lognormal(size=40), [50.0, 90.0]
    at_once = percentile_draws(values, percentiles, 3, draws=20)
    monkeypatch.setattr(block_bootstrap, "_VALUES_AT_ONCE", 100)
    np.testing.assert_array_equal(percentile_draws(values, percentiles, 3, draws=20), at_once)
    assert len(np.unique(at_once[:, 0])) > 10 and (at_once[:, 0] < at_once[:, 1]).all()
