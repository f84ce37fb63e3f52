"""The cache of parts: equal tables, right keys, and never in the way when it is damaged, full or read-only."""

import json
import os
import shutil

import pandas as pd
import pytest

from workbench.errors import InputError
from workbench.trace import cache
from workbench.trace.cache import cached_part, clear, usage
from workbench.trace.part import TABLES, Part, merge
from workbench.trace.readers import kineto
from workbench.trace.schema import validate_events

EVENTS = [
    {"ph": "X", "cat": "cpu_op", "name": "aten::mm", "pid": 1, "tid": 1, "ts": 1, "dur": 2,
     "args": {"Input Dims": [[2, 2]], "Input type": ["float"]}},
    {"ph": "X", "cat": "gpu_memcpy", "name": "Memcpy DtoD (Device -> Device)", "pid": 0, "tid": 7, "ts": 4, "dur": 2,
     "args": {"bytes": 8}},
    {"ph": "X", "cat": "kernel", "name": "ncclKernel_SendRecv", "pid": 0, "tid": 9, "ts": 8, "dur": 2,
     "args": {"Collective name": "all_to_allv", "In msg nelems": 6, "Out msg nelems": 4, "Group size": 2,
              "dtype": "Float", "In split size": "[2, 4]", "Out split size": "[2, 2]"}},
]  # fmt: skip


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "rank-0.json"
    path.write_text(json.dumps({"traceEvents": EVENTS, "distributedInfo": {"rank": 0}}))
    return path


@pytest.fixture(autouse=True)
def empty_cache(_private_cache):
    clear()


def counting_reader():
    """kineto.read that remembers its calls."""

    def read(path):
        read.calls += 1
        return kineto.read(path)

    read.calls = 0
    return read


def assert_same(a: Part, b: Part):
    for table in ("events", "operators", "traffic", "splits"):
        pd.testing.assert_frame_equal(getattr(a, table), getattr(b, table))
    assert (a.info, a.notes) == (b.info, b.notes)


@pytest.mark.parametrize("in_run", [True, False], ids=["in a run directory", "in the user's cache"])
def test_a_warm_open_gives_the_same_part(trace, tmp_path, in_run):
    read, folder = counting_reader(), tmp_path / ".derived" if in_run else None
    cold, warm = cached_part(trace, read, folder), cached_part(trace, read, folder)
    assert read.calls == 1
    assert_same(warm, kineto.read(trace))
    assert_same(cold, warm)
    assert (usage()[0] > 0) == (not in_run)


def test_an_empty_trace_too(tmp_path):
    path = tmp_path / "empty.json"
    path.write_text('{"traceEvents": []}')
    cold, warm = cached_part(path, kineto.read), cached_part(path, kineto.read)
    validate_events(warm.events)
    assert (len(warm.events), warm.info, warm.notes) == (0, cold.info, cold.notes)
    assert len(merge([warm, cold]).events) == 0


def test_a_part_from_the_cache_may_be_changed(trace):
    for _ in range(2):
        part = cached_part(trace, kineto.read)
        part.events.loc[0, "start_ns"] = 5
        part.events["step"] = 3
        part.events["process"] = part.events["process"].cat.set_categories(["rank-0"]).fillna("rank-0")
        part.traffic.loc[0, "read_bytes"] = 1.0
    assert cached_part(trace, kineto.read).events["start_ns"][0] == 1000


def test_content_name_and_code_make_the_key(trace, tmp_path, monkeypatch):
    read = counting_reader()
    cached_part(trace, read)
    moved = tmp_path / "elsewhere" / "rank-0.json"
    moved.parent.mkdir()
    shutil.copy(trace, moved)
    assert cached_part(moved, read).info["file"] == str(moved)
    assert read.calls == 1  # same name and content: the same entry, wherever it lies
    trace.write_text(trace.read_text().replace("aten::mm", "aten::bmm"))
    assert cached_part(trace, read).events["name"][0] == "aten::bmm"
    assert read.calls == 2
    monkeypatch.setattr(cache, "_code_version", lambda read: "another version of the reader")
    cached_part(trace, read)
    assert read.calls == 3


@pytest.mark.parametrize("file", ["events.arrow", "operators.arrow", "traffic.arrow", "splits.arrow", "part.json"])
@pytest.mark.parametrize("damage", [b"", b"junk" * 100, None], ids=["emptied", "overwritten", "gone"])
def test_a_damaged_entry_is_read_around_and_replaced(trace, tmp_path, file, damage):
    read, folder = counting_reader(), tmp_path / ".derived"
    whole = cached_part(trace, read, folder)
    (damaged,) = folder.glob(f"*/{file}")
    damaged.unlink() if damage is None else damaged.write_bytes(damage)
    assert_same(cached_part(trace, read, folder), whole)
    assert_same(cached_part(trace, read, folder), whole)
    assert read.calls == 2


def test_a_cut_entry_is_read_around(trace, tmp_path):
    folder = tmp_path / ".derived"
    whole = cached_part(trace, kineto.read, folder)
    (file,) = folder.glob("*/events.arrow")
    os.truncate(file, file.stat().st_size // 2)
    assert_same(cached_part(trace, kineto.read, folder), whole)


def test_where_nothing_can_be_written_the_part_comes_all_the_same(trace, tmp_path):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")
    assert len(cached_part(trace, kineto.read, blocked).events) == len(EVENTS)


def test_no_scratch_is_left_behind(trace, tmp_path, monkeypatch):
    def full_disk(*_):
        raise OSError("no space left")

    monkeypatch.setattr(cache.os, "replace", full_disk)
    assert len(cached_part(trace, kineto.read, tmp_path / ".derived").events) == len(EVENTS)
    assert list((tmp_path / ".derived").iterdir()) == []


def test_the_least_recently_used_entries_go_first(tmp_path, monkeypatch):
    paths = [tmp_path / f"rank-{rank}.json" for rank in range(4)]
    for path in paths:
        path.write_text(json.dumps({"traceEvents": EVENTS}))
    read = counting_reader()
    cached_part(paths[0], read)
    entry_bytes = usage()[1]
    monkeypatch.setattr(cache, "LIMIT_BYTES", int(2.5 * entry_bytes))
    cached_part(paths[1], read)
    for age_s, entry in enumerate(sorted(cache.folder().iterdir(), key=lambda e: e.stat().st_mtime, reverse=True)):
        os.utime(entry, (1000 - age_s, 1000 - age_s))  # both long ago, the first longer
    cached_part(paths[0], read)  # used again: now the second is the oldest
    cached_part(paths[2], read)
    assert usage()[1] <= 2.5 * entry_bytes
    assert read.calls == 3
    cached_part(paths[0], read)
    assert read.calls == 3
    cached_part(paths[1], read)
    assert read.calls == 4


def test_clear_tells_what_it_freed(trace):
    cached_part(trace, kineto.read)
    files, size_bytes = usage()
    assert files == len(TABLES) + 1 and size_bytes > 1000
    assert clear() == (files, size_bytes)
    assert usage() == (0, 0)
    assert clear() == (0, 0)


def test_what_the_reader_refuses_stays_refused(tmp_path):
    path = tmp_path / "x.json"
    path.write_text("{}")
    for _ in range(2):
        with pytest.raises(InputError):
            cached_part(path, kineto.read)
    with pytest.raises(InputError, match="No such file"):
        cached_part(tmp_path / "missing.json", kineto.read)
