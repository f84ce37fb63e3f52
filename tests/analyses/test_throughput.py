"""Speed of our own runs from their step spans: what is dropped, where steady state begins, what a profiler costs."""

import math

import numpy as np
import pytest
from hand_made import event, run_of, span

from workbench.analyses.core.throughput import steady_from, step_times
from workbench.analyses.time import time
from workbench.machine.ceilings import Ceilings

MANIFEST = {"samples_per_step": 64, "ranks": 2, "threads_per_rank": 1, "model_flops_per_sample": 1e6}


def training(durations_ns, tags=None, slower_ns=0, **fields):
    """Two ranks whose steps take these times, rank 1 longer by `slower_ns`."""
    tags = tags or {}
    spans = [
        span("step", "span", at, at + duration + slower_ns * rank, step=step, rank=rank, tags=tags.get(step, ""))
        for rank in (0, 1)
        for step, (duration, at) in enumerate(zip(durations_ns, np.cumsum([0, *durations_ns]) * 2, strict=False))
    ]
    return run_of(*spans, manifest=MANIFEST, **fields)


def test_throughput_by_hand():
    tags = {0: "warmup", 1: "warmup", 10: "profiled", 11: "profiled"}
    durations = [5_000_000] * 2 + [1_000_000] * 8 + [1_100_000] * 2 + [1_000_000] * 10
    result = time(training(durations, tags, slower_ns=0))
    summary = result.summary
    assert summary["steady_steps"] == 18
    assert summary["step_p50_ns"] == summary["step_p95_ns"] == 1_000_000
    assert summary["samples_per_s"] == summary["p25_samples_per_s"] == pytest.approx(64_000)
    assert summary["profiled_step_ratio"] == pytest.approx(1.1)
    assert "1.10 times" in result.notes[0]
    assert math.isnan(summary["mfu_share"])


def test_a_step_takes_as_long_as_its_slowest_rank():
    assert time(training([1_000_000] * 10, slower_ns=250_000)).summary["step_p50_ns"] == 1_250_000


def test_cheap_profiling_is_not_complained_about():
    result = time(training([1000] * 10 + [1040] * 2, {10: "profiled", 11: "profiled"}))
    assert result.summary["profiled_step_ratio"] == pytest.approx(1.04)
    assert not any("inflated" in note for note in result.notes)


def test_mfu_by_hand():
    peak = {"kind": "compute", "precision": "fp32", "device": "cpu", "unit": "FLOP/s", "source": "measured"}
    rows = [peak | {"cores": cores, "value": 80e9 * cores} for cores in (1, 2)]
    summary = time(training([1_000_000] * 10, ceilings=Ceilings.from_rows(rows, {}))).summary
    assert summary["mfu_share"] == pytest.approx(64_000 * 1e6 / 160e9)


def test_a_killed_run_counts_the_steps_that_all_ranks_finished():
    run = training([1000] * 6)
    unfinished = (run.events["rank"] == 1) & (run.events["step"] == 5)
    run.events = run.events[~unfinished]
    assert step_times(run)["step"].tolist() == [0, 1, 2, 3, 4]


def test_a_run_without_step_spans_has_no_throughput():
    assert "samples_per_s" not in time(run_of(event("aten::mm", "compute", 0, 10))).summary


@pytest.mark.parametrize(
    ("durations", "expected"),
    [
        ([100] * 30, 0),
        ([300] * 6 + [100] * 30, 4),  # the first five steps with a median of 100 still hold two slow ones
        ([50, 150] * 20, 20),  # never settles: the second half
        ([100], 0),
        ([500, 100], 1),
    ],
)
def test_steady_state_begins_where_the_median_settles(durations, expected):
    assert steady_from(np.array(durations)) == expected
