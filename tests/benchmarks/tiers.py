"""Training through a row cache against training in memory, and the predicted step time against the measured.

    python tests/benchmarks/tiers.py [--backing dram|ssd] [--share 0.1] [--pairs 6] [--steps 60]

Runs alternate: in memory, then with a cache of `share` of the rows, at the shape that is compared with TorchRec and ids
of Zipf's law with exponent 1.05. Printed as JSON: the ratio of throughputs with its interval (over dram at least 0.6);
for ssd the share of the bound that is reached (at least 0.7), where the bound is the longer of a step without waiting
and its blocks at the disk's measured rate; bytes that the kernel really read beside those that the stores counted; and
for three cache sizes the step time that the middle one's run predicts beside the measured one (within 15 %).
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import psutil
from support.intervals import median_interval

import workbench as wb
from workbench.machine.measure import ceilings
from workbench.workloads import start

ZIPF = {"zipf_exponent": "1.05"}
SHAPE = {"rows": "100000,100000", "pooling_factor": "1", "bottom_mlp": "512,256", "top_mlp": "512,512,256"}
FACTORS = (0.5, 1.0, 2.0)  # sizes of the cache whose step times are predicted, of `share`


def train(folder: Path, steps: int, **settings: str) -> wb.Run:
    """One run on two ranks, and what it recorded."""
    common = SHAPE | ZIPF | {"steps": str(steps), "ranks": "2", "evaluation_batches": "0"}
    return wb.load(start("training", "default", common | settings, folder, ceilings=False, py_spy=False))


def disk_bytes_per_s() -> float:
    """Random reads of 4 KiB, 16 at a time, as measured on this machine."""
    table = ceilings(quick=True).table
    reads = table[(table["tier"] == "ssd") & (table["name"] == "random_read") & (table["unit"] == "B/s")]
    return float(reads.loc[reads["active"] == 16, "value"].max())


def bound_share(run: wb.Run, bytes_per_s: float) -> float:
    """Bound over measured step time, of the slower rank."""
    rows = wb.analyze(run, "memory_tiers", by="cache").table
    own_ns = rows["step_measured_ns"] - rows["wait_measured_ns"]
    moved_ns = 1e9 * rows["measured_moved_bytes"].sum() / bytes_per_s  # ranks share the disk
    return float((np.maximum(own_ns, moved_ns) / rows["step_measured_ns"]).min())


def predictions(folder: Path, steps: int, share: float, backing: str) -> list[dict]:
    """Step time of three cache sizes, each measured by a run and predicted from the middle one."""
    runs = {f: train(folder, steps, cache_share=str(f * share), backing=backing) for f in FACTORS}
    found = []
    for run in runs.values():
        capacity_rows = int(wb.analyze(run, "memory_tiers", by="cache").table["capacity_rows"].max())
        measured_ns = wb.analyze(run, "memory_tiers", by="cache").summary["step_measured_ns"]
        predicted = wb.analyze(runs[1.0], "memory_tiers", by="cache", cache_rows=capacity_rows)
        predicted_ns = predicted.summary["step_predicted_ns"]
        found.append({"capacity_rows": capacity_rows, "step_measured_ns": measured_ns,
                      "step_predicted_ns": predicted_ns, "error_share": predicted_ns / measured_ns - 1})  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--backing", choices=("dram", "ssd"), default="dram")
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--folder", type=Path, help="where rows' files go: on the disk that is to be measured")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as scratch:
        folder = Path(scratch)
        ratios, bounds = [], []
        rate = disk_bytes_per_s() if chosen.backing == "ssd" else None
        for _ in range(chosen.pairs):
            whole = train(folder, chosen.steps)
            before = psutil.disk_io_counters().read_bytes
            cached = train(folder, chosen.steps, cache_share=str(chosen.share), backing=chosen.backing)
            from_disk = psutil.disk_io_counters().read_bytes - before
            rates = [wb.analyze(run, "time").summary["samples_per_s"] for run in (cached, whole)]
            ratios.append(rates[0] / rates[1])
            if rate is not None:
                bounds.append(bound_share(cached, rate))
        metrics = cached.metrics
        counted = float(metrics.loc[metrics["name"] == "ssd_read_bytes", "value"].sum())
        median, low, high = median_interval(ratios)
        hits = wb.analyze(cached, "memory_tiers", by="cache").summary
        print(json.dumps({
            **{name: str(value) for name, value in vars(chosen).items()},
            "throughput_over_in_memory": {"median": median, "low": low, "high": high},
            "share_of_bound": bounds, "hits": hits,
            "read_bytes": {"counted": counted, "by_the_disk": from_disk},
            "predictions": predictions(folder, chosen.steps, chosen.share, chosen.backing),
        }, indent=1))  # fmt: skip


if __name__ == "__main__":
    main()
