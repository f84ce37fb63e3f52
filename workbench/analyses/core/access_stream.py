"""Sampled embedding accesses as streams of memory touches, in the kernels' order.

A step is: dense operators, lookups (table by table, bag by bag), dense operators, updates, dense operators. Every
touch names a *unit* that is cached as a whole - an embedding row, a line of optimizer states, an operator's operands -
and the 64 B lines that it spans. Assumed, and said in the result's notes:

- rows are aligned to lines; rows and states shorter than a line share lines with their neighbours;
- the backward pass reads each table's pooled gradients, then reads and writes row and optimizer state once for each
  *unique* row of the table's batch, in row order;
- a dense operator's operands are one block of their compulsory bytes, the same block in every step: what one
  operator leaves in a cache for the next is not modelled;
- the threads of a rank work on one stream.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from workbench.analyses.core.operator_limits import is_embedding
from workbench.analyses.core.rank_share import LINE_BYTES
from workbench.costs import Cost

PARTS = ("row lookup", "pooled output", "pooled gradient", "row update", "dense")
ROW_LOOKUP, POOLED_OUTPUT, POOLED_GRADIENT, ROW_UPDATE, DENSE = range(len(PARTS))
ROW_PARTS = (ROW_LOOKUP, ROW_UPDATE)
PHASES = ("lookup", "lookup", "update", "update", "dense")  # of each part
POOLED_ELEMENT_BYTES = 4  # pooled embeddings and their gradients are fp32


@dataclass(frozen=True)
class Window:
    """Consecutive steps of one process's accesses. Steps before `counted_from` only fill the caches."""

    process: str
    accesses: pd.DataFrame
    steps: tuple[int, ...]
    counted_from: int

    @property
    def counted_steps(self) -> int:
        """How many steps are counted."""
        return sum(step >= self.counted_from for step in self.steps)


@dataclass(frozen=True)
class Touches:
    """One touch an entry, arrays [n] int64: unit (numbered by first touch), lines it spans, lines it writes, place in
    PARTS, table (-1: none), step."""

    unit: np.ndarray
    lines: np.ndarray
    written: np.ndarray
    part: np.ndarray
    table: np.ndarray
    step: np.ndarray


@dataclass(frozen=True)
class DenseStep:
    """Operand blocks (lines, lines written) of one step's other operators: before, between and after the embeddings'
    lookups and updates. `updates` says whether the step trains."""

    before: Sequence[tuple[int, int]] = ()
    between: Sequence[tuple[int, int]] = ()
    after: Sequence[tuple[int, int]] = ()
    updates: bool = True


