"""The memory table with what the events tell: who allocated, in which phase and step; and who holds what at a peak."""

import re

import numpy as np
import pandas as pd

from workbench.analyses.core.ancestors import nearest
from workbench.analyses.core.rows import NO_OPERATOR, OPERATOR_KINDS, of_category, positions, recorded
from workbench.trace.nesting import parents
from workbench.trace.run import Run
from workbench.trace.stitch import MAIN_LANE

DEVICE = ["rank", "process", "device"]
BEFORE = "(before the recording)"
# These allocate for the operator around them, and do not say what the memory is for.
_ALLOCATOR = re.compile(r"aten::((new_)?empty(_like|_strided|_permuted)?|resize_)")


def memory_use(run: Run) -> pd.DataFrame:
    """The run's memory table by device and time, with name, phase and step of each change.

    `name` is the line of code that allocated, where the recording has stacks; else the innermost operator around the
    change, on its thread, that does more than allocate. Where the allocator did not tell its total, `allocated_bytes`
    counts from the start of the recording.
    """
    events = run.events
    changes = run.memory.sort_values([*DEVICE, "time_ns"], kind="stable", ignore_index=True)
    row = positions(events, changes["event_id"].to_numpy())
    changes["name"] = np.where(changes["site"] != "", changes["site"].astype(object), _operators(events, row))
    changes["phase"] = _phases(events, changes, row)
    changes["step"] = np.append(events["step"].to_numpy(), -1)[row]
    counted_bytes = changes.groupby([*DEVICE, "recording"], observed=True)["bytes"].cumsum()
    changes["allocated_bytes"] = changes["allocated_bytes"].fillna(counted_bytes)
    return changes


def holders(changes: pd.DataFrame, peak: int) -> pd.DataFrame:
    """Blocks that are live after row `peak` of one device's `changes`: name, phase, blocks, held_bytes, largest first.

    What is allocated but was not seen being so is BEFORE: the bytes sum to the allocated ones at that moment.
    """
    until = changes.loc[:peak]
    until = until[(until["recording"] == until["recording"].iloc[-1]) & (until["bytes"] != 0)]
    live = until.drop_duplicates("address", keep="last")
    live = live[live["bytes"] > 0]
    held = live.groupby(["name", "phase"])["bytes"].agg(blocks="size", held_bytes="sum").reset_index()
    unseen_bytes = int(changes.loc[peak, "allocated_bytes"] - live["bytes"].sum())
    if unseen_bytes:
        before = pd.DataFrame({"name": [BEFORE], "phase": "", "blocks": None, "held_bytes": unseen_bytes})
        held = pd.concat([held.astype({"blocks": object}), before])
    return held.sort_values("held_bytes", ascending=False, kind="stable", ignore_index=True)


def _operators(events: pd.DataFrame, row: np.ndarray) -> np.ndarray:
    """Name [n] of the operator around (or at) each row [n] of `events`, -1 for none."""
    is_operator = events["kind"].isin(OPERATOR_KINDS).to_numpy()
    allocates = of_category(events["name"], lambda name: _ALLOCATOR.fullmatch(name) is not None)
    parent = positions(events, events["parent_id"].to_numpy())
    found = nearest(row, parent, is_operator & ~allocates)
    return _texts(events["name"], np.where(found >= 0, found, nearest(row, parent, is_operator)), NO_OPERATOR)


def _phases(events: pd.DataFrame, changes: pd.DataFrame, row: np.ndarray) -> np.ndarray:
    """Phase [n] of the event around each change; where that has none, of the recorder's span on the main thread."""
    spans = events[recorded(events) & (events["lane"] == MAIN_LANE) & (events["phase"] != "")]
    processes = changes["process"].cat
    in_span = parents(
        np.concatenate([processes.categories.get_indexer(spans["process"]), processes.codes]),
        np.concatenate([spans["start_ns"], changes["time_ns"]]),
        np.concatenate([spans["duration_ns"], np.zeros(len(changes), dtype=np.int64)]),
    )[len(spans) :]
    own = _texts(events["phase"], row, "")
    return np.where(own != "", own, _texts(spans["phase"], in_span, ""))


def _texts(column: pd.Series, row: np.ndarray, nothing: str) -> np.ndarray:
    """Text [n] of a categorical column at each row [n], `nothing` for -1."""
    codes = np.append(column.cat.codes.to_numpy(), -1)
    return np.append(column.cat.categories.to_numpy(object), nothing)[codes[row]]
