"""Decoding in processes of their own: the same run, through the cache, within the budget, and only where it pays."""

import json

import pandas as pd
import pytest

from workbench.errors import InputError
from workbench.trace import cache, parallel
from workbench.trace.loader import load

GB = 10**9


@pytest.fixture
def traces(tmp_path):
    """One trace a rank, of two ranks."""
    for rank in (0, 1):
        events = [{"ph": "X", "cat": "cpu_op", "name": f"aten::mm of {rank}", "pid": 1, "tid": 1, "ts": 1, "dur": 2}]
        trace = {"traceEvents": events, "distributedInfo": {"rank": rank, "world_size": 2}}
        (tmp_path / f"rank-{rank}.json").write_text(json.dumps(trace))
    return tmp_path


@pytest.fixture
def elsewhere(monkeypatch):
    """Decode ahead whatever the size; the list of files that were handed to other interpreters."""
    given, run = [], parallel._decode_elsewhere
    monkeypatch.setattr(parallel, "WORTHWHILE_BYTES", 0)
    monkeypatch.setattr(parallel, "_workers", len)
    monkeypatch.setattr(parallel, "_decode_elsewhere", lambda file: (given.append(file[0].name), run(file)))
    cache.clear()
    return given


def test_other_interpreters_fill_the_cache(traces, elsewhere):
    parallel.decode_ahead([(path, None) for path in sorted(traces.glob("*.json"))])
    assert sorted(elsewhere) == ["rank-0.json", "rank-1.json"] and len(list(cache.folder().iterdir())) == 2
    run = load(traces)  # all of it is there now
    assert len(elsewhere) == 2
    cache.clear()
    parallel.WORTHWHILE_BYTES = GB
    alone = load(traces)
    pd.testing.assert_frame_equal(run.events, alone.events)
    assert (run.notes, run.parts) == (alone.notes, alone.parts)


def test_what_fails_elsewhere_fails_here_in_one_line(traces, elsewhere, monkeypatch):
    monkeypatch.setattr(parallel.sys, "executable", "false")
    assert load(traces).ranks == [0, 1]
    (traces / "rank-1.json").write_text('{"traceEvents": [{"ph')
    with pytest.raises(InputError, match=r"rank-1\.json"):
        load(traces)


def test_small_files_stay_here(traces, monkeypatch):
    monkeypatch.setattr(parallel, "_decode_elsewhere", lambda file: pytest.fail("not worth an interpreter"))
    load(traces)


@pytest.mark.parametrize(
    ("files", "cpus", "limit_cpus", "free_bytes", "workers"),
    [
        (8, 4, None, 100 * GB, 4),  # as many as CPUs
        (8, 16, 2.5, 100 * GB, 2),  # as a control group grants
        (3, 16, None, 100 * GB, 3),  # as there are files
        (8, 16, None, 6 * GB, 2),  # each 0.3 GB + 12 x 0.1 GB, in half of what is free
        (0, 16, None, 100 * GB, 0),
    ],
)
def test_the_budget(monkeypatch, files, cpus, limit_cpus, free_bytes, workers):
    monkeypatch.setattr(parallel, "usable_cpus", lambda: list(range(cpus)))
    monkeypatch.setattr(parallel, "cpu_limit", lambda: limit_cpus)
    monkeypatch.setattr(parallel, "memory_limit_bytes", lambda: free_bytes)
    monkeypatch.setattr(parallel.psutil, "virtual_memory", lambda: type("Memory", (), {"available": 100 * GB}))
    assert parallel._workers([GB // 10] * files) == workers
