"""How much memory a run holds, when it peaks, and who holds it then.

Allocators count for themselves: `allocated` is what tensors use, `reserved` what the allocator took from the device.
Both come from the profiler's memory events or from a snapshot of PyTorch's CUDA allocator.
"""

from typing import Literal

import numpy as np
import pandas as pd

from workbench.analyses.core.extremes import extreme_rows
from workbench.analyses.core.memory_use import BEFORE, DEVICE, holders, memory_use
from workbench.analyses.core.result import Result, not_applicable
from workbench.trace.run import Run

MOST_POINTS = 2000


def memory(run: Run, *, by: Literal["phase", "time", "holder", "device"] = "phase") -> Result:
    """Allocated and reserved bytes of each device: their peaks by phase, over time, or in all; or who holds its peak.

    `by`: one row a device's phase, a point in time (at most MOST_POINTS a device, peaks kept), an operator (or line of
    code) and phase whose blocks are live at the device's peak, or a device.
    """
    if len(run.memory) == 0:
        return not_applicable(
            "memory", "the run has no memory events: profile with profile_memory=True, or write a snapshot with "
            "workbench.trace.snapshot.save_snapshot"
        )  # fmt: skip
    groups = memory_use(run).groupby(DEVICE, observed=True)
    devices = [(device, use.reset_index(drop=True)) for device, use in groups]
    devices.sort(key=lambda entry: entry[0][-1] == "cpu")  # the host's own memory comes last
    rows = {"phase": _by_phase, "time": _by_time, "holder": _by_holder, "device": _by_device}[by]
    tables = [rows(run, use).assign(**dict(zip(DEVICE, device, strict=True))) for device, use in devices]
    table = pd.concat(tables, ignore_index=True).assign(source="measured")
    table = table[[*DEVICE, *(column for column in table if column not in DEVICE)]]
    summary = _summary(run, devices)
    return Result("memory", table, summary, _notes(run, devices, summary, by))


def _by_phase(_: Run, use: pd.DataFrame) -> pd.DataFrame:
    """In order of the phases' first change. What a phase finds counts for its peak too."""
    use = use.assign(
        high=np.maximum(use["allocated_bytes"], use["allocated_bytes"] - use["bytes"]),
        new_bytes=use["bytes"].clip(lower=0), freed_bytes=-use["bytes"].clip(upper=0), allocations=use["bytes"] > 0,
    )  # fmt: skip
    groups = use.groupby("phase", sort=False)
    peaks = groups[["high", "reserved_bytes"]].max().set_axis(["peak_allocated_bytes", "peak_reserved_bytes"], axis=1)
    return peaks.join(groups[["allocations", "new_bytes", "freed_bytes"]].sum()).reset_index()


def _by_time(run: Run, use: pd.DataFrame) -> pd.DataFrame:
    series = [use[name].to_numpy() for name in ("allocated_bytes", "reserved_bytes")]
    points = use.assign(after_ns=use["time_ns"] - run.memory["time_ns"].min()).loc[extreme_rows(series, MOST_POINTS)]
    return points[["after_ns", "time_ns", "recording", "step", "phase", "allocated_bytes", "reserved_bytes"]]


def _by_holder(_: Run, use: pd.DataFrame) -> pd.DataFrame:
    peak = use["allocated_bytes"].idxmax()
    held = holders(use, peak)
    return held.assign(held_share=held["held_bytes"] / max(use.loc[peak, "allocated_bytes"], 1))


def _by_device(run: Run, use: pd.DataFrame) -> pd.DataFrame:
    first, last, peak = use.iloc[0], use.iloc[-1], use.loc[use["allocated_bytes"].idxmax()]
    row = {
        "peak_allocated_bytes": peak["allocated_bytes"],
        "peak_reserved_bytes": use["reserved_bytes"].max(),
        "capacity_bytes": _capacity_bytes(run, peak),
        "unused_share": 1 - peak["allocated_bytes"] / peak["reserved_bytes"] if peak["reserved_bytes"] > 0 else np.nan,
        "peak_phase": peak["phase"],
        "peak_step": peak["step"],
        "start_bytes": first["allocated_bytes"] - first["bytes"],
        "end_bytes": last["allocated_bytes"],
        "allocations": int((use["bytes"] > 0).sum()),
        "new_bytes": int(use["bytes"].clip(lower=0).sum()),
    }
    return pd.DataFrame([row])


def _capacity_bytes(run: Run, change: pd.Series) -> float:
    """Memory of the device that the change belongs to, as its trace says; NaN where it does not."""
    for part in run.parts:
        if part.get("rank") == change["rank"]:
            for device in part.get("devices", ()):
                if device["name"] == change["device"]:
                    return device.get("memory_bytes") or np.nan
    return np.nan


def _summary(run: Run, devices: list[tuple[tuple, pd.DataFrame]]) -> dict:
    """Of the device with the highest peak; of the host only where no other device was recorded."""
    first_kind = [entry for entry in devices if (entry[0][-1] == "cpu") == (devices[0][0][-1] == "cpu")]
    (rank, _, device), use = max(first_kind, key=lambda entry: entry[1]["allocated_bytes"].max())
    peak = use["allocated_bytes"].idxmax()
    allocated_bytes, held = use.loc[peak, "allocated_bytes"], holders(use, peak)
    seen = held[held["name"] != BEFORE]
    return {
        "devices": len(devices),
        "peak_rank": int(rank),
        "peak_device": device,
        "peak_allocated_bytes": float(allocated_bytes),
        "peak_reserved_bytes": float(use["reserved_bytes"].max()),
        "peak_phase": use.loc[peak, "phase"],
        "peak_after_ns": int(use.loc[peak, "time_ns"] - run.memory["time_ns"].min()),
        "top_holder": next(iter(seen["name"]), ""),
        "top_holder_bytes": int(seen["held_bytes"].head(1).sum()),
        "seen_share": float(seen["held_bytes"].sum() / max(allocated_bytes, 1)),
    }


def _notes(run: Run, devices: list[tuple[tuple, pd.DataFrame]], summary: dict, by: str) -> list[str]:
    notes = []
    if summary["seen_share"] < 0.9:
        notes.append(
            f"{1 - summary['seen_share']:.1%} of the peak, such as parameters, was allocated {BEFORE[1:-1]}: who holds "
            "that is not known"
        )
    if run.memory["allocated_bytes"].isna().any():
        notes.append("the recording has no totals: allocated bytes count from its start")
    if any(device == "cpu" for (_, _, device), _ in devices):
        notes.append("the host's bytes are those allocated while a profiler ran; nothing is reserved there")
    if any(use["recording"].nunique() > 1 for _, use in devices):
        notes.append("between two recordings (profiler windows) nobody saw what happened: a peak there is missed")
    if by == "time" and any(len(use) > MOST_POINTS for _, use in devices):
        notes.append(f"rows are at most {MOST_POINTS:,} a device: every peak is among them, small changes are not")
    return notes
