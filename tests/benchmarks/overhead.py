"""What instrumentation costs: training with default sampling against training that records nothing.

    python tests/benchmarks/overhead.py [--preset torchrec-peer] [--steps 100] [--limit-pct 3] [--max-pairs 30]

Runs come in pairs in random order, each a whole run whose throughput is the mean after warm-up. A control pair (both
off) says what the machine's noise alone would show. Pairs are added, at least 6, until the interval of the median ratio
is narrow enough to judge the limit: half its width a third of the limit. It is met when the upper bound meets it.
"""

import argparse
import json
import random
import tempfile
from pathlib import Path

import numpy as np

from workbench.trace.rundir import read_manifest
from workbench.workloads import start

MIN_PAIRS = 6


def samples_per_s(preset: str, steps: int, instrument: bool, traces: Path) -> float:
    settings = {"steps": steps, "instrument": instrument, "evaluation_batches": 0}
    path = start("training", preset, settings, traces, ceilings=False, py_spy=False)
    return read_manifest(path)["results"]["samples_per_s"]


def pair(preset: str, steps: int, instrument: bool, traces: Path) -> float:
    """Slowdown of a run with `instrument` against one without: time a sample over time a sample."""
    order = [True, False]
    random.shuffle(order)
    measured = {first: samples_per_s(preset, steps, instrument and first, traces) for first in order}
    return measured[False] / measured[True]


def median_interval(ratios: list[float]) -> tuple[float, float, float]:
    """The median and its 95 % interval, by bootstrap over pairs."""
    draws = np.random.default_rng(0).choice(ratios, (10_000, len(ratios)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    return float(np.median(ratios)), float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="torchrec-peer")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--limit-pct", type=float, default=3.0)
    parser.add_argument("--max-pairs", type=int, default=30)
    chosen = parser.parse_args()
    ratios: dict[bool, list[float]] = {True: [], False: []}
    with tempfile.TemporaryDirectory() as folder:
        while len(ratios[True]) < chosen.max_pairs:
            for instrument, found in ratios.items():
                found.append(pair(chosen.preset, chosen.steps, instrument, Path(folder)))
            median, low, high = median_interval(ratios[True])
            print(f"{len(ratios[True])} pairs: on/off {median:.4f} [{low:.4f}, {high:.4f}]", flush=True)
            if len(ratios[True]) >= MIN_PAIRS and 100 * (high - low) / 2 <= chosen.limit_pct / 3:
                break
    names = {True: "instrumented", False: "control"}
    table = {
        names[on]: dict(zip(("median", "low", "high"), median_interval(found), strict=True))
        for on, found in ratios.items()
    }
    verdict = 100 * (table["instrumented"]["high"] - 1) <= chosen.limit_pct
    print(json.dumps({**vars(chosen), "pairs": len(ratios[True]), **table, "limit_met": verdict}, indent=1))


if __name__ == "__main__":
    main()
