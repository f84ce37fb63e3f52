"""Runs are listed, chosen by exact name, and analysed once."""

import json
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from pages.made_runs import HOSTILE, SERVING, make_run, make_serving_run

from dashboards.runs import RunsFolder
from workbench.analyses.core.result import Result
from workbench.errors import InputError


def test_runs_are_listed_newest_first_and_unreadable_ones_last(traces):
    make_run(traces, "newest")
    entries = RunsFolder(traces).entries()
    assert [entry.name for entry in entries] == ["newest", "killed", HOSTILE, "one", SERVING, "broken"]
    statuses = ["complete", "killed", "complete", "complete", "complete", "unreadable"]
    assert [entry.status for entry in entries] == statuses


def test_a_folder_that_is_not_there_yet_has_no_runs(tmp_path):
    folder = RunsFolder(tmp_path / "later")
    assert folder.entries() == []
    assert folder.choose(None) is None


@pytest.mark.parametrize(
    "name", ["../outside", "/etc", "one/", "./one", "one/../one", "", ".", "outside", "linked-manifest"]
)
def test_only_exact_names_of_runs_inside_are_chosen(traces, name):
    outside = make_run(traces.parent, "outside")
    (traces / "outside").symlink_to(outside)
    (traces / "linked-manifest").mkdir()
    (traces / "linked-manifest" / "run.json").symlink_to(outside / "run.json")
    with pytest.raises(InputError, match="no run"):
        RunsFolder(traces).choose(name)


def test_a_link_to_a_run_of_the_same_folder_is_a_run(traces):
    (traces / "latest").symlink_to(traces / "one")
    assert RunsFolder(traces).choose("latest").manifest["seed"] == 7


def test_a_broken_run_says_what_is_wrong_with_it(traces):
    folder = RunsFolder(traces)
    with pytest.raises(InputError, match=r"broken/run\.json is not JSON"):
        folder.analyze(folder.choose("broken"), "time")


_HERE = {"host": socket.gethostname(), "pid": "1"}
_ODD_MANIFESTS = [
    [], "text", {"processes": 1}, {"processes": {"a": 1}}, {"processes": {"a": {"heartbeat_ns": "now"}}},
    {"start_ns": "now"}, {"start_ns": 1e30}, {"start_ns": -1}, {"schema": "9"}, {"results": [1]}, {"host": "here"},
    {"status": ["running"]}, {"status": "running", "start_ns": 1, "processes": {"a": _HERE}},
]  # fmt: skip


@pytest.mark.parametrize("manifest", _ODD_MANIFESTS, ids=str)
def test_whatever_a_manifest_holds_the_run_is_listed_as_unreadable(tmp_path, manifest):
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "run.json").write_text(json.dumps(manifest))
    folder = RunsFolder(tmp_path)
    assert [(entry.name, entry.status) for entry in folder.entries()] == [("odd", "unreadable")]
    assert str(tmp_path / "odd") in folder.choose("odd").error
    assert folder.headline(folder.choose("odd"))["status"] == "unreadable"


def test_who_asks_for_a_result_that_is_being_computed_waits_for_it(traces, monkeypatch):
    folder, calls = RunsFolder(traces), []
    entry = folder.choose("one")

    def slow(run, name):
        calls.append(folder.busy(entry))
        time.sleep(0.05)
        return Result(name)

    monkeypatch.setattr("dashboards.runs.analyze", slow)
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda _: folder.analyze(entry, "time"), range(4)))
    assert calls == [True]
    assert all(result is results[0] for result in results)
    assert not folder.busy(entry)


def test_results_are_kept_until_the_run_changes(traces):
    folder = RunsFolder(traces)
    first = folder.analyze(folder.choose("one"), "time")
    assert folder.analyze(folder.choose("one"), "time") is first
    assert folder.analyze(folder.choose("one"), "time", {"by": "step"}) is not first
    manifest = traces / "one" / "run.json"
    os.utime(manifest, ns=(0, manifest.stat().st_mtime_ns + 10**9))
    assert folder.analyze(folder.choose("one"), "time") is not first


@pytest.mark.parametrize("name", ["../outside", "/etc", "moon"])
def test_a_baseline_is_a_run_of_the_folder_and_no_path(traces, name):
    make_run(traces.parent, "outside")
    folder = RunsFolder(traces)
    serving = folder.choose(SERVING)
    assert folder.analyze(serving, "latency", {"baseline": SERVING}).summary["cpu_overhead_pct"] == 0
    with pytest.raises(InputError, match="no run"):
        folder.analyze(serving, "latency", {"baseline": name})


def test_a_result_beside_a_baseline_is_kept_until_that_one_changes(traces):
    folder = RunsFolder(traces)
    serving, baseline = folder.choose(SERVING), make_serving_run(traces, "baseline")
    first = folder.analyze(serving, "latency", {"baseline": "baseline"})
    assert folder.analyze(serving, "latency", {"baseline": "baseline"}) is first
    (baseline / "note.txt").write_text("it grew")
    assert folder.analyze(serving, "latency", {"baseline": "baseline"}) is not first


def test_the_headline_of_a_run_without_results_comes_from_its_series(traces):
    folder = RunsFolder(traces)
    row = folder.headline(folder.choose("one"))
    assert (row["steps"], row["ranks"], row["preset"]) == (6, 2, "tiny")
    assert row["loss"] == pytest.approx(0.65)
    assert row["samples_per_s"] is None
    known = {key: value for key, value in folder.headline(folder.choose("broken")).items() if value is not None}
    assert known == {"name": "broken", "status": "unreadable"}
