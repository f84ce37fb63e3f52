"""The critical path of runs worked out by hand, of random runs, and of public traces."""

import math

import numpy as np
import pytest
from hand_made import EPOCH_NS, event, kernel, run_of, span
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.analyses.critical_path import critical_path, path_events
from workbench.errors import InputError
from workbench.metrics import define
from workbench.trace.loader import load
from workbench.trace.run import Run

# Launches by event number. The host waits in a synchronise for the kernel, and does something of its own afterwards.
HOST_SYNC = (
    event("aten::mm", "compute", 0, 20),
    event("cudaLaunchKernel", "runtime", 5, 10),
    kernel("gemm", "compute", 12, 60, launch_id=1),
    event("cudaDeviceSynchronize", "runtime", 25, 62),
    event("aten::add", "compute", 70, 90),
)
# Kernel c goes to stream 8 behind b, and waits for a on stream 7.
TWO_STREAMS = (
    event("aten::mm", "compute", 0, 10),
    event("cudaLaunchKernel", "runtime", 1, 3),
    kernel("a", "compute", 4, 50, launch_id=1),
    event("cudaLaunchKernel", "runtime", 4, 6),
    kernel("b", "compute", 7, 20, launch_id=3, lane="stream 8"),
    event("cudaStreamWaitEvent", "runtime", 7, 8),
    event("cudaLaunchKernel", "runtime", 8, 9),
    kernel("c", "compute", 51, 60, launch_id=6, lane="stream 8"),
)
LATE, SILENCE = "wait (for a late begin)", "wait (nothing recorded)"


def on_rank(rank, *events):
    return [row | {"rank": rank, "device": f"cuda:{rank}"} for row in events]


def all_reduce(start, end):
    return kernel("nccl", "communication", start, end, collective="all_reduce", group_size=2)


# Rank 1 arrives 30 ns later; rank 0 has more to do afterwards.
LATE_RANK = (
    *on_rank(0, kernel("early", "compute", 0, 10), all_reduce(10, 45), kernel("after", "compute", 46, 60)),
    *on_rank(1, kernel("late", "compute", 0, 40), all_reduce(40, 45), kernel("after", "compute", 46, 50)),
)


def parts(run, **options):
    """(name, ns) of the path's parts in order."""
    table = critical_path(run, by="event", **options).table
    path = table[table["on_path"]]
    return list(zip(path["name"], path["path_ns"], strict=True))


def saved_ns(run, what_if):
    return critical_path(run, what_if=what_if).summary["saved_ns"]


def test_through_a_host_synchronise():
    run = run_of(*HOST_SYNC)
    assert parts(run) == [
        ("aten::mm", 5), ("cudaLaunchKernel", 5), ("(launch delay)", 2), ("gemm", 48), ("cudaDeviceSynchronize", 2),
        (SILENCE, 8), ("aten::add", 20),
    ]  # fmt: skip
    summary = critical_path(run).summary
    assert (summary["length_ns"], summary["compute_share"]) == (90, pytest.approx(73 / 90))
    assert summary["runtime_share"] == pytest.approx(9 / 90)
    assert summary["wait_share"] == pytest.approx(8 / 90) and summary["recorded_share"] == pytest.approx(82 / 90)


def test_where_the_host_is_slower_than_its_device():
    launches = [event("cudaLaunchKernel", "runtime", at, at + 5) for at in (10, 50, 90)]
    kernels = [kernel("short", "compute", at + 6, at + 9, launch_id=1 + n) for n, at in enumerate((10, 50, 90))]
    run = run_of(event("loop", "compute", 0, 97), *launches, *kernels)
    assert parts(run) == [
        ("loop", 10), ("cudaLaunchKernel", 5), ("loop", 35), ("cudaLaunchKernel", 5), ("loop", 35),
        ("cudaLaunchKernel", 5), ("(launch delay)", 1), ("short", 3),
    ]  # fmt: skip
    assert saved_ns(run, "short=0") == 2  # then the loop ends last, at 97
    assert saved_ns(run, "cudaLaunchKernel=0") == 15  # the calls, not what they launch
    assert saved_ns(run, "loop=0,short=0,runtime=0") == 99


