"""The memory table: one row an allocation or a release, as an allocator told a profiler or a snapshot."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from workbench.trace.schema import repeated

# column -> (dtype, value where a reader has nothing to say, meaning)
MEMORY_COLUMNS: dict[str, tuple[str, object, str]] = {
    "process": ("category", "", "as in the events table"),
    "rank": ("int32", -1, "as in the events table"),
    "device": ("category", "", "whose memory: cpu, cuda:0..."),
    "recording": ("int32", 0, "profiler window or snapshot; what happened between two of them nobody saw"),
    "time_ns": ("int64", None, "Unix time on the run's clock"),
    "address": ("int64", None, "start of the block: the next release at this address frees it"),
    "bytes": ("int64", None, "allocated (positive), released (negative), 0 where only what is reserved changed"),
    "allocated_bytes": ("float64", np.nan, "in use on the device after this, by the allocator's own count"),
    "reserved_bytes": ("float64", np.nan, "held by the allocator after this; NaN where it holds nothing in reserve"),
    "event_id": ("int64", -1, "innermost host event that was open on the thread, -1 for none"),
    "site": ("category", "", "line of code that allocated, where stacks were recorded: model.py:35 forward"),
}


def memory_frame(columns: Mapping[str, object]) -> pd.DataFrame:
    """A memory table from whatever columns a reader has, in order of time; the others get their default."""
    length = len(columns["time_ns"])
    data = {}
    for name, (dtype, default, _) in MEMORY_COLUMNS.items():
        if dtype == "category" and (name not in columns or length == 0):
            data[name] = repeated(default, length)
        elif name not in columns:
            data[name] = np.full(length, default, dtype=dtype)
        elif dtype == "category":
            values = pd.Categorical(columns[name])
            data[name] = values.set_categories(values.categories.astype("str"))  # only equal types can be merged
        else:
            data[name] = np.asarray(columns[name], dtype=dtype)
    return pd.DataFrame(data).sort_values("time_ns", kind="stable", ignore_index=True)


def empty_memory() -> pd.DataFrame:
    """A memory table without rows."""
    return memory_frame({"time_ns": [], "address": [], "bytes": []})
