"""The time analysis on tables small enough to work out by hand, on random tables, and on public traces."""

import pytest
from hand_made import event, kernel, run_of, span
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.analyses.core.timeline import PARTS
from workbench.analyses.time import time
from workbench.metrics import define
from workbench.trace.loader import load


def parts_ns(row):
    return {part: int(row[f"{part}_ns"]) for part in PARTS}


def only_row(run, **options):
    (row,) = time(run, **options).table.to_dict("records")
    return row


# A device: compute [20, 40] and [62, 70], all-reduce [30, 60], copy [80, 100]; launches by event number.
GPU = (
    event("ProfilerStep#3", "span", 0, 100, step=3),
    event("aten::mm", "compute", 2, 20, step=3),
    event("cudaLaunchKernel", "runtime", 10, 12, step=3),
    kernel("gemm", "compute", 20, 40, step=3, launch_id=2),
    event("c10d::allreduce_", "communication", 22, 30, step=3, collective="all_reduce"),
    event("cudaLaunchKernel", "runtime", 25, 27, step=3),
    kernel("nccl", "communication", 30, 60, step=3, launch_id=5, lane="stream 9", collective="all_reduce"),
    event("aten::add", "compute", 41, 55, step=3),
    event("cudaLaunchKernel", "runtime", 50, 52, step=3),
    kernel("add", "compute", 62, 70, step=3, launch_id=8),
    event("aten::copy_", "memory", 71, 80, step=3),
    event("cudaMemcpyAsync", "runtime", 75, 76, step=3),
    kernel("Memcpy DtoH", "memory", 80, 100, step=3, launch_id=11),
)


def test_device_parts_by_hand():
    row = only_row(run_of(*GPU))
    assert (row["rank"], row["device"], row["steps"], row["window_ns"]) == (0, "cuda:0", 1, 80)
    assert parts_ns(row) == {"compute": 28, "communication": 20, "copy": 20, "host": 0, "idle": 12}
    assert [row[f"{part}_pct"] for part in PARTS] == pytest.approx([35, 25, 25, 0, 15])
    assert row["overlapped_communication_share"] == pytest.approx(1 / 3)


def test_device_lanes_by_hand():
    table = time(run_of(*GPU), by="lane").table.set_index("lane")
    assert parts_ns(table.loc["stream 7"]) == {"compute": 28, "communication": 0, "copy": 20, "host": 0, "idle": 32}
    assert parts_ns(table.loc["stream 9"]) == {"compute": 0, "communication": 30, "copy": 0, "host": 0, "idle": 50}


def test_device_steps_tile_the_window():
    run = run_of(
        kernel("a", "compute", 0, 10, step=0), kernel("b", "compute", 30, 40, step=1),
        kernel("early copy for step 1", "memory", 20, 25, step=1, lane="stream 2"),
        kernel("late end of step 0", "communication", 15, 35, step=0, lane="stream 9"),
    )  # fmt: skip
    table = time(run, by="step").table.set_index("step")
    assert table["window_ns"].tolist() == [20, 20]
    assert parts_ns(table.loc[0]) == {"compute": 10, "communication": 5, "copy": 0, "host": 0, "idle": 5}
    assert parts_ns(table.loc[1]) == {"compute": 10, "communication": 10, "copy": 0, "host": 0, "idle": 0}
    assert only_row(run)["window_ns"] == 40


def test_windows_of_a_device_that_lie_apart_are_not_idle_between():
    steps = [kernel("k", "compute", start, start + 10, step=step) for step, start in ((0, 0), (1, 20), (50, 900))]
    row = only_row(run_of(*steps))
    assert row["window_ns"] == 30 + 10
    assert parts_ns(row)["idle"] == 10


def test_each_late_launch_is_charged_to_the_largest_operator_on_its_thread():
    result = time(run_of(*GPU), by="idle")
    rows = result.table.set_index("name")
    assert rows["idle_ns"].to_dict() == {"aten::add": 22, "aten::copy_": 10}
    assert set(rows["cause"]) == {"host"} and set(rows["lane"]) == {"stream 7"}
    assert rows["before_operator"].to_dict() == {"aten::add": "aten::add", "aten::copy_": "aten::copy_"}
    assert rows["idle_share"].sum() == pytest.approx(1)
    assert result.summary["idle_host_share"] == 1 and result.summary["idle_late_operator"] == "aten::add"