def test_over_streams():
    run = run_of(*TWO_STREAMS)
    assert parts(run) == [
        ("aten::mm", 1), ("cudaLaunchKernel", 2), ("(launch delay)", 1), ("a", 46), ("(stream delay)", 1), ("c", 9),
    ]  # fmt: skip
    table = critical_path(run, by="name").table.set_index("name")
    assert table.loc["b", ["path_ns", "total_ns", "slack_ns"]].tolist() == [0, 13, 30]
    assert np.isnan(table.loc["a", "slack_ns"]) and table.loc["a", "events"] == 1
    assert saved_ns(run, "b=0") == 0
    assert saved_ns(run, "a=0.5") == 23
    assert saved_ns(run, "a=0") == 30  # and now b binds, until 20


def test_over_ranks_at_the_last_to_arrive():
    run = run_of(*LATE_RANK)
    result = critical_path(run, by="rank")
    assert parts(run) == [("late", 40), ("nccl", 5), ("(stream delay)", 1), ("after", 14)]
    assert (result.summary["ranks_visited"], result.summary["rank_switches"]) == (2, 1)
    assert result.table.set_index("rank")["path_ns"].to_dict() == {0: 20, 1: 40}
    assert saved_ns(run, "early=0") == 0
    assert saved_ns(run, "late=0.5") == 20
    assert saved_ns(run, "late=0") == 30  # and now rank 0 arrives last
    assert saved_ns(run, "communication=0") == 5
    assert saved_ns(run, "compute=0.5") == 27


def test_a_rank_that_begins_late():
    run = run_of(
        event("ProfilerStep#1", "span", 0, 50), event("aten::mm", "compute", 0, 45),
        event("ProfilerStep#1", "span", 30, 70, rank=1), event("aten::mm", "compute", 30, 70, rank=1),
    )  # fmt: skip
    result = critical_path(run)
    assert parts(run) == [(LATE, 30), ("aten::mm", 40)]
    assert result.summary["late_begin_share"] == pytest.approx(30 / 70)
    assert any("begins: others began earlier" in note for note in result.notes)
    assert saved_ns(run, f"{LATE}=0") == 20  # until rank 0's step is over


def test_backward_on_a_thread_of_its_own():
    node = "autograd::engine::evaluate_function: "
    run = run_of(
        event("aten::loss", "compute", 0, 10),
        event(node + "A", "runtime", 12, 30, lane="thread 2"),
        event(node + "AccumulateGrad", "runtime", 22, 24),  # what the main thread is given to do meanwhile
        event(node + "B", "runtime", 31, 40, lane="thread 2"),
        event("aten::step", "compute", 41, 50),
    )
    names = [name for name, _ in parts(run) if name != SILENCE]
    assert names == ["aten::loss", node + "A", node + "B", "aten::step"]
    assert saved_ns(run, node + "A=0.5") == 9


def test_a_change_of_a_name_is_one_of_all_that_it_causes():
    run = run_of(*HOST_SYNC)
    assert saved_ns(run, "gemm=0.5") == 24
    assert saved_ns(run, "aten::mm=0.5") == 24 + 5  # with its launch and kernel
    assert saved_ns(run, "aten::mm=0.5,gemm=1") == 5  # what has a factor of its own keeps it
    assert saved_ns(run, "compute=0.5") == 2.5 + 24 + 10  # self time
    assert saved_ns(run, "gemm=0.1") == 90 - 55  # the host is the slower one from there on
    after = critical_path(run, by="name", what_if="gemm=0.1")
    assert after.table.set_index("name").loc["gemm", "after_ns"] == 0
    assert after.table["after_ns"].sum() == after.summary["length_after_ns"] == 55
    assert after.summary["what_if_source"] == "modelled" and "a bound" in " ".join(after.notes)


