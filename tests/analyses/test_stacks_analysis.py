"""Sampled stacks: worked by hand, recursion counted once, parts that sum to the whole, what does not apply."""

import json
import math
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.analyses import analyze
from workbench.metrics import define
from workbench.trace.loader import load
from workbench.trace.run import Run
from workbench.trace.rundir import RunDirectory
from workbench.trace.schema import STACK_COLUMNS

# main calls step on line 3 and on line 4; step calls itself, and mm.
BY_HAND = [
    ("main (a.py:3);step (b.py:7)", 3),
    ("main (a.py:4);step (b.py:7);step (b.py:8)", 2),
    ("main (a.py:4);step (b.py:7);step (b.py:8);mm (libm.so)", 4),
    ("main (a.py:4)", 1),
]


def run_of(*stacks, unit="samples", weight_of_sample=1.0, thread="", process="main"):
    rows = [(process, thread, stack, samples, samples * weight_of_sample, unit) for stack, samples in stacks]
    return Run(Path("hand-made"), stacks=pd.DataFrame(rows, columns=list(STACK_COLUMNS)).astype(STACK_COLUMNS))


def joined(*runs):
    return Run(Path("hand-made"), stacks=pd.concat([run.stacks for run in runs], ignore_index=True))


def rows_of(result, *columns):
    return {row[columns[0]]: tuple(row[column] for column in columns[1:]) for row in result.to_dict()["rows"]}


def test_functions_by_hand():
    result = analyze(run_of(*BY_HAND), "stacks")
    rows = rows_of(result, "function", "module", "self_samples", "total_samples", "self_share", "total_share")
    assert rows == {
        "step": ("b.py", 5, 9, 0.5, 0.9), "mm": ("libm.so", 4, 4, 0.4, 0.4), "main": ("a.py", 1, 10, 0.1, 1.0),
    }  # fmt: skip
    assert list(rows) == ["step", "mm", "main"]
    assert set(result.table["source"]) == {"measured"} and result.table["self_ns"].isna().all()
    summary = result.to_dict()["summary"]
    assert (summary["samples"], summary["sampled_ns"], summary["interval_ns"]) == (10, None, None)
    assert (summary["processes"], summary["threads"], summary["distinct_stacks"]) == (1, None, 4)


def test_modules_by_hand():
    rows = rows_of(
        analyze(run_of(*BY_HAND, ("idle", 2)), "stacks", by="module"), "module", "self_share", "total_samples"
    )
    assert rows == {"b.py": (5 / 12, 9), "libm.so": (4 / 12, 4), "(unknown)": (2 / 12, 2), "a.py": (1 / 12, 10)}


def test_a_weight_in_time_is_the_interval():
    result = analyze(run_of(*BY_HAND, unit="ns", weight_of_sample=1e7), "stacks")
    assert rows_of(result, "function", "self_ns", "total_ns") == {
        "step": (5e7, 9e7),
        "mm": (4e7, 4e7),
        "main": (1e7, 1e8),
    }
    assert (result.summary["sampled_ns"], result.summary["interval_ns"]) == (1e8, 1e7)


def test_threads_and_processes_are_kept_apart():
    run = joined(
        run_of(("f;g", 3), thread="thread 1 MainThread"), run_of(("f", 2), thread="thread 2 loader"),
        run_of(("f;g", 5), process="other"),
    )  # fmt: skip
    result = analyze(run, "stacks", by="thread")
    assert rows_of(result, "thread", "process", "total_samples", "total_share") == {
        "": ("other", 5, 0.5), "thread 1 MainThread": ("main", 3, 0.3), "thread 2 loader": ("main", 2, 0.2),
    }  # fmt: skip
    assert (result.summary["processes"], result.summary["threads"]) == (2, 2)
    names = [node["name"] for node in result.summary["call_tree"] if node["parent"] == 0]
    assert names == ["main", "other"]
    functions = analyze(run, "stacks").table
    assert sorted(functions[["process", "function", "self_samples", "total_samples"]].to_numpy().tolist()) == [
        ["main", "f", 2, 5], ["main", "g", 3, 3], ["other", "f", 0, 5], ["other", "g", 5, 5],
    ]  # fmt: skip


def test_the_tree_of_calls_by_hand():
    def tree(by):
        nodes = analyze(run_of(*BY_HAND), "stacks", by=by).summary["call_tree"]
        name_of = {-1: None} | {node["node"]: node["name"] for node in nodes}
        return [(name_of[node["parent"]], node["name"], node["total"], node["self"]) for node in nodes]

    assert tree("function") == [
        (None, "all", 10, 0), ("all", "main (a.py)", 10, 1), ("main (a.py)", "step (b.py)", 9, 3),
        ("step (b.py)", "step (b.py)", 6, 2), ("step (b.py)", "mm (libm.so)", 4, 4),
    ]  # fmt: skip
    assert tree("module") == [
        (None, "all", 10, 0), ("all", "a.py", 10, 1), ("a.py", "b.py", 9, 5), ("b.py", "libm.so", 4, 4)
    ]  # fmt: skip


