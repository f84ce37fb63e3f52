"""Damaged files: what is safe to repair is repaired, only broken events are lost, and the notes count both."""

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import InputError
from workbench.trace.readers import chunks, kineto
from workbench.trace.schema import validate_events

GOOD = '{"ph": "X", "cat": "cpu_op", "name": "aten::add", "pid": 1, "tid": 1, "ts": 1700000000000001.125, "dur": 2}'
HEAD, TAIL = '{"distributedInfo": {"rank": 2}, "traceEvents": [', '], "traceName": "t"}'


def named(name):
    return GOOD.replace("aten::add", name)


def read(tmp_path, *events, head=HEAD, tail=TAIL, encoding="utf-8"):
    path = tmp_path / "trace.json"
    path.write_bytes((head + ",\n".join(events) + tail).encode(encoding))
    return kineto.read(path)


@pytest.mark.parametrize(
    ("broken", "name", "note"),
    [
        (named("a\x01b\nc"), "a\x01b\nc", "control characters or NaN"),
        (named(r"torch\cuda\__init__.py(219)"), r"torch\cuda\__init__.py(219)", "bad escapes"),
        (named(r"C:\users\x"), r"C:\users\x", "bad escapes"),
        (named('lib("x", "y")\n(1): <module>'), 'lib("x", "y")\n(1): <module>', "unescaped quotation marks"),
        (named('odd"quote'), 'odd"quote', "unescaped quotation marks"),
        (GOOD[:-1] + ', "args": {"x": NaN, "y": -Infinity}}', "aten::add", "control characters or NaN"),
    ],
    ids=["control characters", "windows path", "half an escape", "quotes", "odd quotes", "NaN"],
)  # fmt: skip
def test_a_broken_event_between_good_ones_is_repaired(tmp_path, broken, name, note):
    part = read(tmp_path, GOOD, broken, GOOD)
    assert list(part.events["name"]) == ["aten::add", name, "aten::add"]
    assert part.events["start_ns"].tolist() == [1700000000000001125] * 3  # not a nanosecond changed
    assert part.notes == [f"trace.json: events repaired ({note}): 1"]
    assert part.info["rank"] == 2


def test_invalid_utf8_is_replaced(tmp_path):
    part = read(tmp_path, GOOD, named("caf\xe9"), encoding="latin-1")
    assert list(part.events["name"]) == ["aten::add", "caf\ufffd"]
    assert part.notes == ["trace.json: events repaired (invalid UTF-8): 1"]


@pytest.mark.parametrize(
    "broken",
    [
        GOOD.replace('"tid"', 'tid"'),  # a quotation mark is missing, as an old exporter lost it
        GOOD.replace('"dur": 2', '"dur": '),
        GOOD.replace('"name": "aten::add"', '"name": null'),
        GOOD.replace("aten::add", "ends in a backslash \\"),
    ],
    ids=["missing quote", "missing value", "name is no text", "escaped quote"],
)
def test_only_the_event_beyond_repair_is_left_out(tmp_path, broken):
    part = read(tmp_path, GOOD, broken, GOOD, GOOD)
    assert len(part.events) == 3
    assert "trace.json: events left out, which could not be decoded: 1" in part.notes


@pytest.mark.parametrize("lost_bytes", [300, 10**9], ids=["found again", "only at the end"])
def test_a_lost_quotation_mark_does_not_lose_the_rest(tmp_path, monkeypatch, lost_bytes):
    """It turns texts into structure and back for all that follows, until the scanner notices that no event ends."""
    monkeypatch.setattr(chunks, "LOST_BYTES", lost_bytes)
    nested = GOOD[:-1] + ', "args": {"list": [{"name": 1}, "}"]}}'
    events = [GOOD, GOOD.replace('"cat"', 'cat"'), *[GOOD, nested] * 10]
    assert len(read(tmp_path, *events).events) == 21


def test_a_quotation_mark_lost_before_a_bracket_in_a_name(tmp_path):
    """The name's bracket then seems to end the array: what follows is searched for events all the same."""
    part = read(tmp_path, GOOD, GOOD.replace('"cat"', 'cat"'), named("list] of"), GOOD)
    assert len(part.events) == 3
    assert part.info["rank"] == 2


@pytest.mark.parametrize("length", range(1, len(GOOD), 9))
def test_a_cut_file_loses_only_its_last_event(tmp_path, length):
    part = read(tmp_path, GOOD, GOOD, GOOD[:length], tail="")
    assert len(part.events) == 2
    assert part.notes == [
        "trace.json: events left out, which could not be decoded: 1",
        "trace.json: the file ends inside its events: it was cut",
    ]
    assert part.info["rank"] == 2