@pytest.mark.parametrize(
    ("what_if", "said"),
    [
        ("aten::m=0.5", "did you mean aten::mm"),
        ("gemm", "not of the form"),
        ("gemm=-1", "at least 0"),
        ("gemm=1e", "at least 0"),
    ],
)
def test_a_wrong_change_says_what_would_be_right(what_if, said):
    with pytest.raises(InputError, match=said):
        critical_path(run_of(*HOST_SYNC), what_if=what_if)


def steps_of(*bounds):
    marks = [event(f"ProfilerStep#{n}", "span", *bound, step=n) for n, bound in enumerate(bounds)]
    work = [event("aten::mm", "compute", start, end - 5, step=n) for n, (start, end) in enumerate(bounds)]
    return run_of(*marks, *work)


def served(name, kind, start, end, number, parent, lane="request-0", rank=0, step=0):
    ids = {"trace": f"{step + 1:032x}", "span_id": number, "parent_span_id": parent}
    return span(name, kind, start, end, lane=f"{lane}/spans", rank=rank, step=step, **ids)


def test_requests_are_steps():
    """Also those that overlap; what passes between them is no request's."""
    run = run_of(
        served("request", "span", 0, 40, 1, 0), served("rpc", "communication", 5, 35, 2, 1),
        served("handler", "span", 10, 30, 3, 2, rank=1), served("sparse_lookup", "compute", 10, 30, 4, 3, rank=1),
        served("request", "span", 30, 50, 5, 0, "request-1", step=1),
        served("rpc", "communication", 32, 50, 6, 5, "request-1", step=1),
        served("request", "span", 90, 100, 7, 0, step=8), served("rpc", "communication", 90, 100, 8, 7, step=8),
    )  # fmt: skip
    summary = critical_path(run).summary
    assert (summary["steps"], summary["length_ns"], summary["step_ns"]) == (3, 100, 100 / 3)
    assert parts(run, step=8) == [("rpc", 10)]


def test_through_a_call_that_a_lane_waits_for_after_work_of_its_own():
    run = run_of(
        served("net", "span", 0, 100, 1, 0),
        served("bottom", "compute", 10, 40, 2, 1),
        served("rpc_wait", "wait", 40, 70, 3, 1),
        served("top", "compute", 70, 95, 4, 1),
        served("rpc", "communication", 5, 68, 5, 1, "request-0/shard-0"),
        served("handler", "span", 20, 50, 6, 5, rank=1),
        served("sparse_lookup", "compute", 25, 45, 7, 6, rank=1),
    )
    assert parts(run) == [
        ("net", 5), ("rpc", 15), ("handler", 5), ("sparse_lookup", 20), ("handler", 5), ("rpc", 18), ("rpc_wait", 2),
        ("top", 25), ("net", 5),
    ]  # fmt: skip
    assert saved_ns(run, "sparse_lookup=0") == 20


def test_one_step_of_several():
    run = steps_of((0, 30), (30, 50))
    lengths = [critical_path(run, step=step).summary["length_ns"] for step in (0, 1)]
    assert lengths == [30, 20] and critical_path(run).summary["step_ns"] == 25
    assert parts(run, step=1) == [("aten::mm", 15), ("ProfilerStep#1", 5)]
    with pytest.raises(InputError, match="step 7 was not sampled in this run: it has 0, 1"):
        critical_path(run, step=7)


def test_steps_that_do_not_follow_one_another_are_windows_of_their_own():
    run = run_of(*(event("step", "span", at, at + 10, lane="main/spans", step=n) for n, at in ((0, 0), (5, 100))))
    assert critical_path(run).summary["length_ns"] == 20


def test_spans_alone_and_no_events():
    run = run_of(span("request", "span", 0, 10), span("lookup", "compute", 2, 8))
    assert parts(run)[-1] == ("lookup", 6)
    assert math.isnan(critical_path(run).summary["step_ns"])  # nothing says what a step is
    for nothing in (Run(run.path), run_of(event("instant", "compute", 3, 3))):
        assert "no event of any length" in critical_path(nothing).reason and len(path_events(nothing)) == 0


