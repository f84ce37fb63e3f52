"""What one span costs: recorder on and off, against an empty `with` block of Python in the same run.

    python tests/benchmarks/recorder.py [--limit-on-ns 3000] [--limit-off-ns 300]

Blocks of spans are timed in random order, at least 20 of each; encoding and writing happen on the recorder's thread and
are counted as CPU time of the process over the whole measurement, since they take the interpreter's lock.
"""

import argparse
import contextlib
import random
import tempfile
import time
from pathlib import Path

import numpy as np

from workbench.trace.recorder import Recorder

SPANS, BLOCKS = 5_000, 40


def block_ns(span) -> float:
    """CPU time of the process (the flushing thread's included) a span."""
    start_ns = time.process_time_ns()
    for _ in range(SPANS):
        with span("embedding_lookup", kind="compute", phase="forward"):
            pass
    return (time.process_time_ns() - start_ns) / SPANS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit-on-ns", type=float, default=3000)
    parser.add_argument("--limit-off-ns", type=float, default=300)
    limits = parser.parse_args()
    empty = contextlib.nullcontext()
    with tempfile.TemporaryDirectory() as folder, Recorder(Path(folder), "benchmark") as recorder:
        spans = {"on": recorder.span, "off": Recorder(None).span, "empty with": lambda *_, **__: empty}
        found = {name: [] for name in spans}
        for name in random.sample([*spans] * BLOCKS, k=BLOCKS * len(spans)):
            if name == "on":
                recorder.flush()  # earlier spans are paid by the block that made them
            cost_ns = block_ns(spans[name])
            if name == "on":
                start_ns = time.process_time_ns()
                recorder.flush()
                cost_ns += (time.process_time_ns() - start_ns) / SPANS
            found[name].append(cost_ns)
    for name, costs in found.items():
        low, median, high = np.percentile(costs, [5, 50, 95])
        print(f"span {name}: median {median:.0f} ns [{low:.0f}, {high:.0f}] over {len(costs)} blocks of {SPANS}")
    for name, limit in (("on", limits.limit_on_ns), ("off", limits.limit_off_ns)):
        met = "met" if np.median(found[name]) <= limit else "NOT met"
        print(f"limit {limit:.0f} ns for a span {name}: {met}")


if __name__ == "__main__":
    main()
