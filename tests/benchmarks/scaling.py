"""How step time grows with the number of tables and with the batch: asked, at most linearly.

    python tests/benchmarks/scaling.py [--rounds 10]

Two ranks train the shape of the preset torchrec-peer, with smaller tables, at four sizes of each kind. Sizes take turns
in random order, a few steps at a time. A round's growth is the slope of log(step time) over log(size), by least
squares; printed is the median over rounds with its 95 % interval, and the limit is met when the upper bound is at most
1. The interaction's products grow with the square of the tables: what holds here need not hold far beyond.
"""

import argparse
import json
import random
import tempfile
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from support.blocks import seconds_a_step
from support.intervals import median_interval

from workbench.trace.recorder import Recorder
from workbench.trace.rundir import read_manifest
from workbench.workloads import launch
from workbench.workloads.directory import create_run
from workbench.workloads.training.config import torchrec_peer
from workbench.workloads.training.manifest import describe
from workbench.workloads.training.train import Trainer

SIZES = {"tables": (8, 16, 32, 64), "global_batch_size": (1024, 2048, 4096, 8192)}
BLOCK, UNTIMED = 6, 2  # steps of a round, all on the batches of the first
MOST = 1.0
BASE = replace(torchrec_peer(), rows=(20_000, 20_000), instrument=False)


def body(config, recorder, profiler, path) -> dict:
    """Seconds a step of every size, round by round: {kind: [rounds, sizes]}."""
    trainers, batches = {}, {}
    for kind, sizes in SIZES.items():
        for size in sizes:
            trainer = Trainer(replace(config, **{kind: size}), Recorder(None), path)
            trainers[kind, size], batches[kind, size] = trainer, list(islice(trainer.inputs(), BLOCK))
    seconds = {kind: np.empty((config.steps // BLOCK, len(sizes))) for kind, sizes in SIZES.items()}
    order = random.Random(0)  # the same on all ranks
    for round in range(config.steps // BLOCK):
        for kind, size in order.sample(list(trainers), len(trainers)):
            measured = seconds_a_step(trainers[kind, size], batches[kind, size], round * BLOCK, UNTIMED)
            seconds[kind][round, SIZES[kind].index(size)] = measured
    return {kind: rounds.tolist() for kind, rounds in seconds.items()}


def growth(kind: str, seconds: np.ndarray) -> dict:
    slopes = np.polyfit(np.log(SIZES[kind]), np.log(seconds.T), 1)[0]
    median, low, high = median_interval(slopes)
    return {
        "sizes": SIZES[kind], "step_s": np.median(seconds, axis=0).tolist(), "slope": median, "low": low, "high": high,
        "asked": MOST, "limit_met": high <= MOST,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    chosen = parser.parse_args()
    config = replace(BASE, steps=(chosen.rounds + 1) * BLOCK)
    with tempfile.TemporaryDirectory() as folder:
        job = launch.Job(body, config, "trainer", ceilings=False, py_spy=False)
        create = partial(create_run, "training", "scaling", config, Path(folder), **describe(config))
        results = read_manifest(launch.launch(job, config.ranks, create))["results"]
    # The first round warms up.
    print(json.dumps({kind: growth(kind, np.array(rounds[1:])) for kind, rounds in results.items()}, indent=1))


if __name__ == "__main__":
    main()
