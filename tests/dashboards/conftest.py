"""A folder of runs, and what the browser would send to an app over it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from pages.made_runs import HOSTILE, SERVING, make_run, make_serving_run

from workbench.trace.rundir import RunDirectory


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs written once: SERVING, `one` and HOSTILE (complete), `killed`, and `broken`, whose manifest is no JSON."""
    traces = tmp_path_factory.mktemp("made")
    make_serving_run(traces, SERVING)
    make_run(traces, "one")
    make_run(traces, HOSTILE, operator=HOSTILE)
    with RunDirectory(make_run(traces, "killed", end=None)).editing() as manifest:
        for process in manifest["processes"].values():
            process["pid"] = _dead_pid()
    (traces / "broken").mkdir()
    (traces / "broken" / "run.json").write_text("{nothing")
    return traces


@pytest.fixture
def traces(made: Path, tmp_path: Path) -> Path:
    """A copy of the runs that a test may change."""
    return Path(shutil.copytree(made, tmp_path / "traces", copy_function=os.link))


def _dead_pid() -> int:
    """The pid of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid
