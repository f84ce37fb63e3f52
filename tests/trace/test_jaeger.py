"""Jaeger traces: by hand, in a round trip of any forest of spans, damaged."""

import json

import pytest
from damaged import mutated_bytes, mutated_values, survives
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import InputError
from workbench.trace.readers import jaeger
from workbench.trace.schema import validate_events

BEGIN_US = 1_700_000_000_000_000


def read(tmp_path, content):
    path = tmp_path / "jaeger.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    part = jaeger.read(path)
    validate_events(part.events)
    return part


def span(trace, number, start_us, duration_us, process="p1", refers=(), **tags):
    references = [{"refType": kind, "traceID": trace, "spanID": other} for kind, other in refers]
    return {
        "traceID": trace, "spanID": number, "operationName": number, "startTime": BEGIN_US + start_us,
        "duration": duration_us, "processID": process, "references": references, "warnings": None,
        "tags": [{"key": key, "type": "string", "value": value} for key, value in tags.items()],
    }  # fmt: skip


PROCESSES = {"p1": {"serviceName": "main", "tags": []}, "p2": {"serviceName": "shard"}}
CALL = {"span.kind": "client"}
TRACES = {
    "data": [
        {
            "traceID": "t2", "processes": PROCESSES,
            "spans": [span("t2", "late", 900, 10, refers=[("FOLLOWS_FROM", "late")], error=True)],
        },
        {
            "traceID": "t1", "processes": PROCESSES,
            "spans": [
                span("t1", "request", 0, 400),
                span("t1", "lookup", 100, 200, refers=[("CHILD_OF", "request")], **CALL, **{"rpc.system": "grpc"}),
                span("t1", "serve", 120, 160, "p2", [("FOLLOWS_FROM", "request"), ("CHILD_OF", "lookup")], error="no"),
                span("t1", "read", 130, 20, "p9", [("CHILD_OF", "gone")], **CALL, **{"db.type": "sql"}),
            ],
        },
    ],
    "total": 0, "errors": None,
}  # fmt: skip


def test_two_traces_by_hand(tmp_path):
    part = read(tmp_path, TRACES)
    columns = ["name", "process", "lane", "step", "parent_id", "kind", "start_ns", "duration_ns", "tags"]
    rows = part.events.assign(start_ns=part.events["start_ns"] - 1000 * BEGIN_US)[columns].astype("object")
    assert rows.values.tolist() == [
        ["late", "main", "trace 1", 1, -1, "span", 900_000, 10_000, "error"],
        ["request", "main", "trace 0", 0, -1, "span", 0, 400_000, ""],
        ["lookup", "main", "trace 0", 0, 1, "communication", 100_000, 200_000, ""],
        ["serve", "shard", "trace 0", 0, 2, "span", 120_000, 160_000, ""],
        ["read", "unknown_service", "trace 0", 0, -1, "storage", 130_000, 20_000, ""],
    ]
    assert part.notes == ["jaeger.json: 1 spans name a parent that is not in the file"]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(max_size=5), st.integers(0, 2**51), st.integers(0, 10**9), st.integers(-1, 30), st.booleans()
        ),
        max_size=12,
    )
)
def test_round_trip_of_any_forest(tmp_path_factory, drawn):
    spans, expected = [], []
    for number, (name, start_us, duration_us, parent, second) in enumerate(drawn):
        known = 0 <= parent < number
        record = span(
            "t", f"s{number}", 0, duration_us, f"p{1 + second}", [("CHILD_OF", f"s{parent}")] if known else []
        )
        spans.append(record | {"operationName": name, "startTime": start_us, "tags": None})
        expected.append([name, 1000 * start_us, 1000 * duration_us, parent if known else -1, ("main", "shard")[second]])
    part = read(tmp_path_factory.mktemp("jaeger"), {"data": [{"spans": spans, "processes": PROCESSES}]})
    columns = ["name", "start_ns", "duration_ns", "parent_id", "process"]
    assert part.events[columns].astype("object").values.tolist() == expected


def test_a_cut_file_keeps_its_whole_spans(tmp_path):
    content = json.dumps(TRACES).encode()
    part = read(tmp_path, content[: content.index(b'"operationName": "serve"')])
    assert part.events["name"].tolist() == ["late", "request", "lookup"]
    assert part.notes[0].startswith("jaeger.json: the file was cut")


def test_no_trace_found_is_no_mistake(tmp_path):
    assert read(tmp_path, {"data": []}).notes == ["jaeger.json: no span in it"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b'{"data": null, "errors": [{"msg": "trace not found"}]}', r"at `\$.data`"),
        (b'{"data": [{"spans": [{"startTime": -1, "duration": 1}]}]}', r"startTime"),
        (b'{"data": [{"spans": [{"startTime": 1, "duration": 1e30}]}]}', r"duration"),
    ],
)
def test_what_is_no_jaeger_trace_is_refused_in_one_line(tmp_path, content, says):
    with pytest.raises(InputError, match=says) as refusal:
        read(tmp_path, content)
    assert "\n" not in str(refusal.value) and "Jaeger" in str(refusal.value)


def test_damage_of_any_kind_is_repaired_or_refused(tmp_path):
    contents = [*mutated_bytes(json.dumps(TRACES).encode(), 80), *mutated_values(TRACES, 80)]
    parts = [survives(jaeger.read, tmp_path / "jaeger.json", content) for content in contents]
    assert any(part is None for part in parts) and sum(part is not None for part in parts) > 20
