"""What instrumentation costs training, at the default sampling: at most 3 % of throughput.

    python tests/benchmarks/overhead.py [--preset torchrec-peer] [--blocks 40] [--limit-pct 3]

A machine whose speed wanders by 10 % between runs cannot tell 3 % from pairs of runs. So one run decides at random,
step by step and alike on all ranks, what is recorded, and every step is set against the median of those around it:

- spans: steps with spans and metrics against steps without;
- accesses: steps that also record embedding accesses, in the share of the preset's steps that its limit allows;
- profiler: windows of profiled steps, the step that prepares one and the writing of the file included, against the same
  number of steps without, in the preset's proportion of one window in `profile_every` steps.

The three add up, each a difference of means without the 10 % at both ends. Intervals are 95 %, by bootstrap over blocks
of steps; the limit is met when the upper bound meets it. The control compares random halves of the steps in which
nothing was recorded: what the machine alone would show.
"""

import argparse
import random
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from scipy.stats import trim_mean
from torch.profiler import ProfilerAction

from workbench.data.prefetch import Prefetch
from workbench.trace.rundir import read_manifest
from workbench.workloads import launch
from workbench.workloads.directory import create_run
from workbench.workloads.process import ProcessMetrics
from workbench.workloads.training.config import PRESETS
from workbench.workloads.training.manifest import describe
from workbench.workloads.training.train import Trainer

# Each block: one window of the profiler (a step that prepares it among them), the rest in random order.
BLOCK, WINDOW = 20, 4
ARMS = ("plain",) * 7 + ("spans",) * 6 + ("accesses",) * 3
NEAR = 5  # steps on either side whose median is the pace of the moment
TRIM_SHARE = 0.1
DRAWS = 2_000
PLENTY_BYTES = 1 << 50


def body(config, recorder, profiler, path) -> dict:
    """Train; returns the seconds of every step and what was recorded in it: an arm, or profiler."""
    trainer, process = Trainer(config, recorder, path), ProcessMetrics(recorder)
    limit_bytes, draw = trainer.accesses.left_bytes, random.Random(0)
    arms, seconds, bytes_a_step = [], [], 0
    with Prefetch(trainer.inputs()) as prepared, profiler:
        inputs = trainer.redistribute(prepared)
        while len(arms) < config.steps:
            profiled = [profiler.action(len(arms) + at) != ProfilerAction.NONE for at in range(BLOCK)]
            rest = iter(draw.sample(ARMS, len(ARMS)))
            for in_window in profiled:
                arm = "profiler" if in_window else next(rest, "plain")
                recorder.step, recorder.enabled = len(arms), arm != "plain"
                left_bytes = PLENTY_BYTES if arm == "accesses" else 0
                trainer.accesses.left_bytes = left_bytes
                started = time.perf_counter()
                with recorder.span("step"):
                    sums = trainer.step(inputs)
                profiler.step()
                recorder.metric("loss", sums.log_loss / sums.samples)
                process.record()
                seconds.append(time.perf_counter() - started)
                bytes_a_step = max(bytes_a_step, left_bytes - trainer.accesses.left_bytes)
                arms.append(arm)
    recorder.enabled = True
    return {"arms": arms, "seconds": seconds, "logged_steps": limit_bytes / bytes_a_step}


def costs(arms: np.ndarray, paces: np.ndarray, config, logged_steps: float, generator) -> tuple[float, ...]:
    """What spans, accesses, the profiler and nothing at all (the control) cost, as shares of a step. `paces`: time of
    each step over that of the moment."""
    plain, spans, accesses = (trim_mean(paces[arms == name], TRIM_SHARE) for name in ("plain", "spans", "accesses"))
    window = WINDOW * (paces[arms == "profiler"].mean() - plain)  # one step in four writes the file: nothing is trimmed
    halves = np.array_split(generator.permutation(paces[arms == "plain"]), 2)
    one, other = (trim_mean(half, TRIM_SHARE) for half in halves)
    logged_share = min(logged_steps / config.steps, 1)
    return spans - plain, (accesses - spans) * logged_share, window / config.profile_every, one - other


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="torchrec-peer")
    parser.add_argument("--blocks", type=int, default=40)
    parser.add_argument("--limit-pct", type=float, default=3.0)
    chosen = parser.parse_args()
    asked = PRESETS[chosen.preset]()
    config = replace(
        asked, steps=chosen.blocks * BLOCK, profile_every=BLOCK, evaluation_batches=0,
        threads_per_rank=launch.share_of_cores(asked.ranks),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        job = launch.Job(body, config, "trainer", ceilings=False, py_spy=False)
        create = partial(create_run, "training", chosen.preset, config, Path(folder), **describe(config))
        results = read_manifest(launch.launch(job, config.ranks, create))["results"]
    arms, seconds = (np.array(results[name])[BLOCK:] for name in ("arms", "seconds"))  # the first block warms up
    moment = np.array([np.median(seconds[max(at - NEAR, 0) : at + NEAR + 1]) for at in range(len(seconds))])
    arms, paces = arms.reshape(-1, BLOCK), (seconds / moment).reshape(-1, BLOCK)
    generator = np.random.default_rng(0)
    drawn = []
    for _ in range(DRAWS):
        blocks = generator.integers(len(arms), size=len(arms))
        drawn.append(costs(arms[blocks].ravel(), paces[blocks].ravel(), asked, results["logged_steps"], generator))
    spans, accesses, profiler, control = np.array(drawn).T
    found = {"spans": spans, "accesses": accesses, "profiler": profiler, "all": spans + accesses + profiler}
    print(f"{chosen.preset}: {len(arms)} blocks of {BLOCK} steps of {np.median(seconds) * 1e3:.0f} ms")
    for name, values in {**found, "control": control}.items():
        low, median, high = 100 * np.percentile(values, [2.5, 50, 97.5])
        print(f"{name:9} {median:+.2f} % of a step [{low:+.2f}, {high:+.2f}]")
    met = 100 * np.percentile(found["all"], 97.5) <= chosen.limit_pct
    print(f"limit {chosen.limit_pct} %: {'met' if met else 'NOT met'}")


if __name__ == "__main__":
    main()
