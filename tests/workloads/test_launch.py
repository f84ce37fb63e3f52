"""How runs end - complete, failed with the first rank's own words, interrupted - and how torchrun's ranks meet."""

import os
import signal
import time
from dataclasses import dataclass

import pytest
import torch.distributed as dist

from workbench.errors import InputError
from workbench.trace.readers import spans
from workbench.trace.rundir import RunDirectory, read_manifest
from workbench.workloads import launch


@dataclass(frozen=True)
class Config:
    """What `Job` asks of a configuration."""

    device: str = "cpu"
    threads_per_rank: int = 1
    instrument: bool = True
    warmup_steps: int = 0
    profile_steps: int = 0
    profile_every: int = 1


def works(config, recorder, profiler, path) -> dict:
    with recorder.span("work"):
        return {"rank": recorder.rank, "loopback": os.environ["GLOO_SOCKET_IFNAME"], "world": dist.is_initialized()}


def fails(config, recorder, profiler, path) -> dict:
    with recorder.span("work"):
        if recorder.rank == 1:
            raise FloatingPointError("the loss is nan\nand more lines")
        time.sleep(0.2)
        dist.barrier()  # the other rank is gone: this fails too, later
    return {}


def was_told_nonsense(config, recorder, profiler, path) -> dict:
    raise InputError("row 7 is no row")


def is_killed(config, recorder, profiler, path) -> dict:
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def loses_a_peer(config, recorder, profiler, path) -> dict:
    if recorder.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    dist.barrier()
    return {}


def is_interrupted(config, recorder, profiler, path) -> dict:
    with recorder.span("work"):
        os.kill(os.getppid(), signal.SIGINT)  # what a terminal does: to the launcher and to the rank
        raise KeyboardInterrupt


def run(body, traces, ranks=1):
    directory = RunDirectory.create(traces, "test", "x", run_id="1")
    job = launch.Job(body, Config(), "worker", ceilings=False, py_spy=False)
    try:
        return launch.launch(job, ranks, lambda: directory), read_manifest(directory.path)
    except BaseException as error:
        error.manifest = read_manifest(directory.path)
        error.spans = [spans.read(path).events for path in sorted(directory.path.glob("*.spans.jsonl"))]
        raise


def test_complete(tmp_path):
    path, manifest = run(works, tmp_path)
    assert manifest["status"] == "complete" and manifest["end_ns"] > manifest["start_ns"]
    assert manifest["results"] == {"rank": 0, "loopback": "lo", "world": False}
    assert spans.read(path / "worker-0.spans.jsonl").events["name"].tolist() == ["work"]


def test_a_failing_rank_is_named_in_one_line_and_files_are_closed(tmp_path):
    line = r"^worker-1: FloatingPointError: the loss is nan \(run: .*\)$"
    with pytest.raises(launch.RankFailed, match=line) as caught:
        run(fails, tmp_path, ranks=2)
    manifest = caught.value.manifest
    assert manifest["status"] == "failed" and "and more lines" in manifest["traceback"]
    assert [events["tags"].tolist() for events in caught.value.spans] == [["error"], ["error"]]


def test_wrong_input_found_by_a_rank_is_wrong_input(tmp_path):
    with pytest.raises(InputError, match=r"^row 7 is no row \(run: ") as caught:
        run(was_told_nonsense, tmp_path)
    assert caught.value.manifest["error"] == "row 7 is no row"


def test_a_killed_rank_is_said_to_be_killed(tmp_path):
    with pytest.raises(launch.RankFailed, match="worker-0 was killed by SIGKILL") as caught:
        run(is_killed, tmp_path)
    assert caught.value.manifest["status"] == "failed"


def test_the_killed_rank_is_named_and_not_the_one_that_lost_it(tmp_path):
    started = time.monotonic()
    with pytest.raises(launch.RankFailed, match="worker-1 was killed by SIGKILL") as caught:
        run(loses_a_peer, tmp_path, ranks=2)
    assert caught.value.manifest["error"] == "worker-1 was killed by SIGKILL"
    assert time.monotonic() - started < 60


def test_an_interrupted_run_says_so_and_can_be_read(tmp_path):
    with pytest.raises(KeyboardInterrupt) as caught:
        run(is_interrupted, tmp_path)
    assert caught.value.manifest["status"] == "interrupted" and "error" not in caught.value.manifest
    assert caught.value.spans[0]["name"].tolist() == ["work"]


def test_torchrun_ranks_agree_on_one_directory_where_disks_are_shared(tmp_path, monkeypatch):
    monkeypatch.setenv("GROUP_RANK", "0")
    store = dist.HashStore()

    def create(run_id="r1"):
        return RunDirectory.create(tmp_path, "test", "x", run_id=run_id)

    first, created = launch.common_directory(store, 0, 0, create)
    second, again = launch.common_directory(store, 1, 1, create)
    assert created and not again and first.path.resolve() == second.path and len(list(tmp_path.iterdir())) == 1


def test_a_host_without_that_disk_makes_its_own_part_of_the_run(tmp_path, monkeypatch):
    monkeypatch.setenv("GROUP_RANK", "1")
    store = dist.HashStore()
    store.set("run", f"r1 {tmp_path}/on another host/run")

    def create(run_id):
        return RunDirectory.create(tmp_path / "here", "test", "x", run_id=run_id)

    local = [launch.common_directory(store, 4 + local_rank, local_rank, create) for local_rank in range(2)]
    assert [created for _, created in local] == [True, False]
    assert local[0][0].path == local[1][0].path and read_manifest(local[0][0].path)["run_id"] == "r1"


def test_cores_are_shared_by_the_ranks_of_a_machine(monkeypatch):
    monkeypatch.setattr(launch, "physical_cores", lambda: list(range(8)))
    monkeypatch.setattr(launch, "cpu_limit", lambda: None)
    assert [launch.share_of_cores(ranks) for ranks in (1, 3, 16)] == [8, 2, 1]
    monkeypatch.setattr(launch, "cpu_limit", lambda: 4.5)
    assert launch.share_of_cores(2) == 2
    for name, value in {"RANK": 9, "WORLD_SIZE": 16, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 4, "MASTER_ADDR": 0}.items():
        monkeypatch.setenv(name, str(value))
    assert launch.share_of_cores(2) == 1 and launch.world_size(2) == 16
