"""What pipelining hides: exposed and hidden communication of a step, and throughput, with `pipeline` on and off.

    python tests/benchmarks/pipelining.py [--preset torchrec-peer] [--pairs 5]

Runs come in pairs in random order. Where ranks have a core each and no more, the threads that transfer take their time
from those that compute: what is hidden is then not saved.
"""

import argparse
import random
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from support.intervals import median_interval

import workbench as wb
from workbench.workloads import start

COLUMNS = ("exposed, ms", "hidden, ms", "samples/s")


def one_run(traces: Path, preset: str, pipeline: bool) -> list[float]:
    """COLUMNS: communication a step, mean over ranks, and the median step's throughput."""
    settings = {"pipeline": pipeline, "steps": 30}
    run = wb.load(start("training", preset, settings, traces, ceilings=False, py_spy=False))
    calls, steps = wb.analyze(run, "communication").table, wb.analyze(run, "time").summary["steps"]
    metrics = run.metrics
    samples_per_s = metrics.loc[metrics["name"] == "samples_per_s", "value"].median()
    return [calls["exposed_ns"].sum() / steps / 1e6, calls["overlapped_ns"].sum() / steps / 1e6, samples_per_s]


def main() -> None:
    """Run, analyse, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="torchrec-peer")
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    found: dict[bool, list[list[float]]] = {True: [], False: []}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.pairs):
            for pipeline in random.sample(list(found), 2):
                found[pipeline].append(one_run(Path(folder), options.preset, pipeline))
    table = Table("", *COLUMNS, title=f"median of {options.pairs} runs and its 95 % interval")
    for pipeline, runs in found.items():
        columns = [median_interval(column) for column in np.array(runs).T]
        shown = [f"{median:,.1f} [{low:,.1f}, {high:,.1f}]" for median, low, high in columns]
        table.add_row("pipelined" if pipeline else "one after the other", *shown)
    Console().print(table)


if __name__ == "__main__":
    main()