def test_a_gap_in_which_nobody_worked_names_the_operator_after_it():
    run = run_of(
        event("aten::mm", "compute", 0, 10),
        event("cudaLaunchKernel", "runtime", 5, 6),
        kernel("gemm", "compute", 10, 20, launch_id=1),
        event("aten::add", "compute", 100, 110),
        event("cudaLaunchKernel", "runtime", 101, 102),
        kernel("add", "compute", 105, 110, launch_id=4),
    )
    (row,) = time(run, by="idle").table.to_dict("records")
    assert (row["name"], row["before_operator"], row["idle_ns"]) == ("(no operator)", "aten::add", 85)


def test_causes_of_idle_time_by_hand():
    launches = [event("cudaLaunchKernel", "runtime", start, start + 1) for start in (0, 1, 2, 3, 4)]
    run = run_of(
        *launches,
        kernel("first", "compute", 5, 10, launch_id=0),
        kernel("nccl", "communication", 6, 30, lane="stream 9", collective="all_reduce"),
        kernel("after the collective", "compute", 33, 40, launch_id=1),
        kernel("side", "compute", 35, 48, lane="stream 11"),
        kernel("after the side kernel", "compute", 50, 55, launch_id=2),
        kernel("launched in time", "compute", 60, 70, launch_id=3),
        kernel("side", "compute", 62, 100, lane="stream 13"),
        kernel("long after the side kernel", "compute", 20_000, 20_010, launch_id=4),
        kernel("of unknown launch", "compute", 20_015, 20_020),
    )
    table = time(run, by="idle").table
    causes = table[table["lane"] == "stream 7"].groupby("cause")["idle_ns"].sum().to_dict()
    assert causes == {"collective": 23, "kernel": 10, "other": 5 + 19_930 + 5}
    assert set(table.loc[table["cause"] == "collective", "name"]) == {"nccl"}
    assert time(run).summary["idle_threshold_ns"] == 10_000


# A host: the transfer [45, 80] on gloo's thread runs beside a copy, and after it the autograd engine's wrapper.
CPU = (
    event("ProfilerStep#0", "span", 0, 100, step=0),
    event("aten::addmm", "compute", 0, 40, step=0),
    event("c10d::allreduce_", "communication", 40, 50, step=0, collective="all_reduce"),
    event("gloo:all_reduce", "communication", 45, 80, step=0, collective="all_reduce", lane="thread 2"),
    event("aten::copy_", "memory", 50, 60, step=0),
    event("autograd::engine::evaluate_function: MmBackward0", "runtime", 80, 95, step=0),
    event("aten::mm", "compute", 85, 90, step=0),
    event("ProfilerStep#1", "span", 110, 210, step=1),
    event("aten::mm", "compute", 110, 160, step=1),
    event("aten::copy_", "memory", 160, 170, step=1),
)


def test_host_parts_by_hand():
    result = time(run_of(*CPU))
    (row,) = result.table.to_dict("records")
    assert (row["device"], row["steps"], row["window_ns"]) == ("cpu", 2, 210)
    assert parts_ns(row) == {"compute": 95, "communication": 40, "copy": 10, "host": 55, "idle": 10}
    assert any("thread 1" in note for note in result.notes)


def test_host_steps_by_hand():
    table = time(run_of(*CPU), by="step").table.set_index("step")
    assert parts_ns(table.loc[0]) == {"compute": 45, "communication": 40, "copy": 0, "host": 15, "idle": 0}
    assert parts_ns(table.loc[1]) == {"compute": 50, "communication": 0, "copy": 10, "host": 40, "idle": 0}


def test_a_collective_owns_what_runs_inside_it():
    row = only_row(
        run_of(
            event("gloo:all_gather", "communication", 0, 50, collective="all_gather", lane="thread 2"),
            event("aten::copy_", "memory", 20, 40, lane="thread 2"),
            event("aten::mm", "compute", 40, 60),
        )
    )
    assert parts_ns(row) == {"compute": 20, "communication": 40, "copy": 0, "host": 0, "idle": 0}


