"""The events table: defaults, validation, nesting and merging, on tables small enough to read."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.trace.nesting import parents
from workbench.trace.part import Part, merge
from workbench.trace.schema import EVENT_COLUMNS, KINDS, Span, empty_events, events_frame, validate_events


def test_missing_columns_get_their_default():
    events = events_frame({"start_ns": [5, 6], "duration_ns": [1, 1], "name": ["a", "b"]})
    assert list(events.columns) == list(EVENT_COLUMNS)
    assert events["kind"].tolist() == ["span", "span"] and events["rank"].tolist() == [-1, -1]
    assert events["flops"].isna().all() and events["device"].tolist() == ["cpu", "cpu"]
    assert len(empty_events()) == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.drop(columns="rank"), "lacks column 'rank'"),
        (lambda f: f.assign(step=f["step"].astype("int32")), "'step' is int32, not int64"),
        (lambda f: f.assign(kind=pd.Categorical(["magic", "span"])), "kind 'magic' is not one of"),
        (lambda f: f.assign(duration_ns=[-1, 1]), "negative duration"),
        (lambda f: f.assign(event_id=[1, 1]), "event_id is not unique"),
        (lambda f: f.assign(parent_id=[7, -1]), "parent_id names an event that is not there"),
    ],
)
def test_a_broken_table_is_refused(change, words):
    good = events_frame({"start_ns": [5, 6], "duration_ns": [1, 1]})
    with pytest.raises(ValueError) as caught:
        validate_events(change(good))
    assert words in str(caught.value)


def test_a_span_knows_its_words():
    with pytest.raises(ValueError, match="a duration of -1 ns"):
        Span(name="x", kind="span", start_ns=5, duration_ns=-1)
    assert Span(name="x", kind=KINDS[0], start_ns=0, duration_ns=0).source == "measured"


def test_parents_by_hand():
    #        lane start duration
    table = [(0, 0, 100), (0, 10, 20), (0, 15, 5), (0, 40, 10), (1, 12, 3), (0, 200, 5), (0, 200, 2)]
    lanes, starts, durations = map(np.array, zip(*table, strict=True))
    assert parents(lanes, starts, durations).tolist() == [-1, 0, 1, 0, -1, -1, 5]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=20))
def test_a_parent_contains_its_child(spans):
    # Disjoint or nested by construction: halve intervals recursively at the drawn points.
    starts = np.array([0] + [min(a, b) for a, b in spans], dtype=np.int64) * 10**6
    ends = np.array([31] + [max(a, b) for a, b in spans], dtype=np.int64) * 10**6
    found = parents(np.zeros(len(starts), dtype=np.int64), starts, ends - starts)
    for child, parent in enumerate(found):
        if parent >= 0:
            assert starts[parent] <= starts[child] and ends[child] <= ends[parent]
    assert found[0] == -1


def _part(names, operators):
    ids = np.arange(len(names), dtype=np.int32) % max(len(operators), 1)
    events = events_frame({
        "start_ns": np.arange(len(names)), "duration_ns": np.ones(len(names), dtype=int), "name": pd.Categorical(names),
        "parent_id": np.array([-1] + [0] * (len(names) - 1)), "operator_id": ids,
    })  # fmt: skip
    table = pd.DataFrame(operators, columns=["name", "input_dims", "input_types", "concrete_inputs"])
    traffic = pd.DataFrame(
        {"event_id": [0], "tier": pd.Categorical(["pcie"]), "read_bytes": [1.0], "write_bytes": [0.0]}
    )
    return Part(events, table, traffic, notes=[names[0]])


def test_merge_keeps_keys_apart_and_shares_operators():
    shared, own = ("aten::mm", "[[2,2]]", "[]", "[]"), ("aten::add", "[]", "[]", "[]")
    merged = merge([_part(["a", "b"], [shared]), _part(["c", "a", "d"], [own, shared])])
    assert merged.events["event_id"].tolist() == [0, 1, 2, 3, 4]
    assert merged.events["parent_id"].tolist() == [-1, 0, -1, 2, 2]
    assert merged.events["name"].tolist() == ["a", "b", "c", "a", "d"]
    names = merged.operators["name"].to_numpy()[merged.events["operator_id"]]
    assert names.tolist() == ["aten::mm", "aten::mm", "aten::add", "aten::mm", "aten::add"]
    assert len(merged.operators) == 2 and merged.traffic["event_id"].tolist() == [0, 2]
    assert merged.notes == ["a", "c"]
    validate_events(merged.events)


def test_merge_of_one_part_and_of_parts_without_operators():
    part = _part(["a"], [("x", "", "", "")])
    assert merge([part]) is part
    bare = Part(events_frame({"start_ns": [0], "duration_ns": [1]}))
    assert merge([bare, part]).events["operator_id"].tolist() == [-1, 0]
    assert len(merge([Part(), Part()]).events) == 0
