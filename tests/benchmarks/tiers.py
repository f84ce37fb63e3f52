"""Training through a row cache against training in memory, and the predicted step time against the measured.

    python tests/benchmarks/tiers.py [--share 0.1] [--rounds 9] [--folder FOLDER_ON_THE_DISK]

One pair of ranks trains the same batches, of ids of Zipf's law with exponent 1.05 and made beforehand, in seven ways:
from memory, and from three sizes of cache over host memory and over a file past the page cache. A round trains eight
steps in each way, in random order; the first two are not timed, and neither are the rounds in which caches fill. Each
way writes a run of its own, which `memory_tiers` analyses. Asked, of the cache of `share` of the rows:

- over host memory at least 60 % of the throughput in memory;
- over the file at least 70 % of the bound: the longer of a step in memory and its requests (rows missed and written
  back, by the stores' counters) at the disk's rate. That rate is the 90th percentile of samples taken in every round,
  of as many threads in as many processes reading and writing records of the same size in a file of the same size;
- bytes that the kernel says it read from the disk are those that the stores count;
- the step time that the run at one size predicts for another is within 15 % of the measured.

Intervals are 95 %, by bootstrap over rounds; a limit is met when the lower bound meets it.
"""

import argparse
import json
import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from support.blocks import seconds_a_step
from support.disk import RandomRequests
from support.intervals import median_interval

import workbench as wb
from workbench.embeddings.backing import FileStore
from workbench.trace.rundir import RunDirectory, read_manifest
from workbench.workloads import launch
from workbench.workloads.directory import create_run
from workbench.workloads.training.config import Config, torchrec_peer
from workbench.workloads.training.manifest import describe
from workbench.workloads.training.train import Trainer

BLOCK, UNTIMED = 8, 2  # steps of a round
FILLING_ROUNDS = 3
FACTORS = (0.5, 1.0, 2.0)  # sizes of caches, of `share`
LEAST_OF_MEMORY, LEAST_OF_BOUND, MOST_ERROR = 0.6, 0.7, 0.15
DISK_SAMPLES, DISK_THREADS = 3, 16  # a round; of each rank, as `FileStore` has
IN_MEMORY = "memory"


@dataclass(frozen=True)
class Way:
    """One way to train: its settings, and the run that it writes."""

    config: Config
    run: Path


def ways(folder: Path, share: float, rounds: int) -> dict[str, Way]:
    """By name: memory, `dram 0.1` and so on; their run directories exist."""
    common = replace(
        torchrec_peer(), source="sessions", zipf_exponent=1.05, prepared_batches=0, steps=rounds * BLOCK,
        accesses_limit_bytes=1 << 30,
    )  # fmt: skip
    configs = {IN_MEMORY: common} | {
        f"{backing} {factor * share:g}": replace(common, cache_share=factor * share, backing=backing)
        for backing in ("dram", "ssd") for factor in FACTORS
    }  # fmt: skip
    return {
        name: Way(config, create_run("training", name.replace(" ", "-"), config, folder, **describe(config)).path)
        for name, config in configs.items()
    }


def body(ways: dict[str, Way], config, recorder, profiler, path) -> dict:
    """Train in every way; returns seconds of every timed block by way, of every sample of the disk, and the bytes that
    rank 0 read from its files, as counted by its stores and by the kernel."""
    trainers = {
        name: Trainer(way.config, RunDirectory(way.run).recorder(recorder.process, recorder.rank), way.run)
        for name, way in ways.items()
    }
    batches = list(trainers[IN_MEMORY].inputs())
    disk = RandomRequests(path, *_records(trainers), DISK_THREADS)
    order, blocks, samples = random.Random(0), {name: [] for name in ways}, []
    read = {"counted": -_counted_bytes(trainers), "by_the_kernel": 0}
    for first in range(0, config.steps, BLOCK):
        for name in order.sample(list(trainers), len(trainers)):
            before = _kernel_bytes()
            blocks[name].append(seconds_a_step(trainers[name], batches[first : first + BLOCK], first, UNTIMED))
            read["by_the_kernel"] += _kernel_bytes() - before
        samples += [_slowest(disk.seconds) for _ in range(DISK_SAMPLES)]
    read["counted"] += _counted_bytes(trainers)
    for trainer in trainers.values():
        trainer.recorder.close()
    return {
        "blocks": blocks, "requests_per_s": [disk.requests * config.ranks / each for each in samples],
        "read_bytes": read, "record_bytes": disk.record_bytes,
    }  # fmt: skip


def _slowest(measured: Callable[[], float]) -> float:
    """The longest of what all ranks measure at the same time."""
    dist.barrier()
    found = torch.tensor(measured())
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return float(found)


def _stores(trainer: Trainer) -> list[FileStore]:
    lookups = [lookup for tables in trainer.tables.sets for lookup in tables.lookups.values()]
    stores = [cache.store for lookup in lookups for cache in getattr(lookup, "caches", [])]
    return [store for store in stores if isinstance(store, FileStore)]


