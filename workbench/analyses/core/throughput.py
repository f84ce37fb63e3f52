"""How fast a run went: its own step spans, those that no profiler slowed, from where they are steady.

A step takes as long as its slowest rank. Steady state begins at the first step from which SETTLING_STEPS steps have a
median within SETTLED_SHARE of the median of the second half of the run.
"""

import numpy as np
import pandas as pd

from workbench.analyses.core.rows import recorded, tagged
from workbench.trace.run import Run

SETTLING_STEPS = 5
SETTLED_SHARE = 0.1
# A profiler that slows steps by more inflates the times of what it saw.
PROFILING_LIMIT = 1.05


def throughput(run: Run) -> tuple[dict[str, float], list[str]]:
    """Summary and notes of a run that recorded its steps; both empty where it did not."""
    steps = step_times(run)
    plain = steps[~steps["warmup"] & ~steps["profiled"]]
    if len(plain) == 0:
        return {}, []
    steady = plain.iloc[steady_from(plain["duration_ns"].to_numpy()) :]
    duration_ns = steady["duration_ns"].to_numpy()
    samples = run.manifest.get("samples_per_step") or np.nan
    rates = 1e9 * samples / duration_ns
    summary = {
        "steady_steps": len(steady),
        "step_p50_ns": float(np.median(duration_ns)),
        "step_p95_ns": float(np.percentile(duration_ns, 95)),
        "samples_per_s": 1e9 * samples * len(steady) / float(duration_ns.sum()),
        "p25_samples_per_s": float(np.percentile(rates, 25)),
        "p75_samples_per_s": float(np.percentile(rates, 75)),
    }
    summary["mfu_share"] = _mfu_share(run, summary["samples_per_s"])
    notes = [
        f"throughput is of {len(steady)} steady steps of {len(steps)}, from step {steady['step'].iloc[0]} on: without "
        "warm-up and profiled steps, and from where the median of "
        f"{SETTLING_STEPS} steps is within {SETTLED_SHARE:.0%} of the second half's"
    ]
    profiled = steps.loc[steps["profiled"] & ~steps["warmup"], "duration_ns"]
    if len(profiled):
        summary["profiled_step_ratio"] = float(profiled.median() / summary["step_p50_ns"])
        if summary["profiled_step_ratio"] > PROFILING_LIMIT:
            slowed = f"profiled steps took {summary['profiled_step_ratio']:.2f} times as long as others"
            notes.insert(0, f"{slowed}: the times of profiled operators are inflated")
    return summary, notes


def step_times(run: Run) -> pd.DataFrame:
    """Steps that every rank finished, in order: step, duration_ns (of the slowest rank), warmup, profiled."""
    events = run.events
    mine = recorded(events) & (events["name"] == "step").to_numpy()
    spans = events.loc[mine, ["process", "step", "duration_ns"]]
    spans["warmup"], spans["profiled"] = tagged(events, "warmup")[mine], tagged(events, "profiled")[mine]
    steps = spans.groupby("step").agg(
        duration_ns=("duration_ns", "max"),
        warmup=("warmup", "any"),
        profiled=("profiled", "any"),
        ranks=("process", "nunique"),
    )
    finished = steps[steps["ranks"] == spans["process"].nunique()]
    return finished.drop(columns="ranks").reset_index()


def steady_from(duration_ns: np.ndarray) -> int:
    """Index of the first steady step of [n] step times in order."""
    length = min(SETTLING_STEPS, len(duration_ns))
    medians = np.median(np.lib.stride_tricks.sliding_window_view(duration_ns, length), axis=1)
    settled = np.abs(medians / np.median(duration_ns[len(duration_ns) // 2 :]) - 1) <= SETTLED_SHARE
    return int(settled.argmax()) if settled.any() else len(duration_ns) // 2


def _mfu_share(run: Run, samples_per_s: float) -> float:
    """Model FLOP/s over the fp32 peak of the cores (or devices) that the run had; NaN where either is unknown."""
    manifest = run.manifest
    flops = manifest.get("model_flops_per_sample") or np.nan
    ranks, threads = manifest.get("ranks"), manifest.get("threads_per_rank")
    if run.ceilings is None or ranks is None or threads is None:
        return np.nan
    devices = sorted(set(run.events["device"].unique()) - {"cpu"})
    if devices:
        peak, copies = run.ceilings.compute("fp32", device=devices[0]), ranks
    else:
        hosts = len({process.get("host") for process in manifest.get("processes", {}).values()}) or 1
        peak, copies = run.ceilings.compute("fp32", cores=ranks // hosts * threads), hosts
    return flops * samples_per_s / (peak.value * copies) if peak else np.nan