def test_host_windows_that_lie_apart_are_not_idle_between():
    steps = [event(f"ProfilerStep#{n}", "span", start, start + 100, step=n) for n, start in ((0, 0), (7, 900))]
    row = only_row(
        run_of(*steps, event("aten::mm", "compute", 0, 50, step=0), event("aten::mm", "compute", 905, 940, step=7))
    )
    assert row["window_ns"] == 200
    assert parts_ns(row) == {"compute": 85, "communication": 0, "copy": 0, "host": 115, "idle": 0}


def test_a_trace_without_steps_is_one_step():
    row = only_row(run_of(event("aten::mm", "compute", 0, 10), event("aten::add", "compute", 20, 30)))
    assert (row["steps"], row["window_ns"]) == (1, 30)
    assert parts_ns(row) == {"compute": 20, "communication": 0, "copy": 0, "host": 10, "idle": 0}


def test_other_threads_count_only_where_the_critical_one_has_nothing():
    row = only_row(
        run_of(
            event("ProfilerStep#0", "span", 0, 100, step=0),
            event("aten::copy_", "memory", 0, 50, step=0),
            event("autograd thread's mm", "compute", 40, 90, step=0, lane="thread 3"),
        )
    )
    assert parts_ns(row) == {"compute": 40, "communication": 0, "copy": 50, "host": 10, "idle": 0}


def test_spans_stand_in_where_no_profiler_watched():
    result = time(
        run_of(
            span("step", "span", 0, 100, step=0),
            span("lookup", "compute", 0, 30, step=0),
            span("exchange", "wait", 30, 50, step=0, collective="all_to_all"),
            span("next batch", "wait", 60, 70, step=0),
            span("decode", "compute", 55, 75, step=0, lane="loader/spans"),
            span("read", "storage", 70, 80, step=0),
        )
    )
    (row,) = result.table.to_dict("records")
    # The loader decodes [55, 60] while the critical thread has nothing to do, and [60, 70] while it waits: idle.
    assert parts_ns(row) == {"compute": 35, "communication": 20, "copy": 10, "host": 25, "idle": 10}
    assert any("spans" in note for note in result.notes)


def served(name, kind, start, end, step, rank, lane="request-0", **columns):
    return span(name, kind, start, end, step=step, rank=rank, lane=f"{lane}/spans", trace=f"{step:032x}", **columns)


# Rank 0 calls, 1 is the main shard, 2 a sparse one that is asked twice for request 1.
SERVED = (
    served("request", "span", -50, -10, 0, 0, tags="warmup"),
    served("handler", "span", -40, -30, 0, 2),
    served("request", "span", -2, 102, 1, 0),
    served("handler", "span", 0, 100, 1, 1),
    served("batch_wait", "wait", 10, 90, 1, 1),
    served("batch", "span", 12, 88, 1, 1, "request-0/batch-0"),
    served("bottom", "compute", 15, 40, 1, 1, "request-0/batch-0"),
    served("rpc_wait", "wait", 40, 60, 1, 1, "request-0/batch-0"),
    served("top", "compute", 62, 85, 1, 1, "request-0/batch-0"),
    served("rpc", "communication", 14, 60, 1, 1, "request-0/batch-0/shard-0"),
    served("handler", "span", 20, 30, 1, 2),
    served("sparse_lookup", "compute", 22, 28, 1, 2),
    served("handler", "span", 45, 55, 1, 2),
    served("sparse_lookup", "compute", 47, 53, 1, 2),
    served("handler", "span", 120, 130, 2, 2),
    served("sparse_lookup", "compute", 121, 129, 2, 2),
)


def test_a_server_is_idle_while_no_request_is_inside():
    rows = time(run_of(*SERVED)).table.set_index("rank")
    assert rows.loc[2, ["steps", "window_ns"]].tolist() == [2, 110]  # without the warm-up, which only the caller tagged
    assert parts_ns(rows.loc[2]) == {"compute": 20, "communication": 0, "copy": 0, "host": 10, "idle": 80}
    steps = time(run_of(*SERVED), by="step").table.query("rank == 2").set_index("step")
    assert parts_ns(steps.loc[1]) == {"compute": 12, "communication": 0, "copy": 0, "host": 8, "idle": 15}


def test_strands_of_a_request_wait_last():
    """All of the request's other strands run while its handler waits for them."""
    row = time(run_of(*SERVED)).table.set_index("rank").loc[1]
    assert parts_ns(row) == {"compute": 48, "communication": 21, "copy": 0, "host": 20, "idle": 11}


