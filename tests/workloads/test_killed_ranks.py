"""kill -9 of a rank under torchrun: ranks are restarted and go on from the last checkpoint, on the same loss curve."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from workbench.trace import streams
from workbench.trace.rundir import read_manifest
from workbench.workloads.training.checkpoint import MANIFEST, checkpoints_in

EVERY = 20


def wait_for(condition, seconds: float = 90):
    """What `condition()` gives, once it is true."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "nothing happened in time"
        time.sleep(0.05)
    return found


def losses(path: Path) -> dict[int, float]:
    """Loss by step, of rank 0."""
    metrics = streams.read_metrics([path])
    own = metrics[(metrics["name"] == "loss") & (metrics["process"] == "trainer-0")]
    return dict(zip(own["step"], own["value"], strict=True))


@pytest.fixture
def job(tmp_path, request):
    """torchrun, two ranks, one restart; ended whatever happens."""
    settings = {"steps": 300, "checkpoint_every": EVERY, "profile_steps": 0} | getattr(request, "param", {})
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--max-restarts", "1",
               "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "-m", "workbench", "run", "training",
               "--preset", "tiny", "--traces", tmp_path / "runs", "--no-ceilings"]  # fmt: skip
    for name, value in settings.items():
        command += ["--set", f"{name}={value}"]
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log)
        yield process
        process.terminate()
        process.wait(60)


def killed_after_a_checkpoint(job, tmp_path) -> tuple[Path, Path]:
    """The run whose rank 1 was killed when it had a checkpoint, and the one that came after it."""
    runs = tmp_path / "runs"
    wait_for(lambda: [*runs.glob("*/checkpoints/step-*/" + MANIFEST)] or job.poll() is not None)
    [first] = runs.iterdir()
    os.kill(read_manifest(first)["processes"]["trainer-1"]["pid"], signal.SIGKILL)
    assert wait_for(lambda: job.poll() is not None) and job.returncode == 0, (tmp_path / "log").read_text()[-2000:]
    [second] = [path for path in runs.iterdir() if path != first]
    assert read_manifest(first)["status"] in ("interrupted", "failed")
    return first, second


def test_a_killed_rank_loses_at_most_the_steps_since_the_last_checkpoint(job, tmp_path):
    first, second = killed_after_a_checkpoint(job, tmp_path)
    manifest = read_manifest(second)
    assert manifest["status"] == "complete" and Path(manifest["config"]["resume"]).parent == first / "checkpoints"
    before, after = losses(first), losses(second)
    resumed = min(after)
    assert resumed % EVERY == 0 and resumed > max(before) - EVERY - 1 and max(after) == 299
    assert not (second / "checkpoints").exists() and checkpoints_in(first / "checkpoints")[-1].name == "step-00000300"
    again = before.keys() & after.keys()
    assert all(before[step] == after[step] for step in again)


@pytest.mark.parametrize("job", [{"steps": EVERY, "evaluation_batches": 200}], indirect=True)
def test_a_rank_killed_in_the_evaluation_costs_no_step(job, tmp_path):
    first, second = killed_after_a_checkpoint(job, tmp_path)
    manifest = read_manifest(second)
    assert manifest["status"] == "complete" and max(losses(first)) == EVERY - 1 and not losses(second)
    assert 0 < manifest["results"]["held_out_normalized_entropy"] < 2
