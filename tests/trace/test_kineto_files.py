"""What a trace file may look like from outside: containers, key order, chunk boundaries, times, limits, refusals."""

import gzip
import json
import zipfile

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import InputError
from workbench.trace.readers import decompress, kineto
from workbench.trace.readers.chunks import EventChunks
from workbench.trace.readers.columns import MISSING_NS, nanoseconds

EVENTS = [
    {"ph": "X", "cat": "cpu_op", "name": "aten::add", "pid": 1, "tid": 1, "ts": 1, "dur": 2},
    {"ph": "X", "cat": "cpu_op", "name": 'brace {"}, {" \\ é', "pid": 1, "tid": 1, "ts": 4, "dur": 2,
     "args": {"list": [{"ph": "X"}, {"a": [[], "]"]}], "Input Dims": [[2]], "Input type": ["float"]}},
    {"ph": "i", "name": "instant", "ts": 5},
]  # fmt: skip
OBJECT = json.dumps({"schemaVersion": 1, "traceEvents": EVENTS, "distributedInfo": {"rank": 5}}).encode()


def read(tmp_path, content, name="trace.json"):
    path = tmp_path / name
    path.write_bytes(content)
    return kineto.read(path)


def zipped(tmp_path, members):
    path = tmp_path / "trace.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    "content",
    [
        OBJECT,
        b"\xef\xbb\xbf \n" + OBJECT,
        json.dumps({"distributedInfo": {"rank": 5, "traceEvents": [1]}, "traceEvents": EVENTS}, indent=1).encode(),
        json.dumps({"note": '"traceEvents": [', "traceEvents": EVENTS, "distributedInfo": {"rank": 5}}).encode(),
        gzip.compress(OBJECT),
        gzip.compress(OBJECT[:100]) + gzip.compress(OBJECT[100:]) + b"\0" * 10,  # two members, then padding
    ],
    ids=["object", "byte-order mark", "events last", "key in a text", "gzip", "gzip members"],
)
def test_shapes_of_a_file(tmp_path, content):
    part = read(tmp_path, content, name="trace.whatever")  # told by its bytes, not by its suffix
    assert list(part.events["name"]) == ["aten::add", 'brace {"}, {" \\ é']
    assert part.info["rank"] == 5
    assert [note for note in part.notes if "1970" not in note] == []


@pytest.mark.parametrize("ending", [b"]", b",\n", b"", b", {}]"], ids=["closed", "open", "bare", "empty object"])
def test_bare_array(tmp_path, ending):
    part = read(tmp_path, json.dumps(EVENTS).encode()[:-1] + ending)
    assert len(part.events) == 2
    assert part.info["rank"] == -1
    assert not any("cut" in note for note in part.notes)  # the format lets an array stay open


def test_zip_takes_its_first_json_member(tmp_path):
    part = kineto.read(zipped(tmp_path, {"readme.txt": b"x", "a.json": OBJECT, "b.json": b"[]"}))
    assert len(part.events) == 2
    assert part.notes[0] == "trace.zip: read a.json, the first of its 2 .json files"


@given(size=st.integers(1, 600), padding=st.integers(0, 400))
def test_chunks_are_whole_events_for_any_block_size(size, padding):
    """Wherever blocks end, also with braces in texts and nested lists; and no byte gets lost."""
    content = OBJECT + b" " * padding
    chunks = EventChunks((content[i : i + size] for i in range(0, len(content), size)), "x")
    pieces = list(chunks)
    assert [event for piece in pieces for event in json.loads(b"[" + piece.strip(b", ") + b"]")] == EVENTS
    assert chunks.head + b"".join(pieces) + chunks.tail == content
    assert json.loads(chunks.head + chunks.tail) == {
        "schemaVersion": 1,
        "traceEvents": [],
        "distributedInfo": {"rank": 5},
    }


def test_tables_are_the_same_for_any_block_size(tmp_path, monkeypatch):
    whole = read(tmp_path, OBJECT)
    for size in (1, 7, 64, 250):
        monkeypatch.setattr(decompress, "BLOCK_BYTES", size)
        part = read(tmp_path, OBJECT)
        pd.testing.assert_frame_equal(part.events, whole.events)
        pd.testing.assert_frame_equal(part.operators, whole.operators)
        assert (part.info, part.notes) == (whole.info, whole.notes)


@pytest.mark.parametrize(
    ("microseconds", "expected_ns"),
    [
        ("1725148822325.123", 1725148822325123),
        ("1725148822325123.456", 1725148822325123456),  # a float would say ...123.500
        ("1725148822325123", 1725148822325123000),
        ("-0.5", -500),
        ("0.0005", 1),
        ("0.00049", 0),
        ("1.5e3", 1500000),
        ("15E-1", 1500),
        ('"12.25"', 12250),
        ("12.345678901234567890123", 12346),
        ("99999999999999999999", MISSING_NS),
        ("null", MISSING_NS),
        ("", MISSING_NS),
    ],
)
def test_times_keep_their_nanoseconds(microseconds, expected_ns):
    assert nanoseconds([microseconds.encode()]).tolist() == [expected_ns]


