"""Training against TorchRec's DistributedModelParallel at the same shape, and against the bound of its own operators.

    python tests/benchmarks/training.py [--pooling 1 10] [--steps 100] [--pairs 8] [--bound-pct 75]

TorchRec goes into an environment of its own, so that it cannot replace FBGEMM's CPU build: `pip install --no-deps
torchrec==1.8.0` and what it then asks for (tensordict, torchmetrics, pyre-extensions, iopath...). Where it is not
importable the comparison is left out, and says so.

Both engines train the preset torchrec-peer: batches made beforehand, nothing recorded. Their first losses must agree.
Runs come in pairs in random order; the ratio of throughputs is the median of pairs with its 95 % interval, and a limit
is met when the lower bound meets it. TorchRec's steps include the sum of losses over ranks that ours sends along with
the gradients: two numbers.

The bound is the sum over serial operators of max(FLOPs / peak, bytes / bandwidth), by the roofline analysis of an
instrumented run with ceilings measured while all ranks work; it is compared with the step less communication, in as
many runs as there are pairs.
"""

import argparse
import importlib.util
import json
import random
import tempfile
from pathlib import Path

from support.intervals import median_interval

import workbench as wb
from workbench.trace.rundir import read_manifest
from workbench.workloads import start

PRESET = "torchrec-peer"
LEAST_RATIO = {1: 1.5, 10: 1.3}  # by ids a feature
SAME_LOSS = 1e-5


def train(traces: Path, ceilings: bool = False, **settings: object) -> Path:
    return start("training", PRESET, settings, traces, ceilings=ceilings, py_spy=False)


def first_loss(traces: Path, pooling: int, engine: str) -> float:
    path = train(traces, engine=engine, pooling_factor=pooling, steps=1, warmup_steps=0, prepared_batches=1)
    metrics = wb.load(path).metrics
    return float(metrics.loc[metrics["name"] == "loss", "value"].iloc[0])


def samples_per_s(traces: Path, pooling: int, engine: str, steps: int) -> float:
    path = train(traces, engine=engine, pooling_factor=pooling, steps=steps, instrument=False)
    return read_manifest(path)["results"]["samples_per_s"]


def against_torchrec(traces: Path, pooling: int, steps: int, pairs: int) -> dict:
    losses = {engine: first_loss(traces, pooling, engine) for engine in ("workbench", "torchrec")}
    if abs(losses["workbench"] - losses["torchrec"]) > SAME_LOSS:
        raise SystemExit(f"the engines do not train the same model: first losses are {losses}")
    measured: dict[str, list[float]] = {engine: [] for engine in losses}
    for number in range(pairs):
        for engine in random.sample(list(measured), 2):
            measured[engine].append(samples_per_s(traces, pooling, engine, steps))
        ours, theirs = (measured[engine][-1] for engine in losses)
        print(f"pooling {pooling}, pair {number + 1}: {ours:,.0f} / {theirs:,.0f} = {ours / theirs:.3f}", flush=True)
    ratios = [ours / theirs for ours, theirs in zip(*measured.values(), strict=True)]
    median, low, high = median_interval(ratios)
    limit = LEAST_RATIO.get(pooling)
    return {
        "pooling": pooling, "first_loss": losses, "samples_per_s": measured, "ratio": median, "low": low, "high": high,
        "limit": limit, "limit_met": None if limit is None else low >= limit,
    }  # fmt: skip


def against_bound(traces: Path, steps: int, runs: int, limit_pct: float) -> dict:
    found = [bound(traces, steps) for _ in range(runs)]
    median, low, high = median_interval([run["bound_share"] for run in found])
    return {
        "runs": found, "bound_share": median, "low": low, "high": high, "limit_pct": limit_pct,
        "limit_met": 100 * low >= limit_pct,
    }  # fmt: skip


def bound(traces: Path, steps: int) -> dict:
    path = train(traces, ceilings=True, steps=steps)
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
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--bound-pct", type=float, default=75.0)
    chosen = parser.parse_args()
    found: dict = {}
    with tempfile.TemporaryDirectory() as folder:
        found["bound"] = against_bound(Path(folder), chosen.steps, chosen.pairs, chosen.bound_pct)
        print(json.dumps(found["bound"], indent=1), flush=True)
        if importlib.util.find_spec("torchrec") is None:
            print("torchrec is not importable here: the comparison with it is left out")
        else:
            for pooling in chosen.pooling:
                found[f"torchrec at pooling {pooling}"] = against_torchrec(
                    Path(folder), pooling, chosen.steps, chosen.pairs
                )
    print(json.dumps({**vars(chosen), **found}, indent=1))


if __name__ == "__main__":
    main()
