"""The row cache that a run trained through: replayed from its accesses, beside what the run measured.

Replay and run share the rules (`batch_cache`), not the code, nor the hash that picks a row's set. What-ifs change the
cache's size or the bandwidth behind it; time follows from a run's own steps:

    fetch  = a x unique rows + b x moved rows           a: seeking a row, b: moving one
    step   = max(own, fetch) + c x conflicts            own: the step without waiting for rows, c: settling one

Rows move when they are missed and when they are written back: every cached row has been trained. Where a host has fewer
CPUs than its ranks have threads, the fetching one included, the CPU time of fetches is part of `own`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from workbench.analyses.core.access_stream import Window, row_touches
from workbench.analyses.core.batch_cache import replay_batches
from workbench.analyses.core.rows import recorded
from workbench.trace.run import Run

COUNTS = ("lookups", "unique_rows", "misses", "conflicts", "written_rows")
_TIERS = ("dram", "ssd")


def replayed_steps(window: Window, cache: Mapping, slots: Sequence[tuple[Sequence[int], int]]) -> pd.DataFrame:
    """COUNTS of every step of `window`, index step: `cache` is the manifest's, `slots` are (tables behind it, slots) of
    each of the rank's caches."""
    found = pd.DataFrame(0, index=list(window.steps), columns=list(COUNTS))
    cached = [table for tables, _ in slots for table in tables]
    _, table, step = row_touches(window)
    found["lookups"] = _count(step[np.isin(table, cached)], found.index)
    unit, table, step = row_touches(window, unique=True)
    order = np.argsort(step, kind="stable")
    for tables, count in slots:
        own = order[np.isin(table[order], tables)]
        units, steps = pd.factorize(unit[own])[0], step[own]
        played = replay_batches(units, steps, count, cache["ways"], cache["policy"])
        conflicts = _count(steps[played.conflicts], found.index)
        found["unique_rows"] += _count(steps, found.index)
        found["misses"] += _count(steps[~played.hits], found.index)
        found["conflicts"] += conflicts
        # Evicted rows go before the step, conflicting ones after it: both were trained.
        found["written_rows"] += _count(steps[played.evictions], found.index)
        found["written_rows"] += np.append(0, conflicts[:-1])
    return found


def measured_steps(run: Run, process: str) -> pd.DataFrame:
    """What one process measured, index step: COUNTS but for written_rows; fetch_ns, fetch_cpu_ns, move_ns, wait_ns,
    settle_ns, step_ns; read_bytes and write_bytes behind the cache; and whether the step was profiled."""
    own = run.metrics[run.metrics["process"] == process]
    wide = own.pivot_table(index="step", columns="name", values="value", aggfunc="sum")
    cached = wide[[name for name in wide if name.startswith("cache_")]].dropna()
    found = cached.rename(columns=lambda name: name.removeprefix("cache_"))
    for way in ("read_bytes", "write_bytes"):
        found[way] = wide.reindex(columns=[f"{tier}_{way}" for tier in _TIERS]).sum(axis=1)
    events = run.events
    spans = events[recorded(events) & (events["name"] == "step").to_numpy() & (events["process"] == process).to_numpy()]
    spans = spans.set_index("step")
    found["step_ns"] = spans["duration_ns"].astype(float)
    found["profiled"] = spans["tags"].astype(str).str.contains("profiled").reindex(found.index, fill_value=False)
    return found


@dataclass(frozen=True)
class StepModel:
    """One rank's step time as a function of what its cache misses; `own_ns` a step, the others a row."""

    own_ns: float
    seek_ns: float
    move_ns: float
    move_cpu_ns: float
    settle_ns: float
    moved_row_bytes: float
    contended: bool

    @classmethod
    def of(cls, measured: pd.DataFrame, replayed: pd.DataFrame, contended: bool) -> "StepModel":
        """From the second half of those steps of `measured` that `replayed` covers and no profiler slowed."""
        steps = measured.join(replayed["written_rows"], how="inner")
        steps = steps[~steps["profiled"]].iloc[len(steps) // 2 :]
        total = steps.sum()
        unique_rows, moved_rows = max(total["unique_rows"], 1), max(total["misses"] + total["written_rows"], 1)
        seek_ns = total["fetch_ns"] - total["move_ns"]  # all of it on the CPU
        busy_ns = steps["step_ns"] - steps["wait_ns"] - steps["settle_ns"]
        # While the step works it shares the CPUs with the fetch; what the fetch does after that delays nothing.
        beside_share = (busy_ns / steps["fetch_ns"]).clip(upper=1)
        own_ns = busy_ns - contended * beside_share * steps["fetch_cpu_ns"]
        return cls(
            own_ns=float(own_ns.median()),
            seek_ns=seek_ns / unique_rows,
            move_ns=total["move_ns"] / moved_rows,
            move_cpu_ns=max(total["fetch_cpu_ns"] - seek_ns, 0) / moved_rows,
            settle_ns=total["settle_ns"] / max(total["conflicts"], 1),
            moved_row_bytes=(total["read_bytes"] + total["write_bytes"]) / moved_rows,
            contended=contended,
        )

    def fetch_ns(self, steps: pd.DataFrame, bytes_per_s: float | None) -> float:
        """Mean over the replayed `steps`; `bytes_per_s` stands for what rows move at, if given."""
        move_ns = self.move_ns if bytes_per_s is None else 1e9 * self.moved_row_bytes / bytes_per_s
        return float((self.seek_ns * steps["unique_rows"] + move_ns * moved_rows(steps)).mean())

    def step_ns(self, steps: pd.DataFrame, bytes_per_s: float | None) -> float:
        """Mean over the replayed `steps`."""
        cpu_ns = float((self.seek_ns * steps["unique_rows"] + self.move_cpu_ns * moved_rows(steps)).mean())
        own_ns = self.own_ns + cpu_ns * self.contended
        return max(own_ns, self.fetch_ns(steps, bytes_per_s)) + self.settle_ns * float(steps["conflicts"].mean())


def moved_rows(steps: pd.DataFrame) -> pd.Series:
    """Rows that each of the replayed `steps` moves behind the cache."""
    return steps["misses"] + steps["written_rows"]


def contended(manifest: Mapping) -> bool:
    """Whether ranks' threads and their fetching threads are more than a host's CPUs."""
    hosts = [entry.get("host") for entry in manifest.get("processes", {}).values()]
    most = max((hosts.count(host) for host in set(hosts)), default=1)
    cpus = len(manifest.get("host", {}).get("usable_cpus", [])) or np.inf
    return most * ((manifest.get("threads_per_rank") or 1) + 1) > cpus


def _count(steps: np.ndarray, index: pd.Index) -> np.ndarray:
    """How many entries of `steps` each of `index` has."""
    return pd.Series(steps).value_counts().reindex(index, fill_value=0).to_numpy()