@given(st.lists(st.integers(-(10**18), 9 * 10**18), min_size=1))
def test_any_whole_nanosecond_survives_as_decimal_microseconds(times_ns):
    texts = [f"{'-' * (t < 0)}{abs(t) // 1000}.{abs(t) % 1000:03d}".encode() for t in times_ns]
    assert nanoseconds(texts).tolist() == times_ns


def test_absolute_float_times_in_a_file(tmp_path):
    text = '[{"ph":"X","name":"a","cat":"cpu_op","pid":1,"tid":1,"ts":1725148822325123.457,"dur":0.001}]'
    events = read(tmp_path, text.encode()).events
    assert (events["start_ns"][0], events["duration_ns"][0]) == (1725148822325123457, 1)


def test_base_time_is_added(tmp_path):
    content = json.dumps({"traceEvents": EVENTS, "baseTimeNanoseconds": 1767189312000000000}).encode()
    part = read(tmp_path, content)
    assert part.events["start_ns"].tolist() == [1767189312000001000, 1767189312000004000]
    assert part.info["clock"] == "unix"
    assert read(tmp_path, OBJECT).info["clock"] == "relative"


def test_numbers_beyond_their_bits(tmp_path):
    """Addresses, ranks and step numbers that no column can hold do no harm."""
    event = EVENTS[0] | {"name": f"ProfilerStep#{2**70}", "cat": "user_annotation"}
    event["args"] = {"correlation": 2**70, "Addr": 2**90, "bytes": 2**65}
    trace = {"traceEvents": [event], "distributedInfo": {"rank": 2**40, "world_size": 2**80}}
    part = read(tmp_path, json.dumps(trace).encode())
    assert part.events[["rank", "step", "launch_id"]].values.tolist() == [[-1, -1, -1]]
    assert (part.info["rank"], part.info["world_size"]) == (-1, None)


def test_an_empty_trace_is_no_mistake(tmp_path):
    part = read(tmp_path, b'{"traceEvents": []}')
    assert len(part.events) == 0
    assert part.notes == ["trace.json: no event in it"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"  \n", "is empty"),
        (b"\x7fELF\x02\x01", "is not JSON"),
        (b"hello", "is not JSON"),
        (b'{"nodes": [{"id": 1}], "schema": "1.0.1"}', "is JSON without traceEvents"),
        (b'{"traceEvents": 5}', "is JSON without traceEvents"),
        (b'[{"user": 1}, {"user": 2}]', "holds no readable event"),
        (b"[1, 2, 3]", "holds no readable event"),
        (b'{"traceEvents": [{"ph": "X", "na', "holds no readable event"),
        (b'{"traceEvents": [{"ph": "X", "name": "a"}]}', "holds no readable event"),  # no time
        (gzip.compress(b"hello"), "is not JSON"),
        (gzip.compress(b""), "is empty"),
        (b"PK\x03\x04broken", "is no readable zip file"),
    ],
)
def test_what_is_no_trace_is_refused_in_one_line(tmp_path, content, says):
    with pytest.raises(InputError, match=says) as refusal:
        read(tmp_path, content)
    assert "\n" not in str(refusal.value) and "trace.json" in str(refusal.value)


def test_zip_without_a_trace_and_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"holds no \.json file"):
        kineto.read(zipped(tmp_path, {"readme.txt": b"x"}))
    with pytest.raises(InputError, match="No such file"):
        kineto.read(tmp_path / "missing.json")
    with pytest.raises(InputError, match="Is a directory"):
        kineto.read(tmp_path)


def test_a_file_that_expands_like_a_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(decompress, "RATIO_FREE_BYTES", 1 << 16)
    monkeypatch.setattr(decompress, "RATIO_LIMIT", 100)
    with pytest.raises(InputError, match="100 times its size"):
        read(tmp_path, gzip.compress(b"[" + b" " * (8 << 20)))


def test_metadata_beyond_the_limit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("workbench.trace.readers.chunks.METADATA_LIMIT_BYTES", 1000)
    monkeypatch.setattr(decompress, "BLOCK_BYTES", 500)
    with pytest.raises(InputError, match="without traceEvents"):
        read(tmp_path, b'{"x": "' + b"a" * 5000 + b'", "traceEvents": []}')
    with pytest.raises(InputError, match="behind its events"):
        read(tmp_path, b'{"traceEvents": [{"ph": "X", "ts": 1, "dur": 1}], "x": "' + b"a" * 5000 + b'"}')


def test_compact_types_of_columns(tmp_path):
    events = read(tmp_path, OBJECT).events
    assert events["operator_id"].dtype == np.int32
    assert isinstance(events["name"].dtype, pd.CategoricalDtype)
