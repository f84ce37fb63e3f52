"""Every analysis on every public trace, whatever device or profiler wrote it; and figures that other tools gave."""

import dataclasses
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import workbench as wb
from workbench.analyses import names
from workbench.analyses.core.timeline import PARTS

TRACES = (
    "alexnet_a100", "bert_h100", "bert_mi300", "cpu_ops_no_rank", "ddp_a100_rank0of2_nccl_args", "dlrm_8x_v100",
    "gloo_cpu_rank34of300", "linear_rtx2080", "minitoy_mi250", "mtia_inference", "torchrec_v100_rank1of2",
    "triton_a100", "vit_h100",
)  # fmt: skip
ON_A_DEVICE = tuple(name for name in TRACES if name not in ("cpu_ops_no_rank", "gloo_cpu_rank34of300"))

# HTA (traceinsight 0.6.1, all steps, nanoseconds): compute, other device work and idle, in % of each rank's window; and
# how much of its communication runs under compute (tests/benchmarks/hta_agreement.py).
HTA = {
    "alexnet_a100": [(0.08, 0.43, 99.49, None)],
    "bert_h100": [(7.86, 0.06, 92.08, None)],
    "bert_mi300": [(11.11, 0.07, 88.82, None)],
    "ddp_a100_rank0of2_nccl_args": [(17.51, 6.33, 76.16, 15.61)],
    "dlrm_8x_v100": [
        (7.95, 42.71, 49.34, 4.50), (6.65, 59.07, 34.28, 2.47), (9.41, 28.51, 62.08, 7.88), (6.58, 50.22, 43.20, 3.31),
        (6.79, 39.64, 53.57, 0.56), (6.35, 38.01, 55.64, 0.64), (9.21, 28.99, 61.80, 7.56), (9.66, 14.59, 75.75, 9.51),
    ],
    "linear_rtx2080": [(36.62, 0.16, 63.22, None)],
    "minitoy_mi250": [(1.24, 0.43, 98.33, None)],
    "triton_a100": [(100, 0, 0, None)],
    "vit_h100": [(16.15, 0.06, 83.79, None)],
}  # fmt: skip


@pytest.fixture(scope="module")
def run_of(real_data):
    """name -> Run, each loaded once."""

    @cache
    def load(name: str) -> wb.Run:
        folder = real_data / "traces" / name
        return wb.load(folder if folder.is_dir() else Path(f"{folder}.json.gz"))

    return load


@pytest.mark.parametrize("analysis", names())
@pytest.mark.parametrize("trace", TRACES)
def test_every_analysis_answers(run_of, trace, analysis):
    result = wb.analyze(run_of(trace), analysis)
    told = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert set(told) == {"analysis", "summary", "rows", "notes"}
    reasons = [note for note in told["notes"] if note.startswith("not applicable:")]
    assert (told["rows"] == []) == (len(reasons) == 1) and len(reasons) <= 1


@pytest.mark.parametrize("trace", TRACES)
def test_parts_of_time_sum_to_the_window(run_of, trace):
    for by in ("rank", "step", "lane"):
        table = wb.analyze(run_of(trace), "time", by=by).table
        assert np.allclose(table[[f"{part}_pct" for part in PARTS]].sum(axis=1), 100)


@pytest.mark.parametrize("trace", ON_A_DEVICE)
def test_gaps_of_a_stream_are_idle_time(run_of, trace):
    """The rest of a stream's idle time lies before its first and after its last event."""
    lanes = wb.analyze(run_of(trace), "time", by="lane").table.set_index(["rank", "lane"])
    gaps = wb.analyze(run_of(trace), "time", by="idle").table
    if len(gaps):
        assert np.allclose(gaps.groupby(["rank", "lane"])["idle_share"].sum(), 1)
        gap_ns = gaps.groupby(["rank", "lane"])["idle_ns"].sum()
        assert (gap_ns <= lanes.loc[gap_ns.index, "idle_ns"]).all()


@pytest.mark.parametrize("trace", HTA)
def test_time_agrees_with_hta(run_of, trace):
    rows = wb.analyze(run_of(trace), "time").table.to_dict("records")
    for row, (compute, other, idle, overlapped) in zip(rows, HTA[trace], strict=True):
        ours = [row["compute_pct"], row["communication_pct"] + row["copy_pct"], row["idle_pct"]]
        assert ours == pytest.approx([compute, other, idle], abs=0.05)
        if overlapped is not None:
            assert 100 * row["overlapped_communication_share"] == pytest.approx(overlapped, abs=0.05)