def windows(accesses: pd.DataFrame, lookups_limit: int | None = None) -> Iterator[Window]:
    """The longest run of consecutive steps of each process (the first of equals), cut after whole steps at
    `lookups_limit`. The first half of the steps is the uncounted prefix; one step alone is counted cold."""
    for process, own in accesses.groupby("process", sort=True):
        steps = np.unique(own["step"])
        runs = np.split(steps, np.flatnonzero(np.diff(steps) != 1) + 1)
        steps = max(runs, key=len)
        if lookups_limit is not None:
            sizes = own["rows"].map(len).groupby(own["step"]).sum().reindex(steps)
            steps = steps[: max(1, int((sizes.cumsum() <= lookups_limit).sum()))]
        kept = own[own["step"].isin(steps)].sort_values("step", kind="stable")
        yield Window(str(process), kept, tuple(map(int, steps)), int(steps[len(steps) // 2]))


def row_touches(window: Window, unique: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(unit, table, step) [n] of every lookup in order; with `unique`, of each table's unique rows of each step. Units
    are numbered by first touch."""
    rows = [np.unique(rows) if unique else np.asarray(rows) for rows in window.accesses["rows"]]
    lengths = [len(part) for part in rows]
    table = np.repeat(window.accesses["table"].to_numpy(np.int64), lengths)
    step = np.repeat(window.accesses["step"].to_numpy(np.int64), lengths)
    keys = _key(table, 0, np.concatenate(rows).astype(np.int64))
    return pd.factorize(keys)[0], table, step


def touches(window: Window, tables: Sequence[Mapping], dense: DenseStep) -> Touches:
    """Every touch of the window, dense operators and (where the step trains) updates included.

    `tables` [table] are the manifest's: rows, dim, row_bytes, state_bytes_per_row.
    """
    stream = _Stream()
    blocks = (dense.before, dense.between, dense.after)
    for step, own in window.accesses.groupby("step", sort=True):
        bags = list(zip(own["table"], own["lengths"], own["rows"], strict=True))
        stream.dense(blocks, 0, step)
        for table, lengths, rows in bags:
            stream.rows(tables[table], table, np.asarray(rows, dtype=np.int64), ROW_LOOKUP, step)
            stream.pooled(tables[table], table, len(lengths), POOLED_OUTPUT, step)
        stream.dense(blocks, 1, step)
        for table, lengths, rows in bags if dense.updates else ():
            stream.pooled(tables[table], table, len(lengths), POOLED_GRADIENT, step)
            stream.rows(tables[table], table, np.unique(rows).astype(np.int64), ROW_UPDATE, step)
        stream.dense(blocks, 2, step)
    return stream.finish()


def dense_step(calls: pd.DataFrame, costs: Mapping[int, Cost], updates: bool) -> DenseStep:
    """One step's operators (calls of one process and step, see operator_calls) around its embedding operators: where
    the first of the forward pass is are the lookups, where the first of the backward pass is the updates."""
    blocks: tuple[list, list, list] = ([], [], [])
    place = 0
    for call in calls.sort_values("start_ns").itertuples():
        known = costs.get(call.operator_id)
        if known is None or known.bytes == 0:
            continue
        if is_embedding(known):
            place = max(place, 2 if _is_backward(call) else 1)
        else:
            lines, written = (math.ceil(value / LINE_BYTES) for value in (known.bytes, known.write_bytes))
            blocks[place].append((lines, written))
    return DenseStep(*blocks, updates=updates)


class _Stream:
    """Collects touches in order."""

    def __init__(self) -> None:
        self._chunks: list[tuple] = []

    def rows(self, table: Mapping, index: int, rows: np.ndarray, part: int, step: int) -> None:
        row_units, row_lines = _units(index, 0, rows, table["row_bytes"])
        state_bytes = table.get("state_bytes_per_row", 0)
        if part == ROW_LOOKUP or not state_bytes:
            self._add(row_units, row_lines, row_lines if part == ROW_UPDATE else 0, part, index, step)
            return
        state_units, state_lines = _units(index, 1, rows, state_bytes)
        lines = np.tile([row_lines, state_lines], len(rows))
        self._add(np.column_stack((row_units, state_units)).ravel(), lines, lines, part, index, step)

    def pooled(self, table: Mapping, index: int, bags: int, part: int, step: int) -> None:
        lines = math.ceil(bags * table["dim"] * POOLED_ELEMENT_BYTES / LINE_BYTES)
        unit = _key(index, part + 1, np.zeros(1, dtype=np.int64))
        self._add(unit, lines, lines if part == POOLED_OUTPUT else 0, part, index, step)

    def dense(self, blocks: Sequence[Sequence[tuple[int, int]]], place: int, step: int) -> None:
        if blocks[place]:
            first = sum(map(len, blocks[:place]))
            lines, written = np.array(blocks[place], dtype=np.int64).T
            self._add(-1 - np.arange(first, first + len(lines)), lines, written, DENSE, -1, step)

    def finish(self) -> Touches:
        columns = zip(*(np.broadcast_arrays(*chunk) for chunk in self._chunks), strict=True)
        keys, *others = (np.concatenate(column).astype(np.int64) for column in columns)
        return Touches(pd.factorize(keys)[0], *others)

    def _add(self, *columns: object) -> None:
        self._chunks.append(columns)


def _units(table: int, what: int, rows: np.ndarray, row_bytes: int) -> tuple[np.ndarray, int]:
    """Unit keys [rows] and lines a unit of entries of `row_bytes`: short ones share the line that they lie in."""
    index = rows if row_bytes >= LINE_BYTES else rows * row_bytes // LINE_BYTES
    return _key(table, what, index), math.ceil(row_bytes / LINE_BYTES)


def _key(table: np.ndarray | int, what: int, index: np.ndarray) -> np.ndarray:
    """One int64 for (table, what of it, index): tables below 2^15, eight kinds, indices below 2^44."""
    return ((np.int64(table) * 8 + what) << np.int64(44)) + index


def _is_backward(call: object) -> bool:
    return call.phase == "backward" or "backward" in call.name
