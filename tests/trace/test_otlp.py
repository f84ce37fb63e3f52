"""OpenTelemetry spans: by hand, in a round trip of any forest of spans, damaged."""

import json

import pytest
from damaged import mutated_bytes, mutated_values, survives
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import InputError
from workbench.trace.readers import otlp
from workbench.trace.schema import validate_events

BEGIN_NS = 1_700_000_000_000_000_000


def read(tmp_path, content):
    path = tmp_path / "spans.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    part = otlp.read(path)
    validate_events(part.events)
    return part


def span(trace, number, start, end, parent=None, attributes=(), **fields):
    """A span with times in ns after BEGIN_NS."""
    written = {"traceId": trace, "spanId": number, "name": number, "startTimeUnixNano": str(BEGIN_NS + start)}
    written |= {"endTimeUnixNano": str(BEGIN_NS + end)} | ({"parentSpanId": parent} if parent else {})
    return written | {"attributes": [{"key": key, "value": value} for key, value in attributes]} | fields


def process(service, *spans):
    owner = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
    return {"resource": owner, "scopeSpans": [{"scope": {"name": "x"}, "spans": list(spans)}]}


TEXT, NUMBER = "stringValue", "intValue"
REQUESTS = {
    "resourceSpans": [
        process(
            "main",
            span("t2", "request", 500, 900, kind=2),
            span("t1", "request", 0, 400, kind="SPAN_KIND_SERVER", attributes=[("thread.id", {NUMBER: "7"})]),
            span("t1", "lookup", 100, 300, "request", kind=3, attributes=[("rpc.system", {TEXT: "grpc"})]),
            span("t1", "features", 10, 90, "request", kind=3, attributes=[("db.system.name", {TEXT: "redis"})]),
        ),
        process("shard", span("t1", "serve", 120, 280, "lookup", kind=2, attributes=[("rpc.system", {TEXT: "grpc"})])),
        {"scopeSpans": [{"spans": [span("t2", "lost", 600, 700, "nobody", status={"code": 2})]}]},
    ]
}


def test_two_requests_by_hand(tmp_path):
    part = read(tmp_path, REQUESTS)
    columns = ["name", "process", "lane", "step", "parent_id", "kind", "start_ns", "duration_ns", "tags"]
    rows = part.events.assign(start_ns=part.events["start_ns"] - BEGIN_NS)[columns].astype("object").values.tolist()
    assert rows == [
        ["request", "main", "trace 1", 1, -1, "span", 500, 400, ""],
        ["request", "main", "thread 7", 0, -1, "span", 0, 400, ""],
        ["lookup", "main", "trace 0", 0, 1, "communication", 100, 200, ""],
        ["features", "main", "trace 0", 0, 1, "storage", 10, 80, ""],
        ["serve", "shard", "trace 0", 0, 2, "span", 120, 160, ""],
        ["lost", "unknown_service", "trace 1", 1, -1, "span", 600, 100, "error"],
    ]
    assert part.notes == ["spans.json: 1 spans name a parent that is not in the file"]
    assert (part.info["clock"], part.info["traces"]) == ("unix", 2)


@pytest.mark.parametrize("separator", [b"\n", b"\n\n"])
def test_one_document_a_line(tmp_path, separator):
    lines = [json.dumps({"resourceSpans": [owner]}).encode() for owner in REQUESTS["resourceSpans"]]
    part = read(tmp_path, separator.join(lines) + b"\n")
    assert part.events["parent_id"].tolist() == [-1, -1, 1, 1, 2, -1]
    assert (
        read(tmp_path, json.dumps(REQUESTS, indent=1).encode()).events["name"].tolist() == part.events["name"].tolist()
    )


def test_a_cut_last_line_keeps_its_whole_spans(tmp_path):
    lines = [json.dumps({"resourceSpans": [owner]}).encode() for owner in REQUESTS["resourceSpans"][:2]]
    part = read(tmp_path, lines[1] + b"\n" + lines[0][: lines[0].index(b'"features"')])
    assert part.events["name"].tolist() == ["serve", "request", "request", "lookup"]
    assert part.notes[0].startswith("spans.json: the file was cut")


def test_circles_and_times_that_run_back(tmp_path):
    spans = [
        span("t", "a", 0, 9, "b"), span("t", "b", 0, 9, "a"), span("t", "c", 1, 2, "b"), span("t", "d", 1, 2, "d"),
        span("t", "e", 5, 4), span("t", "f", 5, 6),
    ]  # fmt: skip
    part = read(tmp_path, {"resourceSpans": [process("s", *spans)]})
    assert part.events["parent_id"].tolist() == [-1] * 5
    assert part.notes == [
        "spans.json: left out 1 spans that end before they start",
        "spans.json: 4 spans whose parents go round in a circle count as without one",
    ]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 3), st.text(max_size=5), st.integers(0, 2**60), st.integers(0, 10**9), st.integers(-1, 30),
            st.sampled_from(["main", "shard", ""]), st.booleans(),
        ),
        max_size=12,
    )
)  # fmt: skip
def test_round_trip_of_any_forest(tmp_path_factory, drawn):
    """Written as OTLP and read again: names, times, processes, errors, and the parents that come before their child."""
    spans, expected = [], []
    for number, (trace, name, start, length, parent, service, failed) in enumerate(drawn):
        known = 0 <= parent < number and drawn[parent][0] == trace
        record = span(f"t{trace}", f"s{number}", 0, 0, f"s{parent}" if known else None, name=name)
        record |= {"startTimeUnixNano": str(start), "endTimeUnixNano": start + length, "status": {"code": 2 * failed}}
        spans.append(process(service, record))
        expected.append([name, start, length, parent if known else -1, service or "unknown_service", "error" * failed])
    part = read(tmp_path_factory.mktemp("otlp"), {"resourceSpans": spans})
    columns = ["name", "start_ns", "duration_ns", "parent_id", "process", "tags"]
    assert part.events[columns].astype("object").values.tolist() == expected
    first = {}
    for number, (trace, _, start, *_) in enumerate(drawn):
        first[trace] = min(first.get(trace, (start, number)), (start, first.get(trace, (0, number))[1]))
    order = sorted(first, key=lambda trace: first[trace])
    assert part.events["step"].tolist() == [order.index(row[0]) for row in drawn]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"[]", "Expected `object`"),
        (b'{"resourceMetrics": []}', "missing required field `resourceSpans`"),
        (b'{"resourceSpans": []}\nnonsense\n', "line 2 cannot be read"),
        (
            b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"name": "a"}]}]}]}',
            "missing required field `startTimeUnixNano`",
        ),
        (b'{"resourceSpans": [' + b"[" * 100_000, "nested too deeply|cannot be read"),
    ],
)
def test_what_is_no_otlp_is_refused_in_one_line(tmp_path, content, says):
    with pytest.raises(InputError, match=says) as refusal:
        read(tmp_path, content)
    assert "\n" not in str(refusal.value) and "OTLP" in str(refusal.value)


def test_damage_of_any_kind_is_repaired_or_refused(tmp_path):
    contents = [*mutated_bytes(json.dumps(REQUESTS).encode(), 80), *mutated_values(REQUESTS, 80)]
    parts = [survives(otlp.read, tmp_path / "spans.json", content) for content in contents]
    assert any(part is None for part in parts) and sum(part is not None for part in parts) > 20
