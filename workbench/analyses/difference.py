"""Two runs side by side: which operators a step gained or lost time in. `compare` is the public door.

Every instant of a step belongs to one operator (core/timeline.py: self time, and what overlaps is counted once), so a
run's rows sum to its step, and the changes to the change of the step. Where a device worked, a kernel's time is that
of the host operator which launched it, so a run on a GPU stands beside one on a CPU.
"""

from typing import Literal

import numpy as np
import pandas as pd

from workbench import settings
from workbench.analyses.core.collectives import lasts
from workbench.analyses.core.intervals import total_ns
from workbench.analyses.core.result import WITHOUT_TIMES, Result, not_applicable
from workbench.analyses.core.rows import NO_OPERATOR, launching_operators
from workbench.analyses.core.throughput import throughput
from workbench.analyses.core.timeline import Timeline, timelines
from workbench.trace.run import Run

# Times that differ by less are called the same.
SAME_SHARE = 0.01


def compare(a: Run, b: Run, **options: object) -> Result:
    """`difference` of two runs; options may be text."""
    for run in (a, b):
        if not isinstance(run, Run):
            raise TypeError(f"compare takes two Runs (from workbench.load), not {type(run).__name__}")
    result = difference(a, b, **settings.options(difference, options))
    result.notes += [f"{side}: {note}" for side, run in (("a", a), ("b", b)) for note in run.notes]
    return result


def difference(a: Run, b: Run, *, by: Literal["operator", "name"] = "operator") -> Result:
    """One row an operator and its shapes (or its name only): calls and time per step in `a` and in `b`, the change,
    its share of the whole change, and a status: grew, shrank, appeared, vanished or same. Largest change first."""
    sides = {"a": a, "b": b}
    if not (a.timed and b.timed):
        return not_applicable("difference", WITHOUT_TIMES)
    lines = {side: timelines(run) for side, run in sides.items()}
    for side, found in lines.items():
        if not found:
            return not_applicable("difference", f"run {side} has neither operators nor steps")
    keys = ["name", "shapes"] if by == "operator" else ["name"]
    table = pd.concat([_per_step(run, lines[side], keys, side) for side, run in sides.items()], axis=1)
    table = table.fillna(0.0).reset_index()
    table["delta_ns"] = table["duration_b_ns"] - table["duration_a_ns"]
    change_ns = table["delta_ns"].sum()
    table["contribution_pct"] = 100 * table["delta_ns"] / change_ns if change_ns else np.nan
    table["status"] = _status(table)
    table["source"] = max(line.source for found in lines.values() for line in found)  # the least sure: see rows.py
    table["changed_ns"] = table["delta_ns"].abs()
    table = table.sort_values(["changed_ns", "duration_a_ns"], ascending=False, ignore_index=True)
    return Result("difference", table.drop(columns="changed_ns"), _summary(sides, table), _notes(sides, lines))


def _per_step(run: Run, lines: list[Timeline], keys: list[str], side: str) -> pd.DataFrame:
    """calls_<side> and duration_<side>_ns of each operator in a mean step of a mean rank, indexed by `keys`."""
    rows, ns = _owned(len(run.events), lines)
    owner, number, named = _called(run, rows)
    # A call is counted once, whatever it launched; sorting is quick, for these stand nearly in order.
    calls = np.sort(owner * len(named) + number, kind="stable")
    calls = calls[np.diff(calls, prepend=-1) > 0] % len(named)
    sums = {
        f"calls_{side}": np.bincount(calls, minlength=len(named)),
        f"duration_{side}_ns": np.bincount(number, ns, len(named)),
    }
    nobody_ns = sum(total_ns(line.windows) for line in lines) - int(ns.sum())
    nobody = {"name": NO_OPERATOR, "shapes": "", f"calls_{side}": 0, f"duration_{side}_ns": nobody_ns}
    table = pd.concat([named.assign(**sums), pd.DataFrame([nobody])])
    return table.groupby(keys)[list(sums)].sum() / sum(len(line.steps) for line in lines)


