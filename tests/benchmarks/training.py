"""Training against TorchRec's DistributedModelParallel at the same shape, and against the bound of its own operators.

    python tests/benchmarks/training.py [--pooling 1 10] [--pairs 30] [--runs 5] [--bound-pct 75]

TorchRec goes into an environment of its own, so that it cannot replace FBGEMM's CPU build: `pip install --no-deps
torchrec==1.8.0` and what it then asks for (tensordict, torchmetrics, pyre-extensions, iopath...). Where it is not
importable the comparison is left out, and says so.

Both engines train the preset torchrec-peer in one pair of ranks: batches made beforehand, nothing recorded. Their first
losses must agree. They take turns in random order, a block of steps each, so that a pair of blocks shares the
machine's moods; the ratio of throughputs is the median over pairs with its 95 % interval, and a limit is met when the
lower bound meets it. The control does the same for the halves of each of our blocks. TorchRec's steps include the sum
of losses over ranks that ours sends along with the gradients: two numbers.

The bound is the sum over serial operators of max(FLOPs / peak, bytes / bandwidth), by the roofline analysis of an
instrumented run with ceilings measured while all ranks work; it is compared with the step less communication, in
several runs.
"""

import argparse
import importlib.util
import json
import random
import tempfile
import time
from dataclasses import replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from support.intervals import median_interval

import workbench as wb
from workbench.trace.recorder import Recorder
from workbench.trace.rundir import read_manifest
from workbench.workloads import launch, start
from workbench.workloads.directory import create_run
from workbench.workloads.profiling import StepProfiler
from workbench.workloads.training.config import PRESETS, Config
from workbench.workloads.training.manifest import describe
from workbench.workloads.training.train import make_trainer

PRESET = "torchrec-peer"
ENGINES = ("workbench", "torchrec")
BLOCK, UNTIMED, WARMUP_PAIRS = 8, 2, 3  # steps of a block; the first ones find the other engine's data in the caches
BOUND_STEPS = 100
LEAST_RATIO = {1: 1.5, 10: 1.3}  # by ids a feature
SAME_LOSS = 1e-5


def turns(config: Config, recorder: Recorder, profiler: StepProfiler, path: Path) -> dict:
    """Train with both engines in turn; returns the first loss of each, and seconds of every step: [blocks, BLOCK]."""
    trainers = {engine: make_trainer(replace(config, engine=engine), recorder, path) for engine in ENGINES}
    batches = {
        engine: trainer.redistribute(cycle(list(islice(trainer.inputs(), config.prepared_batches))))
        for engine, trainer in trainers.items()
    }
    order, losses = random.Random(0), {}
    seconds: dict[str, list[list[float]]] = {engine: [] for engine in ENGINES}
    for _ in range(config.steps // BLOCK):
        for engine in order.sample(ENGINES, len(ENGINES)):
            taken = []
            for _ in range(BLOCK):
                started = time.perf_counter()
                sums = trainers[engine].step(batches[engine])
                taken.append(time.perf_counter() - started)
                losses.setdefault(engine, sums.log_loss / sums.samples)
            seconds[engine].append(taken)
    return {"losses": losses, "seconds": seconds}


def against_torchrec(traces: Path, pooling: int, pairs: int) -> dict:
    config = replace(PRESETS[PRESET](), pooling_factor=pooling, steps=(pairs + WARMUP_PAIRS) * BLOCK, instrument=False)
    job = launch.Job(turns, config, "trainer", ceilings=False, py_spy=False)
    create = partial(create_run, "training", "turns", config, traces, **describe(config))
    results = read_manifest(launch.launch(job, config.ranks, create))["results"]
    losses = results["losses"]
    if abs(losses["workbench"] - losses["torchrec"]) > SAME_LOSS:
        raise SystemExit(f"the engines do not train the same model: first losses are {losses}")
    ours, theirs = (np.array(results["seconds"][engine])[WARMUP_PAIRS:, UNTIMED:] for engine in ENGINES)
    median, low, high = median_interval(theirs.mean(axis=1) / ours.mean(axis=1))
    limit = LEAST_RATIO.get(pooling)
    control = median_interval(ours[:, ::2].mean(axis=1) / ours[:, 1::2].mean(axis=1))
    rates = {
        engine: config.global_batch_size / float(np.median(each))
        for engine, each in zip(ENGINES, (ours, theirs), strict=True)
    }
    return {
        "pooling": pooling, "first_loss": losses, "samples_per_s": rates, "ratio": median, "low": low, "high": high,
        "control": control, "limit": limit, "limit_met": None if limit is None else low >= limit,
    }  # fmt: skip


def against_bound(traces: Path, runs: int, limit_pct: float) -> dict:
    found = [bound(traces) for _ in range(runs)]
    median, low, high = median_interval([run["bound_share"] for run in found])
    return {
        "runs": found, "bound_share": median, "low": low, "high": high, "limit_pct": limit_pct,
        "limit_met": 100 * low >= limit_pct,
    }  # fmt: skip


def bound(traces: Path) -> dict:
    path = start("training", PRESET, {"steps": BOUND_STEPS}, traces, ceilings=True, py_spy=False)
    run = wb.load(path)
    roofline, time = wb.analyze(run, "roofline"), wb.analyze(run, "time")
    manifest = read_manifest(path)
    step_ns = 1e9 * manifest["samples_per_step"] / manifest["results"]["samples_per_s"]
    communication_share = float(time.table["communication_pct"].mean()) / 100
    share = roofline.summary["step_bound_ns"] / (step_ns * (1 - communication_share))
    return {
        "step_ns": step_ns, "communication_share": communication_share, "bound_share": share,
        "step_bound_ns": roofline.summary["step_bound_ns"], "covered": roofline.summary["covered_time_share"],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pooling", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--pairs", type=int, default=30, help="blocks of each engine")
    parser.add_argument("--runs", type=int, default=5, help="that are set against their bound")
    parser.add_argument("--bound-pct", type=float, default=75.0)
    chosen = parser.parse_args()
    found: dict = {}
    with tempfile.TemporaryDirectory() as folder:
        found["bound"] = against_bound(Path(folder), chosen.runs, chosen.bound_pct)
        print(json.dumps(found["bound"], indent=1), flush=True)
        if importlib.util.find_spec("torchrec") is None:
            print("torchrec is not importable here: the comparison with it is left out")
        else:
            for pooling in chosen.pooling:
                found[f"torchrec at pooling {pooling}"] = against_torchrec(Path(folder), pooling, chosen.pairs)
    print(json.dumps({**vars(chosen), **found}, indent=1))


if __name__ == "__main__":
    main()