def test_a_large_tree_keeps_its_heaviest_nodes_and_their_parents():
    run = run_of(*((f"main;f{number};g;h", number) for number in range(1, 400)))
    tree = analyze(run, "stacks").summary["call_tree"]
    assert len(tree) == 500 and tree[0]["total"] == 399 * 200
    seen = {-1}
    for node in tree:
        assert node["parent"] in seen
        seen.add(node["node"])


FRAMES = st.sampled_from(["main (a.py:1)", "main (a.py:2)", "step (a.py:9)", "step (b.py:9)", "mm (libm.so)", "idle"])
STACKS = st.lists(st.tuples(st.lists(FRAMES, min_size=1, max_size=6).map(";".join), st.integers(1, 50)), min_size=1)


@settings(max_examples=20, deadline=None)
@given(STACKS, STACKS)
def test_self_sums_to_the_whole_and_no_total_is_less_than_its_self(ours, others):
    run = joined(run_of(*ours), run_of(*others, process="other"))
    whole = sum(samples for _, samples in ours + others)
    for by in ("function", "module"):
        result = analyze(run, "stacks", by=by)
        if result.applies:
            table, root = result.table, result.summary["call_tree"][0]
            assert table["self_samples"].sum() == whole == root["total"]
            assert table["self_share"].sum() == pytest.approx(1)
            assert (table["total_samples"] >= table["self_samples"]).all()
            assert (table["total_samples"] <= table.groupby("process")["self_samples"].transform("sum")).all()


@settings(max_examples=20, deadline=None)
@given(STACKS)
def test_totals_agree_with_counting_stack_by_stack(stacks):
    expected = {}
    for stack, samples in stacks:
        for name in {frame.partition(":")[0].removesuffix(")") for frame in stack.split(";")}:
            expected[name] = expected.get(name, 0) + samples
    table = analyze(run_of(*stacks), "stacks").table
    places = (" (" + table["module"]).where(table["module"] != "(unknown)", "")
    assert dict(zip(table["function"] + places, table["total_samples"], strict=True)) == expected


def test_time_without_counts():
    """An evented profile: how long, and not how often."""
    run = run_of(("main;f", math.nan), ("main", math.nan))
    run.stacks = run.stacks.assign(weight=[3e9, 1e9], unit="ns")
    result = analyze(run, "stacks")
    rows = rows_of(result, "function", "self_ns", "total_ns", "self_share", "total_samples")
    assert rows == {"f": (3e9, 3e9, 0.75, None), "main": (1e9, 4e9, 0.25, None)}
    assert result.to_dict()["summary"]["samples"] is None and result.notes == []


def test_what_cannot_be_added_up_is_left_out_and_said():
    run = joined(run_of(("main", 3)), run_of(("alloc", 9), unit="bytes"))
    result = analyze(run, "stacks")
    assert result.table["function"].tolist() == ["main"] and result.notes[0].startswith("left out 1 stacks")
    json.dumps(result.to_dict(), allow_nan=False)


def test_what_does_not_apply_says_why():
    assert "record with --py-spy" in analyze(Run(Path("empty")), "stacks").reason
    assert "neither samples nor time" in analyze(run_of(("alloc", 9), unit="bytes"), "stacks").reason
    assert "do not name their threads" in analyze(run_of(("f", 9)), "stacks", by="thread").reason
    assert "name no files" in analyze(run_of(("f", 9)), "stacks", by="module").reason


@pytest.mark.parametrize("by", ["function", "module", "thread"])
def test_every_key_is_defined(by):
    result = analyze(run_of(*BY_HAND, thread="thread 1"), "stacks", by=by)
    assert result.applies
    for key in [*result.table.columns, *result.summary]:
        assert define("stacks", key), key


def test_a_runs_own_samples_have_its_interval_and_its_ranks(traces_with_stacks):
    result = analyze(load(traces_with_stacks), "stacks", by="thread")
    assert result.summary["interval_ns"] == 2e7 and result.summary["sampled_ns"] == 10 * 2e7
    assert rows_of(result, "process", "rank", "thread", "total_ns") == {
        "trainer-0": (0, "process 7 thread 7 MainThread", 6 * 2e7), "trainer-1": (1, "", 4 * 2e7),
    }  # fmt: skip


@pytest.fixture
def traces_with_stacks(tmp_path):
    """A run of two processes with samples, 50 a second."""
    directory = RunDirectory.create(tmp_path, "training", "tiny", stack_samples_per_s=50)
    for rank in range(2):
        directory.recorder(f"trainer-{rank}", rank).close()
    spawned = 'process 7:"python -c import a; b()";thread (7): MainThread;'
    (directory.path / "trainer-0.stacks.txt").write_text(f"{spawned}main (a.py:3);step (a.py:9) 6\n")
    (directory.path / "trainer-1.stacks.txt").write_text("main (a.py:3) 4\n")
    return directory.path
