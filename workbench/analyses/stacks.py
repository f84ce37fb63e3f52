"""Where threads were when a sampler looked: samples of call stacks by function, module or thread.

A function's self samples found it working, its total samples found it or what it called. Samples tell shares, not
calls: a function that is called often and one that is slow look alike.
"""

import math
from collections.abc import Iterator
from itertools import groupby
from typing import Literal

import numpy as np
import pandas as pd

from workbench.analyses.core.call_stacks import (
    UNKNOWN_MODULE,
    WHO,
    call_tree,
    frame_table,
    self_and_total,
    whole_numbers,
)
from workbench.analyses.core.result import Result, not_applicable
from workbench.trace.run import Run

_KEYS = {"function": ["function", "module"], "module": ["module"]}


def stacks(run: Run, *, by: Literal["function", "module", "thread"] = "function") -> Result:
    """Self and total samples of each process's functions, with their time where the sampling interval is known.

    `by`: one row a function, a module (the file or library that holds the function), or a thread; the most self samples
    first. The summary holds the tree of calls.
    """
    if len(run.stacks) == 0:
        return not_applicable("stacks", "no call stacks were sampled: record with --py-spy, or load what py-spy wrote")
    sampled = _sampled(run)
    weight = "samples" if sampled["samples"].notna().all() else "ns"
    left_out = len(run.stacks) - sampled[weight].count()
    sampled = sampled[sampled[weight] > 0].reset_index(drop=True)
    if len(sampled) == 0:
        return not_applicable("stacks", "the stacks count neither samples nor time")
    if by == "thread" and (sampled["thread"] == "").all():
        return not_applicable("stacks", "the samples do not name their threads: record them with py-spy's --threads")
    frames = frame_table(sampled)
    if by == "module" and (frames["module"] == UNKNOWN_MODULE).all():
        return not_applicable("stacks", "the frames name no files: by=function has what they name")
    table = _threads(sampled) if by == "thread" else self_and_total(frames, _KEYS[by])
    for part in ("self", "total"):
        if f"{part}_{weight}" in table:
            table[f"{part}_share"] = table[f"{part}_{weight}"] / sampled[weight].sum()
    summary = _summary(sampled) | {"call_tree": call_tree(_paths(sampled, frames, by), sampled[weight])}
    return Result("stacks", table.assign(source="measured"), summary, _notes(summary["samples"], left_out))


def _sampled(run: Run) -> pd.DataFrame:
    """The run's stacks that weigh samples or time: rank, process, thread, stack, samples, ns (NaN where unknown)."""
    ranks = {part["process"]: part["rank"] for part in run.parts if "process" in part}
    table = run.stacks[run.stacks["unit"].isin(("samples", "ns"))]
    known = table[["process", "thread", "stack", "samples"]]
    known.insert(0, "rank", table["process"].map(ranks).fillna(-1).astype("int64"))
    return known.assign(ns=table["weight"].where(table["unit"] == "ns"))


def _threads(sampled: pd.DataFrame) -> pd.DataFrame:
    """All samples of each thread."""
    found = sampled.groupby([*WHO, "thread"])[["samples", "ns"]].sum(min_count=1).add_prefix("total_")
    by_size = found.sort_values(["total_samples", "total_ns"], ascending=False).reset_index()
    return by_size.assign(total_samples=whole_numbers(by_size["total_samples"]))


def _paths(sampled: pd.DataFrame, frames: pd.DataFrame, by: str) -> Iterator[list[str]]:
    """Of each stack: its process where there are several, its thread where rows are threads, then its functions (with
    their file), or its modules, where one that calls itself is one."""
    above = (["process"] if sampled["process"].nunique() > 1 else []) + (["thread"] if by == "thread" else [])
    if by == "module":
        names = frames["module"]
    else:
        place = " (" + frames["module"] + ")"
        names = frames["function"] + place.where(frames["module"] != UNKNOWN_MODULE, "")
    ends = np.flatnonzero(frames["innermost"].to_numpy())[:-1] + 1
    for outer, stack in zip(sampled[above].to_numpy(object), np.split(names.to_numpy(object), ends), strict=True):
        yield [*outer, *(name for name, _ in groupby(stack))] if by == "module" else [*outer, *stack]


def _summary(sampled: pd.DataFrame) -> dict:
    samples, sampled_ns = (sampled[weight].sum(skipna=False) for weight in ("samples", "ns"))
    named = sampled.loc[sampled["thread"] != "", ["process", "thread"]]
    return {
        "samples": int(samples) if samples % 1 == 0 else samples,
        "sampled_ns": sampled_ns,
        "interval_ns": sampled_ns / samples,
        "processes": sampled["process"].nunique(),
        "threads": len(named.drop_duplicates()) or np.nan,
        "distinct_stacks": sampled["stack"].nunique(),
    }


def _notes(samples: float, left_out: int) -> list[str]:
    notes = []
    if left_out:
        notes.append(f"left out {left_out} stacks whose samples (or time) are not known, as those of the others are")
    if samples == samples:
        half_pct, tenth_pct = (100 * 1.96 * math.sqrt(share * (1 - share) / samples) for share in (0.5, 0.1))
        notes.append(
            f"of {samples:,.0f} samples, a share of 50 % is known to ±{half_pct:.1f} points and one of 10 % to "
            f"±{tenth_pct:.1f} (95 %), were they independent"
        )
    return notes
