"""How long each analysis takes on a trace of four million events: at most 2 s is what the workbench promises.

    python tests/benchmarks/analyses.py
    python tests/benchmarks/analyses.py --events 1000000 --only time roofline

A small trace is repeated with later steps (support/repeated_trace.py) and loaded once; `difference` compares it with
itself. An analysis that does not apply to the trace is shown as such. The first call of each compiles or loads its
numba kernels, so each is called once on the small trace before.
"""

import argparse
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table
from support.repeated_trace import repeated_trace

import workbench as wb
from workbench.analyses import PAIRWISE, names

LIMIT_S = 2.0
ANALYSES = (*names(), *sorted(PAIRWISE))


def main() -> None:
    """Write, load, analyse, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=4_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=ANALYSES, default=ANALYSES)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        small, large = Path(folder) / "small.json.gz", Path(folder) / "large.json.gz"
        repeated_trace(small, events=1)
        about = repeated_trace(large, events=options.events)
        small_run, run = wb.load(small), wb.load(large)
        rows = [measure(name, small_run, run, options.repeats) for name in options.only]
    show(rows, len(run.events), about)


def analyse(name: str, run: wb.Run):
    """The analysis with its default options; of two runs where it takes two."""
    return wb.compare(run, run) if name == "difference" else wb.analyze(run, name)


def measure(name: str, small_run: wb.Run, run: wb.Run, repeats: int) -> dict:
    """Least wall and CPU seconds of an analysis of `run`."""
    analyse(name, small_run)
    wall_s, cpu_s = [], []
    for _ in range(repeats):
        started, cpu_started = time.perf_counter(), time.process_time()
        result = analyse(name, run)
        wall_s.append(time.perf_counter() - started)
        cpu_s.append(time.process_time() - cpu_started)
    return {"name": name, "rows": len(result.table), "wall_s": min(wall_s), "cpu_s": min(cpu_s), "why": result.reason}


def show(rows: list[dict], events: int, about: dict) -> None:
    """The table for people, and whether the limit is met."""
    table = Table(title=f"{events:,} events, from {about['source']}")
    for column in ("analysis", "rows", "wall, s", "CPU, s", f"limit {LIMIT_S:g} s"):
        table.add_column(column, justify="left" if column == "analysis" else "right")
    for row in rows:
        verdict = "not applicable" if row["why"] else "met" if row["wall_s"] <= LIMIT_S else "missed"
        table.add_row(row["name"], f"{row['rows']:,}", f"{row['wall_s']:.2f}", f"{row['cpu_s']:.2f}", verdict)
    Console().print(table)


if __name__ == "__main__":
    main()
