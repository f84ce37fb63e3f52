"""The profiler's schedule, and the files that it leaves."""

import gzip
import json
import subprocess

import pytest
import torch
from torch.profiler import ProfilerAction

from workbench.trace.rundir import RunDirectory
from workbench.workloads.profiling import MAX_WINDOWS, StepProfiler
from workbench.workloads.stacks import HostStacks

SAVE, RECORD, READY, NOTHING = (
    ProfilerAction.RECORD_AND_SAVE, ProfilerAction.RECORD, ProfilerAction.WARMUP, ProfilerAction.NONE,
)  # fmt: skip


@pytest.mark.parametrize(
    ("warmup", "steps", "every", "expected"),
    [
        (2, 2, 5, [NOTHING, NOTHING, READY, RECORD, SAVE, NOTHING, NOTHING, READY, RECORD, SAVE]),
        (0, 1, 2, [READY, SAVE, READY, SAVE, READY, SAVE]),
        (1, 9, 2, [NOTHING, READY, RECORD, SAVE, RECORD, SAVE]),  # never more than all steps
    ],
)
def test_schedule(tmp_path, warmup, steps, every, expected):
    profiler = StepProfiler(tmp_path, "p", warmup, steps, every)
    assert [profiler.action(step) for step in range(len(expected))] == expected


def test_long_runs_stop_being_profiled(tmp_path):
    profiler = StepProfiler(tmp_path, "p", 0, 1, 10)
    actions = [profiler.action(step) for step in range(1000)]
    assert actions.count(SAVE) == MAX_WINDOWS and actions.count(READY) == MAX_WINDOWS


def test_files_hold_the_scheduled_steps_and_a_cut_window_is_kept(tmp_path):
    with StepProfiler(tmp_path, "p", warmup_steps=0, profile_steps=2, profile_every=3) as profiler:
        for _ in range(5):
            torch.ones(4).sum()
            profiler.step()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.pt.trace.json.gz", "p.w1.pt.trace.json.gz"]
    for name, steps in (("p", [1, 2]), ("p.w1", [4])):
        events = json.loads(gzip.decompress((tmp_path / f"{name}.pt.trace.json.gz").read_bytes()))["traceEvents"]
        found = [e["name"] for e in events if str(e.get("name")).startswith("ProfilerStep#") and e["ph"] == "X"]
        assert found[: len(steps)] == [f"ProfilerStep#{step}" for step in steps]
        assert any(e.get("name") == "aten::sum" and e["args"]["Input Dims"][0] == [4] for e in events)


def test_off_is_off(tmp_path):
    with StepProfiler(None, "p", 0, 1, 1) as off, StepProfiler(tmp_path, "p", 0, 0, 1) as never:
        off.step()
        never.step()
    assert list(tmp_path.iterdir()) == []


def test_stacks_are_files_with_their_rate_in_the_manifest(tmp_path, monkeypatch):
    """What py-spy is asked for; a stand-in answers, since samples depend on time and rights."""

    class Sampler(subprocess.Popen):
        def __init__(self, command, **options):
            rate, out = command[command.index("--rate") + 1], command[command.index("--output") + 1]
            assert {"--threads", "--subprocesses"} <= set(command)
            super().__init__(["sh", "-c", f"echo 'main;step {rate}' > '{out}'"], **options)

    monkeypatch.setattr(subprocess, "Popen", Sampler)
    directory = RunDirectory.create(tmp_path, "training", "tiny")
    with HostStacks(directory, "p") as stacks:
        stacks.sampler.wait()
    assert (directory.path / "p.stacks.txt").read_text() == "main;step 100\n"
    assert json.loads((directory.path / "run.json").read_text())["stack_samples_per_s"] == 100


def test_denied_stacks_are_said_and_do_no_harm(tmp_path, monkeypatch, capfd):
    class Denied(subprocess.Popen):
        def __init__(self, command, **options):
            super().__init__(["sh", "-c", "echo Permission Denied: run as root >&2; exit 1"], **options)

    monkeypatch.setattr(subprocess, "Popen", Denied)
    with HostStacks(RunDirectory(tmp_path), "p") as stacks, HostStacks(None, "p"):
        stacks.sampler.wait()
    assert capfd.readouterr().err == "no host stacks: Permission Denied: run as root\n"
