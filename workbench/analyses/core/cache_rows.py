"""Rows of `memory_tiers by=cache`: one a rank, the cache that it trained through as replayed and as measured."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from workbench.analyses.core.access_stream import Window, windows
from workbench.analyses.core.run_cache import StepModel, contended, measured_steps, moved_rows, replayed_steps
from workbench.trace.run import Run


def cache_rows_table(run: Run, capacity_rows: int | None, bytes_per_s: float | None) -> pd.DataFrame:
    """Over the counted steps, those of the second half of the sampled ones; `capacity_rows` a rank and `bytes_per_s`
    behind the cache are what-ifs."""
    rows = [_row(run, window, capacity_rows, bytes_per_s) for window in windows(run.accesses)]
    return pd.DataFrame([row for row in rows if row is not None])


def _row(run: Run, window: Window, capacity_rows: int | None, bytes_per_s: float | None) -> dict | None:
    tables, cache = run.manifest["tables"], run.manifest["cache"]
    rank = tables[int(window.accesses["table"].iloc[0])]["rank"]
    slots = [(own["tables"], own["rows"]) for own in cache["caches"] if own["rank"] == rank]
    total = sum(count for _, count in slots)
    measured = measured_steps(run, window.process)
    measured = measured[measured.index.isin(window.steps)]
    if len(measured) == 0:
        return None
    replayed = replayed_steps(window, cache, slots)
    model = StepModel.of(measured, replayed, contended(run.manifest))
    if capacity_rows is not None:
        slots = [(behind, max(round(count * capacity_rows / total), 1)) for behind, count in slots]
        replayed = replayed_steps(window, cache, slots)
    replayed, measured = (steps[steps.index >= window.counted_from] for steps in (replayed, measured))
    as_it_was = capacity_rows is None and bytes_per_s is None
    plain = measured[~measured["profiled"]]
    return {
        "rank": rank, "policy": cache["policy"], "backing": cache["backing"], "capacity_rows": capacity_rows or total,
        **{f"replayed_{name}": value for name, value in _shares(replayed).items()},
        **{f"measured_{name}": value if capacity_rows is None else np.nan for name, value in _shares(measured).items()},
        "replayed_moved_bytes": model.moved_row_bytes * float(moved_rows(replayed).mean()),
        "measured_moved_bytes": float((measured["read_bytes"] + measured["write_bytes"]).mean()),
        "fetch_predicted_ns": model.fetch_ns(replayed, bytes_per_s),
        "fetch_measured_ns": float(plain["fetch_ns"].mean()) if as_it_was else np.nan,
        "wait_measured_ns": float((plain["wait_ns"] + plain["settle_ns"]).mean()) if as_it_was else np.nan,
        "step_predicted_ns": model.step_ns(replayed, bytes_per_s),
        "step_measured_ns": float(plain["step_ns"].median()) if as_it_was else np.nan,
    }  # fmt: skip


def _shares(steps: pd.DataFrame) -> Mapping[str, float]:
    """A batch asks for each row once: its further lookups find the row that the first one brought."""
    lookups, unique_rows = steps["lookups"].sum() or np.nan, steps["unique_rows"].sum() or np.nan
    misses, conflicts = steps["misses"].sum(), steps["conflicts"].sum()
    return {
        "lookup_hit_share": 1 - misses / lookups,
        "unique_row_hit_share": 1 - misses / unique_rows,
        "conflict_share": conflicts / unique_rows,
    }
