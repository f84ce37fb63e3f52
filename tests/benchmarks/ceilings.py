"""Do our ceilings agree with independent programs on this machine? `python tests/benchmarks/ceilings.py`

Each row interleaves ours with another program in the same run and compares the 90th percentiles: STREAM's triad in C
(gcc -O3 -march=native), NumPy's matrix product, PyTorch's pooled embedding lookup, likwid-bench where it is installed.
Rates should agree within 15 %; a lookup does more than gather rows, so ours may be any amount above it.
"""

import ctypes
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from workbench.machine.measure import compute, gather, memory
from workbench.machine.measure.arena import arena
from workbench.machine.measure.plan import Plan
from workbench.machine.measure.sampling import interleaved, passes_for
from workbench.machine.measure.team import Team
from workbench.units import format_decimal

REPEATS, LIMIT = 30, 0.15
LOOKUP_ROW_BYTES, LOOKUP_FOOTPRINT_BYTES, BAG = 256, 1 << 30, 64
C_TRIAD = """
void triad(double *restrict a, const double *restrict b, const double *restrict c, long n, long passes) {
    for (long r = 0; r < passes; r++) {
        double s = (double)r;
        for (long i = 0; i < n; i++) a[i] = b[i] + s * c[i];
        __asm__ volatile("" : : "r"(a) : "memory");  /* every pass happens */
    }
}
"""


def main() -> None:
    if "OPENBLAS_NUM_THREADS" not in os.environ:  # NumPy reads it when it is imported: start again with it
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "OPENBLAS_NUM_THREADS": "1"})
    plan = Plan.of_this_machine(quick=True)
    rows = [*triads(plan), *products(plan), lookup(plan), *likwid(plan)]
    print(f"{'what':<42} {'ours':>14} {'other':>14} {'ours/other':>11}")
    for what, unit, ours, other, upper_bound in rows:
        ratio = ours / other
        fine = ratio >= 1 - LIMIT if upper_bound else abs(ratio - 1) <= LIMIT
        verdict = f"{'holds' if fine else 'FAILS'}: {'no lower than 85 % of it' if upper_bound else 'within 15 %'}"
        shown = f"{format_decimal(ours, unit):>14} {format_decimal(other, unit):>14} {ratio:>11.3f}"
        print(f"{what:<42} {shown}  {verdict}")


def triads(plan: Plan) -> list[tuple]:
    """Ours against the C loop by level, on one core, over the same memory."""
    if shutil.which("gcc") is None:
        print("no gcc: triad is not compared")
        return []
    sets = plan.working_sets() | {"dram": memory._streaming_set(plan)}
    with tempfile.TemporaryDirectory() as folder, Team(plan.cores[:1]) as team:
        source, library = Path(folder) / "triad.c", Path(folder) / "triad.so"
        source.write_text(C_TRIAD)
        subprocess.run(["gcc", "-O3", "-march=native", "-shared", "-fPIC", "-o", library, source], check=True)
        function = ctypes.CDLL(str(library)).triad

        def c_triad(target: np.ndarray, first: np.ndarray, second: np.ndarray, passes: int) -> None:
            pointers = (ctypes.c_void_p(array.ctypes.data) for array in (target, first, second))
            function(*pointers, ctypes.c_long(len(target)), ctypes.c_long(passes))

        stream = memory._Stream(team, [arena(max(sets.values()))], plan.last_level_bytes)
        other = memory.Pattern(c_triad, 3, {"triad": 24})
        trials = {
            (tier, who): stream.trial(pattern, size, 1)
            for tier, size in sets.items()
            for who, pattern in (("ours", memory.PATTERNS["triad"]), ("other", other))
        }
        samples = interleaved(trials, REPEATS)
    best = {key: 24 * np.percentile(values, 90) for key, values in samples.items()}
    return [(f"triad {tier}, C", "B/s", best[tier, "ours"], best[tier, "other"], False) for tier in sets]


def products(plan: Plan) -> list[tuple]:
    """PyTorch's fp32 product against NumPy's, both on one thread."""
    trials = {}
    for size in (1024, 2048):
        left, right = np.random.default_rng(0).random((2, size, size), dtype=np.float32)
        trials[size, "ours"] = compute._trial("fp32", (size, size, size), 1)
        trials[size, "other"] = lambda a=left, b=right, size=size: _numpy_flops_per_s(a, b, size)
    samples = interleaved(trials, REPEATS)
    best = {key: np.percentile(values, 90) for key, values in samples.items()}
    return [(f"fp32 product {n}, NumPy", "FLOP/s", best[n, "ours"], best[n, "other"], False) for n in (1024, 2048)]


def _numpy_flops_per_s(left: np.ndarray, right: np.ndarray, size: int) -> float:
    start_ns = time.perf_counter_ns()
    np.matmul(left, right)
    return 2.0 * size**3 / (time.perf_counter_ns() - start_ns) * 1e9


def lookup(plan: Plan) -> tuple:
    """Our gather, at its better variant, against a pooled embedding lookup of the same rows on one thread."""
    size = min(LOOKUP_FOOTPRINT_BYTES, plan.memory_bytes)
    table = torch.ones(size // LOOKUP_ROW_BYTES, LOOKUP_ROW_BYTES // 4)
    with Team(plan.cores[:1]) as team, torch.inference_mode():
        lookups = gather._Lookups(team, [table.view(torch.int64).view(-1).numpy()], plan.last_level_bytes)
        trials = {name: lookups.trial(size, LOOKUP_ROW_BYTES, ahead, 1) for name, ahead in gather.VARIANTS.items()}
        trials["other"] = _pooled_lookup(table)
        samples = interleaved(trials, REPEATS)
    best = {name: np.percentile(values, 90) for name, values in samples.items()}
    ours = max(best[name] for name in gather.VARIANTS)
    return f"gather {LOOKUP_ROW_BYTES} B of {size >> 20} MiB, embedding_bag", "B/s", ours, best["other"], True


def _pooled_lookup(table: torch.Tensor):
    drawn = iter(torch.randint(len(table), (len(table) // BAG // 64 * 64, BAG)).split(64))
    batches = itertools.cycle(list(drawn))

    def run(batch_count: int) -> float:
        torch.set_num_threads(1)
        start_ns = time.perf_counter_ns()
        for indices in itertools.islice(batches, batch_count):
            torch.nn.functional.embedding_bag(indices, table, mode="sum")
        return time.perf_counter_ns() - start_ns

    count = passes_for(run)
    return lambda: count * 64 * BAG * LOOKUP_ROW_BYTES / run(count) * 1e9


def likwid(plan: Plan) -> list[tuple]:
    """DRAM triad of likwid-bench on one core; its counts are 24 B an iteration as well."""
    if shutil.which("likwid-bench") is None:
        print("no likwid-bench: not compared")
        return []
    size = memory._streaming_set(plan)
    command = ["likwid-bench", "-t", "stream", "-w", f"S0:{size // 1000}kB:1"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    other = float(re.search(r"MByte/s:\s*([\d.]+)", text)[1]) * 1e6
    with Team(plan.cores[:1]) as team:
        trial = memory._Stream(team, [arena(size)], plan.last_level_bytes).trial(memory.PATTERNS["triad"], size, 1)
        ours = 24 * np.percentile(interleaved({"ours": trial}, REPEATS)["ours"], 90)
    return [("triad dram, likwid-bench", "B/s", ours, other, False)]


if __name__ == "__main__":
    main()