def _called(run: Run, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """The event [n] whose call each of the `rows` [n] is part of; a number [n] for what it is called and given; the
    name and shapes that each number stands for. Few of millions of calls differ in them: texts come last."""
    events, launchers = run.events, launching_operators(run.events, rows)
    owner = np.where(launchers >= 0, launchers, rows)
    # Libraries name a transfer, and pass its tensors, each in its own way: its type is what two runs share.
    transfers = np.logical_or.reduce(list(lasts(events).values()))
    transfer = transfers[rows] & (events["collective"] != "").to_numpy()[rows]
    collective, name = (events[column].cat.codes.to_numpy() for column in ("collective", "name"))
    operator = events["operator_id"].to_numpy()
    # A place for every operator of a name, and for none (-1).
    places = int(operator.max(initial=-1)) + 2
    both = name[owner].astype(np.int64) * places + operator[owner] + 1
    number, known = pd.factorize(np.where(transfer, -1 - collective[rows], both))
    of_type = known < 0
    operators = pd.Series(np.where(of_type, -1, known % places - 1))
    table = {
        "name": np.where(of_type, _texts(events["collective"], -1 - known), _texts(events["name"], known // places)),
        "shapes": run.operators["input_dims"].reindex(operators).fillna("").to_numpy(),
    }
    return owner, number, pd.DataFrame(table)


def _texts(column: pd.Series, codes: np.ndarray) -> np.ndarray:
    """Text [n] of each code [n] of a categorical column; any text for what is no code."""
    return column.cat.categories.to_numpy(object)[np.clip(codes, 0, len(column.cat.categories) - 1)]


def _owned(events: int, lines: list[Timeline]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of those of all `events` that own time, each once, and how much (ns)."""
    pieces = [piece for line in lines for piece in line.owners() if len(piece.event)]
    owned_ns = np.zeros(events)
    for piece in pieces:
        owned_ns += np.bincount(piece.event, piece.end_ns - piece.start_ns, events)
    rows = np.flatnonzero(owned_ns)
    return rows, owned_ns[rows]


def _status(table: pd.DataFrame) -> np.ndarray:
    same = table["delta_ns"].abs() <= SAME_SHARE * table["duration_a_ns"]
    new, gone = table["duration_a_ns"] == 0, table["duration_b_ns"] == 0
    return np.select([same, new, gone, table["delta_ns"] > 0], ["same", "appeared", "vanished", "grew"], "shrank")


def _summary(sides: dict[str, Run], table: pd.DataFrame) -> dict:
    """Mean sampled step of each run (the sum of its rows), and the median steady step that no profiler slowed."""
    step_ns = {side: float(table[f"duration_{side}_ns"].sum()) for side in sides}
    p50_ns = {side: throughput(run)[0].get("step_p50_ns", np.nan) for side, run in sides.items()}
    summary = {f"step_{side}_ns": step_ns[side] for side in sides}
    summary |= {"ratio": step_ns["b"] / step_ns["a"], "change_pct": 100 * (step_ns["b"] / step_ns["a"] - 1)}
    summary |= {f"step_p50_{side}_ns": p50_ns[side] for side in sides}
    return summary | {"step_p50_change_pct": 100 * (p50_ns["b"] / p50_ns["a"] - 1)}


def _notes(sides: dict[str, Run], lines: dict[str, list[Timeline]]) -> list[str]:
    counted = []
    for side, found in lines.items():
        devices = sorted({line.device.split(":")[0] for line in found})
        counted.append(
            f"{side} has {sum(len(line.steps) for line in found)} steps of {len(found)} ranks on {', '.join(devices)}"
        )
    notes = [f"times are means over steps and ranks ({'; '.join(counted)}); {NO_OPERATOR} is idle or host time"]
    without = [side for side, run in sides.items() if not run.operators["input_dims"].str.contains(r"\d").any()]
    if len(without) == 1:
        notes.insert(0, f"run {without[0]} recorded no shapes, so few operators align: compare by=name")
    return notes