def test_a_file_cut_behind_its_events_keeps_what_came_before(tmp_path):
    part = read(tmp_path, GOOD, tail='], "traceName": "unfin')
    assert len(part.events) == 1
    assert part.info["rank"] == 2
    assert part.notes == ["trace.json: what follows the events cannot be read: rank, devices and clock may be missing"]


def test_a_cut_gzip_file(tmp_path):
    content = gzip.compress(json.dumps({"traceEvents": [json.loads(named(f"op {i}")) for i in range(5000)]}).encode())
    path = tmp_path / "trace.json.gz"
    path.write_bytes(content[: len(content) // 2])
    part = kineto.read(path)
    assert 1000 < len(part.events) < 5000
    assert part.notes[0] == "trace.json.gz: the gzip stream ends early; read as far as it goes"


def test_metadata_with_nan_and_control_characters(tmp_path):
    part = read(
        tmp_path,
        GOOD,
        head='{"x": NaN, "traceName": "a\tb", "distributedInfo": {"rank": 2}, "traceEvents": [',
        tail="]}",
    )
    assert (part.info["rank"], part.info["trace_name"]) == (2, "a\tb")


def test_events_without_time_are_left_out(tmp_path):
    part = read(
        tmp_path, GOOD, GOOD.replace('"dur": 2', '"dur": null'), GOOD.replace('"ts": 1700000000000001.125, ', "")
    )
    assert len(part.events) == 1
    assert part.notes == ["trace.json: events left out, which lack a time or duration, or have an impossible one: 2"]


def test_nesting_deeper_than_any_decoder_follows(tmp_path):
    bottomless = GOOD[:-1] + ', "args": {"x": ' + "[" * 50_000 + "]" * 50_000 + "}}"
    part = read(tmp_path, GOOD, bottomless, GOOD)
    assert len(part.events) == 2
    assert part.notes == ["trace.json: events left out, which could not be decoded: 1"]


NESTED = GOOD[:-1] + ', "args": {"Input Dims": [[2], []], "list": [{"name": "}, {"}]}}'
INTACT = (HEAD + ",\n".join([GOOD, NESTED] * 4) + TAIL).encode()


@given(
    position=st.integers(len(HEAD), len(INTACT) - len(TAIL) - 1),
    removed=st.integers(0, 1),
    inserted=st.sampled_from([b"", b'"', b"\\", b"{", b"}", b"[", b"]", b",", b"\x00", b"\xff", b"NaN"]),
)
def test_one_damaged_byte_costs_at_most_one_event(tmp_path_factory, position, removed, inserted):
    path = tmp_path_factory.getbasetemp() / "damaged.json"
    path.write_bytes(INTACT[:position] + inserted + INTACT[position + removed :])
    assert len(kineto.read(path).events) in (7, 8)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)
ARGUMENT_KEYS = (
    "Input Dims", "Input type", "correlation", "stream", "bytes", "direction", "Collective name", "Group size",
    "In msg nelems", "dtype",
)  # fmt: skip
ARGUMENTS = st.dictionaries(st.sampled_from(ARGUMENT_KEYS), JSON)
CATEGORIES = st.sampled_from(["cpu_op", "kernel", "gpu_memcpy", "cuda_runtime", "user_annotation", "mtia_ccp_events"])
ODD_EVENT = st.fixed_dictionaries(
    {"ph": st.just("X"), "ts": st.just(1) | JSON, "dur": st.just(1) | JSON, "cat": CATEGORIES | JSON},
    optional={"name": st.just("nccl:all_gather") | JSON, "pid": JSON, "tid": JSON, "args": ARGUMENTS | JSON},
)


TOP_KEYS = st.sampled_from(["distributedInfo", "deviceProperties", "baseTimeNanoseconds", "record_shapes", "other"])


@given(events=st.lists(ODD_EVENT, max_size=4), top=st.dictionaries(TOP_KEYS, JSON))
def test_any_value_anywhere_gives_a_valid_table_or_one_line(tmp_path_factory, events, top):
    path = tmp_path_factory.getbasetemp() / "odd.json"
    path.write_text(json.dumps(top | {"traceEvents": events}))
    try:
        part = kineto.read(path)
    except InputError as refusal:
        assert "\n" not in str(refusal)
    else:
        validate_events(part.events)