def test_time_agrees_with_hta_on_events_whose_launch_was_seen(run_of):
    """HTA leaves out what was launched before the recording began."""
    run = run_of("torchrec_v100_rank1of2")
    events = run.events
    launched = dataclasses.replace(run, events=events[(events["device"] == "cpu") | (events["launch_id"] >= 0)])
    (row,) = wb.analyze(launched, "time").table.to_dict("records")
    ours = [row["compute_pct"], row["communication_pct"] + row["copy_pct"], row["idle_pct"]]
    assert ours == pytest.approx([69.12, 23.94, 6.94], abs=0.05)
    assert 100 * row["overlapped_communication_share"] == pytest.approx(69.07, abs=0.05)


def test_temporal_breakdown_of_dlrm(run_of):
    """TraceLens's figures for rank 0, which tell exposed communication from copies."""
    row = wb.analyze(run_of("dlrm_8x_v100"), "time").table.iloc[0]
    told = [row[f"{part}_pct"] for part in ("compute", "communication", "copy", "idle")]
    assert told == pytest.approx([7.95, 42.56, 0.15, 49.34], abs=0.05)


@pytest.mark.parametrize("trace", TRACES)
def test_roofline_counts_all_time_once(run_of, trace):
    result = wb.analyze(run_of(trace), "roofline")
    assert result.table["time_share"].sum() == pytest.approx(1)
    assert 0 <= result.summary["covered_time_share"] <= 1 + 1e-9
    # Compiled regions, a stand-alone Triton kernel and MTIA's executors name no operators.
    if trace in ON_A_DEVICE and not trace.startswith(("torchrec", "triton", "mtia")):
        assert result.summary["other_kernel_time_pct"] <= 5


@pytest.mark.parametrize("trace", ("bert_h100", "bert_mi300", "dlrm_8x_v100", "torchrec_v100_rank1of2"))
def test_kernels_share_the_work_of_operators(run_of, trace):
    """Rows by kernel hold the same calls, time and FLOPs as those by operator."""
    operators, kernels = (wb.analyze(run_of(trace), "roofline", by=by).table for by in ("operator", "kernel"))
    for total in ("calls", "duration_ns", "flops"):
        assert kernels[total].sum() == pytest.approx(operators[total].sum())
    assert set(kernels["name"]) <= set(run_of(trace).events.query("device != 'cpu'")["name"])


@pytest.mark.parametrize("trace", ("bert_h100", "dlrm_8x_v100", "cpu_ops_no_rank"))
def test_compulsory_bytes_of_operators_make_up_those_of_tiers(run_of, trace):
    tiers = wb.analyze(run_of(trace), "memory_tiers").table.set_index("tier")
    operators = wb.analyze(run_of(trace), "memory_tiers", by="operator").table
    sums = operators.groupby("tier")[["read_bytes", "write_bytes"]].sum()
    assert np.allclose(sums, tiers.loc[sums.index, ["read_bytes", "write_bytes"]])
    assert set(operators.loc[operators["tier"].isin(("dram", "hbm")), "source"]) == {"modelled"}
    assert set(operators.loc[operators["tier"] == "pcie", "source"]) <= {"measured"}


@pytest.mark.parametrize("trace", ("ddp_a100_rank0of2_nccl_args", "dlrm_8x_v100", "gloo_cpu_rank34of300"))
def test_communication_says_who_waits_for_whom(run_of, trace):
    result = wb.analyze(run_of(trace), "communication")
    keys = "rank, collective, calls, bytes, duration_ns, wait_ns, transfer_ns, busbw_bytes_per_s"
    assert set(keys.split(", ")) <= set(result.to_dict()["rows"][0])
    assert {"last_arrivals", "shared_pct"} <= set(result.summary)
    calls = wb.analyze(run_of(trace), "communication", by="call").table
    events = run_of(trace).events
    assert (
        calls["start_ns"]
        .between(0, (events["start_ns"] + events["duration_ns"]).max() - events["start_ns"].min())
        .all()
    )
    if trace == "dlrm_8x_v100":
        assert result.summary["last_arrivals"] == {7: 5, 5: 2, 4: 1}
        assert result.summary["shared_pct"] == pytest.approx(3.6, abs=0.2)


def test_one_model_on_two_vendors(run_of):
    """The same operators with the same shapes stand side by side, and the changes make up the whole."""
    result = wb.compare(run_of("bert_h100"), run_of("bert_mi300"))
    table, summary = result.table, result.summary
    assert set(table["status"]) <= {"grew", "shrank", "same"}
    assert (table["calls_a"] == table["calls_b"]).all() and len(table) == 17
    assert table["contribution_pct"].sum() == pytest.approx(100)
    assert table["delta_ns"].sum() == pytest.approx(summary["step_b_ns"] - summary["step_a_ns"])