def test_requests_that_overlap_make_one_window():
    (row,) = time(
        run_of(
            served("handler", "span", 0, 60, 4, 1, "request-0"),
            served("handler", "span", 10, 30, 5, 1, "request-1"),
            served("top", "compute", 40, 50, 4, 1, "request-0"),
            served("handler", "span", 70, 90, 5, 1, "request-1"),
        )
    ).table.to_dict("records")
    assert parts_ns(row) == {"compute": 10, "communication": 0, "copy": 0, "host": 70, "idle": 10}


def test_spans_do_not_count_beside_a_profiler():
    spans = (span("step", "span", 0, 100, step=3), span("lookup", "compute", 0, 90, step=3, device="cuda:0"))
    assert parts_ns(only_row(run_of(*GPU, *spans))) == parts_ns(only_row(run_of(*GPU)))


def test_warm_up_steps_are_left_out():
    warm = (span("step", "span", 0, 100, step=0, tags="warmup profiled"), span("step", "span", 110, 210, step=1))
    row = only_row(run_of(*CPU, *warm))
    assert (row["steps"], row["window_ns"]) == (1, 100)
    warm_gpu = run_of(
        span("step", "span", 0, 9, step=2, tags="warmup"), kernel("k", "compute", 0, 9, step=2), *GPU[3:4]
    )
    assert only_row(warm_gpu)["window_ns"] == 20


def test_simulated_events_make_a_simulated_row():
    assert only_row(run_of(event("aten::mm", "compute", 0, 10, source="simulated")))["source"] == "simulated"


@pytest.mark.parametrize("by", ["rank", "step", "lane", "idle"])
def test_every_key_is_defined(by):
    result = time(run_of(*GPU, span("step", "span", 0, 100, step=4)), by=by)
    assert [key for key in [*result.table, *result.summary] if define("time", key) is None] == []


def test_what_it_cannot_say():
    assert not time(run_of(event("note", "span", 0, 10))).applies
    assert not time(run_of(*CPU), by="idle").applies


EVENTS = st.lists(
    st.builds(
        lambda kind, start, length, place, step: event(
            "e", kind, start, start + length, step=step, lane=place[0], device=place[1], rank=place[2]
        ),
        st.sampled_from(["compute", "memory", "communication", "runtime", "wait", "storage", "serialization", "span"]),
        st.integers(0, 60), st.integers(0, 25),
        st.sampled_from([("t1", "cpu", 0), ("t2", "cpu", 0), ("main/spans", "cpu", 0), ("s7", "cuda:0", 0),
                         ("s9", "cuda:0", 0), ("t1", "cpu", 1), ("t2", "cpu", 1), ("main/spans", "cpu", 1)]),
        st.integers(-1, 4),
    ),
    min_size=1, max_size=14,
)  # fmt: skip
STEPS = st.lists(st.sampled_from([0, 1, 3]), unique=True, max_size=3)


@settings(max_examples=15, deadline=None)  # a run takes tens of ms
@given(EVENTS, STEPS, st.sampled_from(["rank", "step", "lane"]))
def test_parts_sum_to_the_window_whatever_the_trace(events, steps, by):
    marks = [event(f"ProfilerStep#{n}", "span", 22 * n, 22 * n + 20, step=n, lane="t1") for n in steps]
    table = time(run_of(*events, *marks), by=by).table
    for row in table.to_dict("records"):
        assert sum(parts_ns(row).values()) == row["window_ns"]
        assert sum(row[f"{part}_pct"] for part in PARTS) == pytest.approx(100)


def test_public_dlrm_rank_0(real_data):
    table = time(load(real_data / "traces" / "dlrm_8x_v100")).table.set_index("rank")
    expected = {"compute": 7.95, "communication": 42.56, "copy": 0.15, "host": 0, "idle": 49.34}
    assert {part: table.loc[0, f"{part}_pct"] for part in PARTS} == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("file", ["gloo_cpu_rank34of300", "cpu_ops_no_rank", "mtia_inference", "triton_a100"])
def test_public_traces_that_lack_something_still_sum(real_data, file):
    run = load(real_data / "traces" / f"{file}.json.gz")
    for by in ("rank", "step", "lane"):
        table = time(run, by=by).table
        assert len(table) and table[[f"{part}_pct" for part in PARTS]].sum(axis=1).to_numpy() == pytest.approx(100)