def _records(trainers: dict[str, Trainer]) -> tuple[int, int]:
    """Records of one way's file of rows, and bytes of each."""
    [store] = next(stores for stores in map(_stores, trainers.values()) if stores)
    rows = sum(len(own) for lookup in trainers[IN_MEMORY].tables.pooled.lookups.values() for own in lookup.weights)
    return rows, store.moved_row_bytes


def _counted_bytes(trainers: dict[str, Trainer]) -> int:
    return sum(store.read_bytes for trainer in trainers.values() for store in _stores(trainer))


def _kernel_bytes() -> int:
    """What this process has had the disk read, by the kernel's account."""
    return int(dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())["read_bytes"])


def over_memory(blocks: dict[str, list[float]], name: str) -> dict:
    """Throughput of one way over that in memory, pair by pair."""
    timed = {each: np.array(blocks[each][FILLING_ROUNDS:]) for each in (IN_MEMORY, name)}
    return _said(timed[IN_MEMORY] / timed[name], LEAST_OF_MEMORY if name.startswith("dram") else None)


def over_bound(results: dict, name: str, run: wb.Run) -> dict:
    """Bound over measured step time of one way that trains from a file, round by round."""
    timed = {each: np.array(results["blocks"][each][FILLING_ROUNDS:]) for each in (IN_MEMORY, name)}
    moved = run.metrics[run.metrics["name"].isin(("ssd_read_bytes", "ssd_write_bytes"))]
    a_step = moved.groupby("step")["value"].sum().to_numpy().reshape(-1, BLOCK)[FILLING_ROUNDS:]
    requests = a_step.mean(axis=1) / results["record_bytes"]
    needed = requests / disk_rate(results)
    bounds = {"requests_a_step": float(requests.mean()), "of_requests_s": float(needed.mean())}
    return bounds | _said(np.maximum(timed[IN_MEMORY], needed) / timed[name], LEAST_OF_BOUND)


def disk_rate(results: dict) -> float:
    """Requests a second of all ranks together."""
    return float(np.percentile(results["requests_per_s"], 90))


def _said(ratios: np.ndarray, limit: float | None) -> dict:
    median, low, high = median_interval(ratios)
    verdict = {} if limit is None else {"asked": limit, "limit_met": low >= limit}
    return {"median": median, "low": low, "high": high} | verdict


def predictions(runs: dict[str, wb.Run], results: dict, share: float) -> list[dict]:
    """Step time of every cache, as measured there and as predicted by the runs at other sizes; and of the cache over
    the file by the one over memory, at the bandwidth that the disk's rate gives a rank."""
    measured = {name: wb.analyze(run, "memory_tiers", by="cache") for name, run in runs.items()}
    rows = {name: int(result.table["capacity_rows"].max()) for name, result in measured.items()}
    asked = [
        (name, other, {"cache_rows": rows[name]})
        for name in runs for other in runs if other != name and other.split()[0] == name.split()[0]
    ]  # fmt: skip
    dram, ssd = (f"{backing} {share:g}" for backing in ("dram", "ssd"))
    table = runs[dram].manifest["tables"][0]
    rank_rate = disk_rate(results) / runs[dram].manifest["ranks"]
    row_bytes = table["row_bytes"] + table["state_bytes_per_row"]
    asked.append((ssd, dram, {"backing_bytes_per_s": rank_rate * row_bytes}))
    found = []
    for name, other, changes in asked:
        step_ns = measured[name].summary["step_measured_ns"]
        predicted_ns = wb.analyze(runs[other], "memory_tiers", by="cache", **changes).summary["step_predicted_ns"]
        error = predicted_ns / step_ns - 1
        found.append({"of": name, "from": other, "step_measured_s": step_ns / 1e9, "error_share": error,
                      "limit_met": abs(error) <= MOST_ERROR})  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--folder", type=Path, help="where rows' files go: on the disk that is to be measured")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as scratch:
        folder = Path(scratch)
        all_ways = ways(folder, chosen.share, chosen.rounds)
        config = replace(all_ways[IN_MEMORY].config, profile_steps=0)
        job = launch.Job(partial(body, all_ways), config, "trainer", ceilings=False, py_spy=False)
        create = partial(create_run, "training", "tiers", config, folder, **describe(config))
        results = read_manifest(launch.launch(job, config.ranks, create))["results"]
        runs = {name: wb.load(way.run) for name, way in all_ways.items() if name != IN_MEMORY}
        blocks = results["blocks"]
        report = {
            "step_s": {name: float(np.median(each[FILLING_ROUNDS:])) for name, each in blocks.items()},
            "over_in_memory": {name: over_memory(blocks, name) for name in runs},
            "disk_requests_per_s": np.percentile(results["requests_per_s"], [10, 50, 90]).round().tolist(),
            "over_bound": {name: over_bound(results, name, run) for name, run in runs.items() if "ssd" in name},
            "read_bytes": results["read_bytes"],
            "predictions": predictions(runs, results, chosen.share),
        }
        print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
