"""Two runs side by side, by hand: rows sum to the step, changes to its change."""

import math

import pytest
from hand_made import event, kernel, run_of, span
from hypothesis import given, settings
from test_time import CPU, EVENTS, GPU

import workbench as wb
from workbench.analyses.difference import compare, difference
from workbench.metrics import define

STEP = event("ProfilerStep#0", "span", 0, 100, step=0)
BEFORE = (
    STEP,
    event("aten::mm", "compute", 0, 40, shapes="[[8,8]]", step=0),
    event("aten::mm", "compute", 40, 50, shapes="[[2,2]]", step=0),
    event("aten::relu", "compute", 50, 60, shapes="[[8,8]]", step=0),
    event("aten::copy_", "memory", 60, 70, shapes="[[8,8]]", step=0),
)
# The large product takes 20 longer, the copy is gone, a sort came, the step is 20 longer.
AFTER = (
    event("ProfilerStep#0", "span", 0, 120, step=0),
    event("aten::mm", "compute", 0, 60, shapes="[[8,8]]", step=0),
    event("aten::mm", "compute", 60, 70, shapes="[[2,2]]", step=0),
    event("aten::relu", "compute", 70, 78, shapes="[[8,8]]", step=0),
    event("aten::sort", "compute", 80, 95, shapes="[[8]]", step=0),
)


def test_rows_by_hand():
    table = difference(run_of(*BEFORE), run_of(*AFTER)).table.set_index(["name", "shapes"])
    assert table["delta_ns"].to_dict() == {
        ("aten::mm", "[[8,8]]"): 20, ("aten::sort", "[[8]]"): 15, ("aten::copy_", "[[8,8]]"): -10,
        ("(no operator)", ""): -3, ("aten::relu", "[[8,8]]"): -2, ("aten::mm", "[[2,2]]"): 0,
    }  # fmt: skip
    assert table["status"].tolist() == ["grew", "appeared", "vanished", "shrank", "shrank", "same"]
    assert table["contribution_pct"].tolist() == pytest.approx([100, 75, -50, -15, -10, 0])
    assert table.loc[("aten::mm", "[[8,8]]"), ["calls_a", "calls_b"]].tolist() == [1, 1]


def test_summary_by_hand():
    summary = difference(run_of(*BEFORE), run_of(*AFTER)).summary
    assert (summary["step_a_ns"], summary["step_b_ns"]) == (100, 120)
    assert summary["ratio"] == pytest.approx(1.2) and summary["change_pct"] == pytest.approx(20)
    assert math.isnan(summary["step_p50_change_pct"])


def test_every_key_is_defined():
    result = difference(run_of(*BEFORE), run_of(*AFTER))
    assert [key for key in [*result.table, *result.summary] if define("difference", key) is None] == []


def test_by_name_adds_the_shapes_up():
    table = compare(run_of(*BEFORE), run_of(*AFTER), by="name").table.set_index("name")
    assert table.loc["aten::mm", ["calls_a", "duration_a_ns", "duration_b_ns"]].tolist() == [2, 50, 70]


def test_times_are_per_step():
    again = [
        {**row, "start_ns": row["start_ns"] + 100, "step": 1, "name": row["name"].replace("#0", "#1")} for row in BEFORE
    ]
    result = difference(run_of(*BEFORE), run_of(*BEFORE, *again))
    assert set(result.table["status"]) == {"same"} and result.summary["change_pct"] == 0
    assert "b has 2 steps" in result.notes[0]


def test_a_kernel_counts_for_the_operator_that_launched_it():
    table = difference(run_of(*GPU), run_of(*CPU)).table.set_index("name")
    assert table.loc["aten::mm", "duration_a_ns"] == 20
    assert table.loc["aten::add", ["calls_a", "duration_a_ns"]].tolist() == [1, 8]
    # The collective stands under its type on both sides; on the host its call is a row of its own.
    assert table.loc["all_reduce", ["duration_a_ns", "duration_b_ns"]].tolist() == [20, 15]
    assert table.loc["c10d::allreduce_", "duration_b_ns"] == 5
    assert "gemm" not in table.index


def test_a_kernel_that_no_operator_launched_stands_for_itself():
    assert "lonely" in set(difference(run_of(kernel("lonely", "compute", 0, 9)), run_of(*BEFORE)).table["name"])


def test_a_run_is_the_same_as_itself():
    table = compare(run_of(*GPU), run_of(*GPU)).table
    assert set(table["status"]) == {"same"} and table["contribution_pct"].isna().all()


def test_steady_steps_that_no_profiler_slowed():
    sides = []
    for duration in (1000, 1500):
        spans = [span("step", "span", 2000 * n, 2000 * n + duration, step=n) for n in range(20)]
        sides.append(run_of(*spans))
    summary = difference(*sides).summary
    assert (summary["step_p50_a_ns"], summary["step_p50_b_ns"]) == (1000, 1500)
    assert summary["step_p50_change_pct"] == pytest.approx(50)


def test_shapes_on_one_side_only_are_said():
    bare = [{name: value for name, value in row.items() if name != "shapes"} for row in BEFORE]
    assert "run b recorded no shapes" in difference(run_of(*BEFORE), run_of(*bare)).notes[0]


def test_nothing_to_compare():
    result = difference(run_of(*BEFORE), run_of(event("note", "span", 0, 9)))
    assert not result.applies and "run b" in result.notes[0]


def test_callers_mistakes():
    run = run_of(*BEFORE)
    with pytest.raises(wb.InputError, match="choose one of operator, name"):
        wb.compare(run, run, by="shape")
    with pytest.raises(TypeError, match="two Runs"):
        wb.compare(run, "path")


def test_notes_of_the_runs_say_whose_they_are():
    notes = compare(run_of(*BEFORE, notes=["cut"]), run_of(*AFTER)).notes
    assert "a: cut" in notes


@settings(max_examples=8, deadline=None)  # two runs take tens of ms
@given(EVENTS, EVENTS)
def test_rows_sum_to_the_steps_whatever_the_traces(events_a, events_b):
    result = difference(run_of(*events_a), run_of(*events_b))
    if result.applies:
        for side in ("a", "b"):
            assert result.table[f"duration_{side}_ns"].sum() == pytest.approx(result.summary[f"step_{side}_ns"])
        assert (result.table[["duration_a_ns", "duration_b_ns"]] >= 0).all(axis=None)
