"""What a reader hands over: one process's worth of a trace. `merge` joins the parts of a run."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from pandas.api.types import union_categoricals

from workbench.trace.memory_table import empty_memory
from workbench.trace.schema import (
    OPERATOR_COLUMNS,
    empty_dependencies,
    empty_events,
    empty_operators,
    empty_splits,
    empty_stacks,
    empty_traffic,
)

# What a Part and a Run hold, each made by the function when it is empty.
TABLES = {
    "events": empty_events, "operators": empty_operators, "traffic": empty_traffic, "splits": empty_splits,
    "memory": empty_memory, "stacks": empty_stacks, "dependencies": empty_dependencies,
}  # fmt: skip
_REFERENCES = ("event_id", "parent_id", "launch_id")


@dataclass
class Part:
    """Tables of one file, with keys counted from 0, and what the file says about itself.

    `info` keys that others rely on: rank (int, -1 unknown), world_size, backend, devices (list of
    {"name": "cuda:0", "model": "Tesla V100-SXM2-32GB", ...}), file, clock (unix, relative, or order: no times at all).
    """

    events: pd.DataFrame = field(default_factory=empty_events)
    operators: pd.DataFrame = field(default_factory=empty_operators)
    traffic: pd.DataFrame = field(default_factory=empty_traffic)
    splits: pd.DataFrame = field(default_factory=empty_splits)
    memory: pd.DataFrame = field(default_factory=empty_memory)
    stacks: pd.DataFrame = field(default_factory=empty_stacks)
    dependencies: pd.DataFrame = field(default_factory=empty_dependencies)
    info: dict = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def merge(parts: list[Part]) -> Part:
    """One part with the rows of all: keys are shifted so that they stay unique, equal operators share one row."""
    if len(parts) == 1:
        return parts[0]
    merged = Part(notes=[note for part in parts for note in part.notes])
    events, traffic, splits, memory, dependencies, offset, recordings = [], [], [], [], [], 0, 0
    operators = pd.concat([part.operators for part in parts], ignore_index=True)
    codes, distinct = pd.factorize(pd.MultiIndex.from_frame(operators))
    merged.operators = distinct.to_frame(index=False, name=list(OPERATOR_COLUMNS))
    seen = 0
    for part in parts:
        shifted = part.events.copy(deep=False)
        for column in _REFERENCES:
            ids = shifted[column].to_numpy()
            shifted[column] = ids + offset * (ids >= 0)
        operator_ids = shifted["operator_id"].to_numpy()
        if len(part.operators):
            mapped = codes[seen:][operator_ids].astype("int32")
            mapped[operator_ids < 0] = -1
            shifted["operator_id"] = mapped
        seen += len(part.operators)
        events.append(shifted)
        traffic.append(part.traffic.assign(event_id=part.traffic["event_id"] + offset))
        splits.append(part.splits.assign(event_id=part.splits["event_id"] + offset))
        memory.append(_shifted_memory(part.memory, offset, recordings))
        dependencies.append(part.dependencies + offset)
        recordings += part.memory["recording"].nunique()
        offset += int(part.events["event_id"].max()) + 1 if len(part.events) else 0
    merged.events, merged.traffic = _concat(events), _concat(traffic)
    merged.splits, merged.memory, merged.dependencies = _concat(splits), _concat(memory), _concat(dependencies)
    merged.stacks = _concat([part.stacks for part in parts])
    return merged


def _shifted_memory(memory: pd.DataFrame, offset: int, recordings: int) -> pd.DataFrame:
    """The memory table with keys that follow `offset` events and `recordings` of the parts before."""
    ids = memory["event_id"].to_numpy()
    return memory.assign(event_id=ids + offset * (ids >= 0), recording=memory["recording"] + np.int32(recordings))


def _concat(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """Rows of all frames; categorical columns keep being categorical."""
    frames = [frame for frame in frames if len(frame)] or frames[:1]
    if len(frames) == 1:
        return frames[0].reset_index(drop=True)
    columns = {}
    for name in frames[0].columns:
        values = [frame[name] for frame in frames]
        if isinstance(values[0].dtype, pd.CategoricalDtype):
            columns[name] = union_categoricals(values)
        else:
            columns[name] = pd.concat(values, ignore_index=True)
    return pd.DataFrame(columns)
