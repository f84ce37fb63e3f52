"""Formats are told by content: each by a small file, real ones, and what is none of them."""

import gzip
import json

import pytest

from workbench.errors import InputError
from workbench.trace.recognise import FORMATS, format_of

EXAMPLES = {
    "kineto": {"schemaVersion": 1, "traceEvents": [{"ph": "X"}]},
    "execution_trace": {"schema": "1.0.1", "pid": 1, "nodes": []},
    "chakra": {"workload_graph": [], "ngpus": 8},
    "otlp": {"resourceSpans": []},
    "jaeger": {"data": [{"traceID": "5", "spans": []}]},
    "speedscope": {"$schema": "https://www.speedscope.app/file-format-schema.json", "profiles": []},
    "snapshot": {"segments": [], "device_traces": [[]]},
}


def told(tmp_path, content, name="file"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return format_of(path)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_format(tmp_path, name):
    content = json.dumps(EXAMPLES[name], indent=1).encode()
    assert name in FORMATS
    assert told(tmp_path, content, "misleading.pickle") == name
    assert told(tmp_path, b"\xef\xbb\xbf \n" + content) == name
    assert told(tmp_path, gzip.compress(content)) == name


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b'[{"ph": "X", "name": "a"}]', "kineto"),
        (b'{"deviceProperties": [{"note": "\\"nodes\\": {"}], "schemaVersion": 1, "distr', "kineto"),
        (b'{"otherData": {"resourceSpans": 1, "nodes": []}, "traceEvents": []}', "kineto"),
        (b'{"resourceSpans": [{}]}\n{"resourceSpans": [{}]}\n', "otlp"),
        (b'{\n  "version": "0.0.4"\n}{\n  "id": "1",\n  "type": "COMP_NODE"\n}', "chakra"),
        (b"main (a.py:1);step 12\nmain (a.py:1) 3\n", "collapsed"),
        (b"one;stack 1", "collapsed"),
        (b"process 5:\"python x.py\";main (a.py:1) 12\ncut in the mid", "collapsed"),
    ],
)  # fmt: skip
def test_other_shapes(tmp_path, content, name):
    if name == "collapsed" and b"cut" in content:
        content = content * 40_000  # only what is looked at counts
    assert told(tmp_path, content) == name


def test_keys_far_behind_the_beginning(tmp_path):
    devices = [{"name": "x" * 100} for _ in range(2000)]
    assert told(tmp_path, {"deviceNotes": devices, "traceEvents": []}) == "kineto"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"  \n", "is empty"),
        (b"{}", "is JSON with no key outermost"),
        (b'{"a": {"traceEvents": []}, "b\\n": 1}', "is JSON with a, b"),
        (b'{"nodes": [1, 2]}', "is JSON with nodes outermost"),
        (b'{"data": [{"id": 5}]}', "is JSON with data outermost"),
        (b"[1, 2, 3]", "is a JSON array without trace events"),
        (b"# a readme\n\nwith words\n", "is neither JSON nor collapsed stacks"),
        (b"\x80\x04\x95pickle", "is neither JSON nor collapsed stacks"),
        (b'{"record":"header","schema":1}\n{"record":"span"}', "is JSON with record, schema outermost"),
        (b'{"' + b'\\"' * 500_000, "is JSON with no key outermost"),
    ],
)
def test_what_is_none_of_them_is_refused_in_one_line(tmp_path, content, says):
    with pytest.raises(InputError) as refusal:
        told(tmp_path, content)
    assert says in str(refusal.value) and "\n" not in str(refusal.value)
    assert "expected a PyTorch profiler (Kineto) or Chrome trace" in str(refusal.value)


def test_a_missing_file_and_a_folder(tmp_path):
    for path in (tmp_path / "missing.json", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            format_of(path)


def test_real_files(real_data):
    for path in sorted(real_data.glob("traces/**/*.json.gz")):
        assert format_of(path) == "kineto", path
    for path in sorted(real_data.glob("execution_traces/**/*.json*")):
        assert format_of(path) == ("chakra" if "chakra" in path.name else "execution_trace"), path
