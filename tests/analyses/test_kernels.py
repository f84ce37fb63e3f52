"""The kernels analysis on tables worked out by hand, against independent implementations, and on public traces."""

import numpy as np
import pandas as pd
import pytest
from hand_made import event, kernel, run_of
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.analyses.core.device_kernels import queue_lengths
from workbench.analyses.core.fused import fused_operators
from workbench.analyses.kernels import kernels
from workbench.metrics import define
from workbench.trace.loader import load

# Launches by event number. The second kernel waits for the first; the third begins before its call returns; of the
# last one nobody knows the launch.
STREAM = (
    event("aten::mm", "compute", 0, 20),
    event("cudaLaunchKernel", "runtime", 5, 9),
    kernel("gemm", "compute", 15, 35, launch_id=1),
    event("aten::add", "compute", 20, 30),
    event("cudaLaunchKernel", "runtime", 22, 26),
    kernel("add", "compute", 35, 37, launch_id=4),
    event("cudaLaunchKernel", "runtime", 40, 44),
    kernel("add", "compute", 42, 50, launch_id=6),
    kernel("Memcpy DtoH", "memory", 60, 61),
)


def rows(run, by, key):
    return kernels(run, by=by).table.set_index(key)


def test_durations_by_hand():
    table = rows(run_of(*STREAM), "name", "name")
    assert list(table.index) == ["gemm", "add", "Memcpy DtoH"]
    assert table.loc["add", ["kind", "operator", "calls", "duration_ns", "min_ns", "max_ns"]].tolist() == [
        "compute", "(no operator)", 2, 10, 2, 8,
    ]  # fmt: skip
    assert table.loc["add", ["mean_ns", "p50_ns", "p95_ns"]].tolist() == pytest.approx([5, 5, 7.7])
    assert table["time_share"].tolist() == pytest.approx([20 / 31, 10 / 31, 1 / 31])
    assert set(table["source"]) == {"measured"}


def test_launches_by_hand():
    result = kernels(run_of(*STREAM))
    assert result.summary["launch_overhead_ns"] == 4
    assert result.summary["short_share"] == 0.5 and result.summary["short_time_share"] == pytest.approx(3 / 31)
    assert result.summary["launched_share"] == 0.75
    assert result.summary["delay_p50_ns"] == 6  # of 6, 9 and 0
    assert result.summary["queued_share"] == pytest.approx(9 / 15)
    table = result.table.set_index("name")
    assert table["delay_p50_ns"].tolist()[:2] == [6, 4.5] and np.isnan(table.loc["Memcpy DtoH", "delay_p50_ns"])
    assert table["short_share"].tolist() == [0, 0.5, 1]
    assert any("75.0%" in note for note in result.notes)


def test_a_queue_by_hand():
    (row,) = kernels(run_of(*STREAM), by="stream").table.to_dict("records")
    assert (row["rank"], row["device"], row["lane"], row["calls"]) == (0, "cuda:0", "stream 7", 4)
    assert row["queue_max"] == 2
    assert row["queue_mean"] == pytest.approx((30 + 15 + 10 + 1) / (61 - 5))


def test_streams_do_not_queue_behind_one_another():
    run = run_of(
        event("cudaLaunchKernel", "runtime", 0, 1),
        event("cudaLaunchKernel", "runtime", 2, 3),
        kernel("long", "compute", 4, 100, launch_id=0),
        kernel("other", "compute", 40, 50, launch_id=1, lane="stream 9"),
    )
    table = rows(run, "stream", "lane")
    assert table.loc["stream 9", ["delay_p50_ns", "queued_share", "queue_max"]].tolist() == [37, 0, 1]


def test_a_graph_launch_is_shared_by_its_kernels():
    graph = [event("cudaGraphLaunch", "runtime", 0, 12)]
    run = run_of(*graph, *(kernel("k", "compute", 20 * n, 20 * n + 5, launch_id=0) for n in (1, 2, 3)))
    assert kernels(run).summary["launch_overhead_ns"] == 4


def test_the_operator_that_launched():
    run = run_of(
        event("ProfilerStep#0", "span", 0, 1000, step=0),
        event("CppNode<SplitLookupFunction>", "runtime", 0, 40, step=0),
        event("aten::linear", "compute", 100, 200, step=0),
        event("aten::addmm", "compute", 110, 190, step=0),
        *(event("cudaLaunchKernel", "runtime", at, at + 4, step=0) for at in (10, 120, 300)),
        *(kernel("k", "compute", 500 + 20 * n, 510 + 20 * n, launch_id=4 + n, step=0) for n in range(3)),
        kernel("triton_red_fused_add_sum_4", "compute", 600, 640, launch_id=6, step=0),
    )
    assert rows(run, "operator", "operator")["duration_ns"].to_dict() == {
        "aten::add + aten::sum": 40, "CppNode<SplitLookupFunction>": 10, "aten::addmm": 10, "(no operator)": 10,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "operators"),
    [
        ("triton_poi_fused_add_cos_sin_0", "aten::add + aten::cos + aten::sin"),
        ("triton_per_fused__to_copy_native_layer_norm_12", "aten::_to_copy + aten::native_layer_norm"),
        ("triton_red_fused_native_layer_norm_backward_1", "aten::native_layer_norm_backward"),
        ("triton_poi_fused_no_such_operator_add_3", "aten::no_such_operator + aten::add"),
        ("triton_tem_fused_mm_5d0d1de", "aten::mm"),
        ("triton_poi_fused_7", ""),
        ("my_triton_kernel", ""),
    ],
)
def test_names_of_fused_kernels(name, operators):
    assert fused_operators(name) == operators


