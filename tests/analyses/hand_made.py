"""Runs written by hand: a row an event, times in ns on a Unix-sized clock, answers worked out in the tests."""

from pathlib import Path

import numpy as np
import pandas as pd

from workbench.trace.nesting import parents
from workbench.trace.run import Run
from workbench.trace.schema import OPERATOR_COLUMNS, events_frame

# Of today's size: sums that pass through a float would lose 256 ns here.
EPOCH_NS = 1_700_000_000_000_000_000


def event(name: str, kind: str, start: int, end: int, **columns: object) -> dict:
    """One event from `start` to `end`; other columns by name, `shapes` for its operand shapes."""
    place = {"lane": "thread 1", "rank": 0}
    return {"name": name, "kind": kind, "start_ns": EPOCH_NS + start, "duration_ns": end - start, **place, **columns}


def kernel(name: str, kind: str, start: int, end: int, **columns: object) -> dict:
    """A device event, on stream 7 unless told otherwise."""
    return event(name, kind, start, end, **{"lane": "stream 7", "device": "cuda:0", **columns})


def span(name: str, kind: str, start: int, end: int, **columns: object) -> dict:
    """A span of the recorder."""
    return event(name, kind, start, end, **{"lane": "main/spans", **columns})


def run_of(*events: dict, **fields: object) -> Run:
    """A run of these events: event_id is their order, parents follow from times; `fields` are those of Run."""
    table = pd.DataFrame(list(events))
    table["process"] = "rank-" + table["rank"].astype(str)
    shapes = table.pop("shapes") if "shapes" in table else pd.Series(index=table.index, dtype=object)
    signatures = pd.MultiIndex.from_arrays([table["name"], shapes.fillna("")])
    table["operator_id"], distinct = pd.factorize(signatures)
    lanes = table.groupby(["process", "lane"]).ngroup().to_numpy()
    columns = {name: values.tolist() for name, values in table.items()}
    for name, default in _DEFAULTS.items():
        if name in columns:
            columns[name] = [default if pd.isna(value) else value for value in columns[name]]
    columns["parent_id"] = parents(lanes, table["start_ns"].to_numpy(), table["duration_ns"].to_numpy())
    operators = pd.DataFrame(
        [(name, dims, "", "") for name, dims in distinct], columns=list(OPERATOR_COLUMNS), dtype="object"
    )
    return Run(Path("hand-made"), events=events_frame(columns), operators=operators, **fields)


_DEFAULTS = {
    "device": "cpu", "step": -1, "collective": "", "group_size": -1, "message_bytes": np.nan, "launch_id": -1,
    "process_group": "", "sequence": -1, "bytes_source": "", "tags": "", "source": "measured",
    "trace": "", "span_id": 0, "parent_span_id": 0,
}  # fmt: skip
