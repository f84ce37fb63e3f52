"""Every format through one door: files, folders of mixed kinds, several services, names and ranks, the cache."""

import json

import pandas as pd
import pytest
from execution_nodes_by_hand import document
from formats_by_hand import EXAMPLES, TRACE, as_bytes, chakra, event, otlp

from workbench.analyses import analyze, names
from workbench.errors import InputError
from workbench.trace import cache, files
from workbench.trace.loader import load
from workbench.trace.readers import execution_trace

OTHER = "cd" * 16


def write(path, content):
    path.write_bytes(as_bytes(content))
    return path


def test_there_is_an_example_of_every_format():
    assert set(EXAMPLES) == set(files.READERS) == set(files.FORMATS)


@pytest.mark.parametrize("kind", EXAMPLES)
def test_a_file_of_any_format_loads_and_every_analysis_answers(tmp_path, kind):
    content, processes, events = EXAMPLES[kind]
    path = write(tmp_path / "trace.any", content)
    cold, warm = load(path), load(path)
    assert cache.is_cached(path, files.READERS[kind])
    for run in (cold, warm):
        assert len(run.events) == events and sorted(run.events["process"].unique()) == processes
    for table in ("events", "operators", "stacks", "dependencies"):
        pd.testing.assert_frame_equal(getattr(cold, table), getattr(warm, table))
    for name in names():
        json.dumps(analyze(warm, name).to_dict(), allow_nan=False)


def test_what_an_execution_trace_knows_comes_back_from_the_cache(tmp_path):
    path = write(tmp_path / "et.json", document("1.1.1-chakra.0.0.4"))
    cold, warm = (cache.cached_part(path, execution_trace.read) for _ in range(2))
    a, b = cold.info.pop("execution"), warm.info.pop("execution")
    assert (a.schema, a.collectives, cold.info) == (b.schema, b.collectives, warm.info)
    pd.testing.assert_frame_equal(a.tensors, b.tensors)


def test_an_execution_trace_has_no_times_to_analyse(tmp_path):
    run = load(write(tmp_path / "et.json", document("1.0.1")))
    assert not run.timed and "in order, without times" in repr(run)
    for name in names():
        assert "no times, only an order" in analyze(run, name).reason
    with pytest.raises(InputError, match="only an order"):
        load(tmp_path / "et.json", between="0:1")


def test_stacks_of_several_processes(tmp_path):
    for process in ("main", "loader"):
        write(tmp_path / f"{process}.stacks.txt", f"{process};step 2\n")
    stacks = load(tmp_path).stacks
    assert stacks.values.tolist() == [
        ["loader", "", "loader;step", 2.0, 2.0, "samples"], ["main", "", "main;step", 2.0, 2.0, "samples"],
    ]  # fmt: skip


def test_a_folder_of_mixed_kinds_is_its_profiles(tmp_path):
    for rank in (0, 1):
        write(tmp_path / f"rank-{rank}.json", {"traceEvents": [event()], "distributedInfo": {"rank": rank}})
        write(tmp_path / f"rank-{rank}.et.json", document("1.0.1"))
    write(tmp_path / "result.json", {"rows": []})
    write(tmp_path / "notes.txt", "no trace at all")
    write(tmp_path / "model.bin", "not even looked at")
    run = load(tmp_path)
    assert run.ranks == [0, 1] and len(run.events) == 2
    folder = tmp_path.name
    assert run.notes[:2] == [
        f"left out of {folder}, being of the format execution trace: rank-0.et.json, rank-1.et.json",
        f"left out of {folder}, being no trace: notes.txt, result.json",
    ]


def test_a_folder_without_traces_says_what_is_in_it(tmp_path):
    with pytest.raises(InputError, match=r"neither a run\.json nor traces \(\.json"):
        load(tmp_path)
    write(tmp_path / "result.json", {"rows": []})
    with pytest.raises(InputError, match=r"neither a run\.json nor traces; .*result\.json is JSON with rows outermost"):
        load(tmp_path)


def test_two_kinds_by_name_are_refused(tmp_path):
    profile = write(tmp_path / "a.json", {"traceEvents": [event()]})
    with pytest.raises(InputError, match="--execution-trace"):
        load(profile, write(tmp_path / "b.json", document("1.0.1")))
    with pytest.raises(InputError, match="load one kind"):
        load(profile, write(tmp_path / "c.json", chakra()))


def test_services_in_files_of_their_own_are_one_run(tmp_path):
    """The parent of `lookup` is in the other file; the traces are numbered by when they begin, over both."""
    late = (OTHER, "01", "", "rank", 1000, 1100)
    write(tmp_path / "a-ranker.json", otlp("ranker", late, (TRACE, "0a", "", "rank", 0, 50)))
    write(
        tmp_path / "b-shard.jsonl", otlp("shard", (TRACE, "0b", "0a", "lookup", 10, 40), (TRACE, "0c", "99", "x", 1, 2))
    )
    events = load(tmp_path).events
    assert events[["process", "name", "step", "parent_id"]].values.tolist() == [
        ["ranker", "rank", 1, -1], ["ranker", "rank", 0, -1], ["shard", "lookup", 0, 1], ["shard", "x", 0, -1],
    ]  # fmt: skip
    assert events["trace"].tolist() == [OTHER, TRACE, TRACE, TRACE]
    assert events["span_id"].tolist() == [1, 10, 11, 12] and events["parent_span_id"].tolist() == [0, 0, 10, 0x99]
    assert set(events["rank"]) == {-1}


def test_an_interval_of_spans(tmp_path):
    spans = otlp("ranker", (TRACE, "0a", "", "first", 0, 50), (TRACE, "0b", "", "second", 2 * 10**9, 2 * 10**9 + 9))
    run = load(write(tmp_path / "spans.json", spans), between="1:3")
    assert run.events["name"].tolist() == ["second"]


def test_dependencies_follow_their_events(tmp_path):
    for rank in (0, 1):
        write(tmp_path / f"rank-{rank}.json", chakra())
    run = load(tmp_path)
    assert run.dependencies.values.tolist() == [[1, 0], [3, 2]]
    assert load(tmp_path, ranks="1").dependencies.values.tolist() == [[1, 0]]
    assert len(load(tmp_path, kinds="compute").dependencies) == 0