def test_modules_by_hand():
    modules = [
        event(f"nn.Module: {name}", "span", start, end, lane="thread 1/python")
        for name, start, end in (("Net_0", 0, 100), ("Linear_0", 10, 40), ("Linear_1", 50, 90))
    ]
    run = run_of(
        *modules,
        event("model.py(3): forward", "span", 10, 40, lane="thread 1/python"),
        *(event("cudaLaunchKernel", "runtime", at, at + 2) for at in (12, 45, 60, 120)),
        event("cudaLaunchKernel", "runtime", 60, 62, lane="thread 2"),
        *(kernel("k", "compute", 200 + 10 * n, 202 + 10 * n, launch_id=4 + n) for n in range(5)),
        kernel("unlaunched", "compute", 300, 301),
    )
    result = kernels(run, by="module")
    table = result.table.set_index("module")
    assert table["calls"].to_dict() == {"Linear_0": 1, "Net_0": 1, "Linear_1": 1, "(no module)": 3}
    assert table["inside"].to_dict() == {"Linear_0": "Net_0", "Net_0": "", "Linear_1": "Net_0", "(no module)": ""}
    assert any("(no module)" in note for note in result.notes)


def test_ranks_are_pooled_and_warm_up_is_left_out():
    run = run_of(
        *(kernel("k", "compute", 0, 10 * (1 + rank), rank=rank, step=1) for rank in range(2)),
        kernel("k", "compute", 100, 900, step=0, tags="warmup"),
    )
    (row,) = kernels(run).table.to_dict("records")
    assert (row["calls"], row["duration_ns"], row["p50_ns"]) == (2, 30, 15)


def test_what_it_cannot_say():
    host = kernels(run_of(event("aten::mm", "compute", 0, 10)))
    assert not host.applies and "no device worked" in host.reason
    assert "with_modules" in kernels(run_of(*STREAM), by="module").reason
    unlinked = kernels(run_of(kernel("k", "compute", 0, 10)))
    assert np.isnan(unlinked.summary["short_share"]) and np.isnan(unlinked.table["short_share"][0])
    assert any("unknown" in note for note in unlinked.notes)


@pytest.mark.parametrize("by", ["name", "operator", "module", "stream"])
def test_every_key_is_defined(by):
    module = event("nn.Module: Net_0", "span", 0, 100, lane="thread 1/python")
    result = kernels(run_of(*STREAM, module), by=by)
    assert [key for key in [*result.table, *result.summary] if define("kernels", key) is None] == []


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20), st.integers(1, 20)), min_size=1, max_size=12))
def test_queue_lengths_are_those_of_a_count_at_every_instant(events):
    launch, wait, length = (np.array(column) for column in zip(*events, strict=True))
    end = launch + wait + length
    table = pd.DataFrame({"launch_ns": launch, "end_ns": end})
    (row,) = queue_lengths(table.assign(process="p", device="cuda:0", lane="stream 7")).to_dict("records")
    counts = [((launch <= now) & (now < end)).sum() for now in range(launch.min(), end.max())]
    assert row["queue_max"] == max(counts)
    assert row["queue_mean"] == pytest.approx(np.mean(counts))


def test_public_dlrm(real_data):
    """NCCL's time is the sum that the data's README states."""
    result = kernels(load(real_data / "traces" / "dlrm_8x_v100"))
    talk = result.table[result.table["kind"] == "communication"]
    assert talk["duration_ns"].sum() / 1e6 == pytest.approx(48.5, abs=0.1)
    assert talk["calls"].sum() == 8 * 8
    assert result.summary["launched_share"] > 0.9


@pytest.mark.parametrize(
    "file", ["torchrec_v100_rank1of2", "alexnet_a100", "linear_rtx2080", "mtia_inference", "bert_mi300"]
)
def test_public_traces_agree_whatever_the_rows(real_data, file):
    run = load(real_data / "traces" / f"{file}.json.gz")
    tables = [kernels(run, by=by).table for by in ("name", "operator", "stream")]
    for table in tables:
        assert table["duration_ns"].sum() == tables[0]["duration_ns"].sum() > 0
        assert table["calls"].sum() == tables[0]["calls"].sum()
        assert table["time_share"].sum() == pytest.approx(1)
        assert (table["min_ns"] <= table["p50_ns"]).all() and (table["p95_ns"] <= table["max_ns"]).all()


def test_public_trace_with_a_compiled_kernel(real_data):
    run = load(real_data / "traces" / "triton_a100.json.gz")
    (row,) = kernels(run, by="operator").table.to_dict("records")
    assert (row["operator"], row["calls"], row["duration_ns"]) == ("aten::add + aten::cos + aten::sin", 1, 1760)


def test_public_trace_with_modules(real_data):
    table = kernels(load(real_data / "traces" / "bert_h100.json.gz"), by="module").table
    first = table.iloc[0]
    assert (first["module"], first["inside"].split(".")[0]) == ("Linear_25", "BertLMHeadModel_0")
    assert "(no module)" not in set(table["module"])