def test_the_overlay_covers_the_path():
    overlay = path_events(run_of(*HOST_SYNC))
    assert overlay["event_id"].tolist() == [0, 1, -1, 2, 3, -1, 4]
    assert overlay["start_ns"].iloc[0] == EPOCH_NS
    ends = overlay["start_ns"] + overlay["duration_ns"]
    assert (ends[:-1].to_numpy() == overlay["start_ns"][1:].to_numpy()).all() and ends.iloc[-1] == EPOCH_NS + 90


@pytest.mark.parametrize("by", ["kind", "name", "rank", "event"])
def test_every_key_is_defined(by):
    result = critical_path(run_of(*LATE_RANK), by=by, what_if="communication=0.5")
    for key in [*result.table.columns, *result.summary]:
        assert define("critical_path", str(key)), key


_EVENT = st.tuples(
    st.integers(0, 1), st.sampled_from(["thread 1", "thread 2"]), st.integers(0, 60), st.integers(1, 30),
    st.sampled_from(["compute", "wait", "runtime"]), st.integers(-1, 9), st.sampled_from([0.0, 0.5]),
)  # fmt: skip


@given(st.lists(_EVENT, min_size=1, max_size=8))
@settings(max_examples=15, deadline=None)
def test_any_run_is_covered_and_less_work_is_never_longer(rows):
    events = []
    for rank, lane, start, duration, kind, launch, _ in rows:
        events.append(event(f"{kind}-{rank}", kind, start, start + duration, rank=rank, lane=lane))
        if launch >= 0:  # after it returned
            begin = start + duration + launch
            number = len(events) - 1
            events.append(kernel("k", "compute", begin, begin + launch + 1, rank=rank, launch_id=number))
    run = run_of(*events)
    result = critical_path(run)
    begin = min(row["start_ns"] for row in events)
    assert result.summary["length_ns"] == max(row["start_ns"] + row["duration_ns"] for row in events) - begin
    assert result.table["path_share"].sum() == pytest.approx(1)
    kind = rows[0][4]
    lengths = [critical_path(run, what_if=f"{kind}={factor}").summary["length_after_ns"] for factor in (0, 0.5, 1)]
    assert lengths == sorted(lengths) and lengths[-1] == pytest.approx(result.summary["length_ns"])


def test_our_own_ranks(golden_run):
    result = critical_path(golden_run)
    assert result.summary["ranks_visited"] == 2 and result.summary["recorded_share"] > 0.95
    path = critical_path(golden_run, by="event").table.query("on_path")
    assert set(path["step"]) == {3, 4} and path["path_ns"].sum() == result.summary["length_ns"]


def test_public_dlrm(real_data):
    run = load(real_data / "traces" / "dlrm_8x_v100")
    path = critical_path(run, by="event").table
    path = path[path["on_path"]]
    # Rank 7 begins last and comes last to the first all-to-alls; rank 4 leaves them and is the last to end.
    assert path["rank"].drop_duplicates().tolist() == [7, 4]
    crossing = path[path["rank"] == 4].iloc[0]
    assert crossing["kind"] == "communication" and crossing["at_ns"] == 13_505_000
    summary = critical_path(run).summary
    assert summary["length_ns"] == 20_823_000 and summary["recorded_share"] + summary["late_begin_share"] > 0.98


@pytest.mark.parametrize("what_if", ["", "compute=0.5"])
def test_public_traces_are_covered(real_data, what_if):
    for path in sorted((real_data / "traces").iterdir()):
        result = critical_path(load(path), what_if=what_if)
        shares = [value for key, value in result.summary.items() if define("critical_path", key).unit == "1"]
        assert result.table["path_share"].sum() == pytest.approx(1), path.name
        assert all(0 <= share <= 1 + 1e-9 for share in shares), path.name
        assert result.summary.get("saved_ns", 0) >= -1, path.name
