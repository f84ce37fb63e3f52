"""The run directory: readable at any moment, honest about what became of the run."""

import json
import multiprocessing
import os
import socket
import subprocess
import sys
import time

import pytest

from workbench.errors import InputError
from workbench.trace.rundir import RunDirectory, read_manifest


@pytest.fixture
def directory(tmp_path):
    return RunDirectory.create(tmp_path / "traces", "training", "tiny", config={"ranks": 2}, seed=7)


def _edit_processes(directory, entry):
    with directory.editing() as manifest:
        manifest["processes"]["trainer-0"] = entry


def test_create_record_finish(directory):
    with directory.recorder("trainer-0", rank=0) as recorder, recorder.span("x"):
        pass
    manifest = read_manifest(directory.path)
    assert manifest["status"] == "running" and manifest["config"] == {"ranks": 2} and manifest["seed"] == 7
    assert manifest["processes"]["trainer-0"]["pid"] == os.getpid()
    directory.finish("complete")
    manifest = read_manifest(directory.path)
    assert manifest["status"] == "complete" and manifest["end_ns"] >= manifest["start_ns"]


def test_names_are_unique_and_say_what_they_are(tmp_path):
    names = {RunDirectory.create(tmp_path, "training", "tiny").path.name for _ in range(20)}
    assert len(names) == 20 and all(name.startswith("training-tiny-") for name in names)


def test_a_dead_pid_with_status_running_reads_as_killed(directory):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    _edit_processes(directory, {"pid": dead.pid, "host": socket.gethostname(), "heartbeat_ns": time.time_ns()})
    assert read_manifest(directory.path)["status"] == "killed"


def test_another_host_is_judged_by_its_heartbeat(directory):
    _edit_processes(directory, {"pid": 1, "host": "elsewhere", "heartbeat_ns": time.time_ns()})
    assert read_manifest(directory.path)["status"] == "running"
    _edit_processes(directory, {"pid": 1, "host": "elsewhere", "heartbeat_ns": time.time_ns() - 61 * 10**9})
    assert read_manifest(directory.path)["status"] == "killed"


def test_a_run_without_processes_is_starting_then_killed(directory):
    assert read_manifest(directory.path)["status"] == "running"
    with directory.editing() as manifest:
        manifest["start_ns"] -= 61 * 10**9
    assert read_manifest(directory.path)["status"] == "killed"


def _register(path, name):
    RunDirectory(path).recorder(name).close()


def test_processes_register_at_the_same_time_without_losing_one(directory):
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=_register, args=(directory.path, f"trainer-{i}")) for i in range(8)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert sorted(read_manifest(directory.path)["processes"]) == [f"trainer-{i}" for i in range(8)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not JSON"),
        ("[1]", "expected an object with 'processes'"),
        ('{"processes": 3}', "expected an object with 'processes'"),
        ('{"processes": {"trainer-0": 3}}', "expected an object with 'processes'"),
        ('{"processes": {"trainer-0": {"pid": "1"}}}', "expected an object with 'processes'"),
        ('{"processes": {}, "schema": "9"}', "expected an object with 'processes'"),
        ('{"tables": [{"name": "t", "rows": 9, "dim": [4], "row_bytes": 16}]}', "tables[0].dim"),
        (json.dumps({"schema": 99, "processes": {}}), "newer workbench"),
    ],
)
def test_a_damaged_manifest_says_so(directory, text, words):
    (directory.path / "run.json").write_text(text)
    with pytest.raises(InputError) as caught:
        read_manifest(directory.path)
    assert words in str(caught.value)


def test_no_manifest_and_unwritable_folder(tmp_path):
    with pytest.raises(InputError, match=r"not a run directory: it has no run\.json"):
        read_manifest(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="choose another with --traces"):
        RunDirectory.create(tmp_path / "file", "training", "tiny")
