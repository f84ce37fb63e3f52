"""The critical path: the chain of operators, kernels and waits, over threads, streams and ranks, that the length of a
run hangs on; and how long the run would be after a change.

What an event had to wait for is worked out in core/event_graph_device.py and core/event_graph_host.py, the path is
walked in core/event_graph.py. It covers every instant of the sampled steps once: its parts sum to their length.
"""

import math
from typing import Literal

import numpy as np
import pandas as pd

from workbench.analyses.core.event_graph import NO_EVENT
from workbench.analyses.core.event_graph_build import EventGraphs, event_graphs
from workbench.analyses.core.event_graph_links import CAUSES
from workbench.analyses.core.path_parts import (
    DELAYS,
    LATE_BEGIN,
    NOTHING_RECORDED,
    Words,
    delays,
    path_parts,
    work_parts,
)
from workbench.analyses.core.path_tables import BESIDE, path_rows, path_sums
from workbench.analyses.core.result import Result, not_applicable
from workbench.analyses.core.what_if import check_named, parse_factors, work_factors
from workbench.errors import InputError
from workbench.trace.run import Run
from workbench.trace.schema import KINDS

# Above this share of the path, what nothing explains is the first thing to say.
MUCH_UNEXPLAINED_SHARE = 0.1
_LONGEST = 5


def critical_path(
    run: Run, *, by: Literal["kind", "name", "rank", "event"] = "kind", step: int | None = None, what_if: str = ""
) -> Result:
    """Rows by kind, name or rank: time on the path and its share, events there, self time on and off it, and the least
    slack off it. `by="event"`: the path itself, first to last, then the longest events beside it.

    `step`: only that step's part of the path. `what_if` ("aten::mm=0.5,communication=0") scales names and kinds and
    adds the path after that change: modelled, and a bound, since delays and the order on each lane stay as they were.
    InputError for a step that was not sampled, and for a `what_if` that names nothing here.
    """
    factors = parse_factors(what_if)
    found = event_graphs(run)
    if found is None:
        return not_applicable("critical_path", "the run has no event of any length on a thread or stream")
    words = Words(run.events)
    path = path_parts(run.events, words, found, [graph.observed for graph in found.graphs])
    length_ns = sum(window.end_ns - window.start_ns for window in found.windows)
    assert abs(path["path_ns"].sum() - length_ns) <= 1e-3 * length_ns, "the parts of the path do not sum to its length"
    after = _after(run, words, found, factors) if factors else None
    work = work_parts(words, found)
    if step is not None:
        _check_step(found, step)
        path, after = (None if parts is None else parts[parts["step"] == step] for parts in (path, after))
        work = work[run.events["step"].to_numpy()[work["event"]] == step]
        if len(path) == 0:
            return not_applicable("critical_path", f"the path passes step {step} by: all of its work has slack")
    if by == "event":
        table = path_rows(run.events, words, found, path, work)
    else:
        table = path_sums(by, run.events, words, found, path, work, after)
    summary = _summary(words, found, path, 1 if step is not None else None)
    if after is not None:
        summary |= _change(summary["length_ns"], after["path_ns"].sum(), what_if)
    return Result("critical_path", table, summary, _notes(found, summary, by))


def path_events(run: Run) -> pd.DataFrame:
    """The path as an overlay for a timeline, in order: event_id (-1 for a delay), name, kind, process, lane, start_ns
    (Unix time on the clock of the event's own process), duration_ns. Empty for a run without events."""
    found = event_graphs(run)
    if found is None:
        return pd.DataFrame(columns=["event_id", "name", "kind", "process", "lane", "start_ns", "duration_ns"])
    words = Words(run.events)
    path = path_parts(run.events, words, found, [graph.observed for graph in found.graphs])
    process, lane = found.lanes.process[path["lane"]], path["lane"]
    clocks_ns = np.array([found.ahead_ns.get(name, 0) for name in run.events["process"].cat.categories], dtype=np.int64)
    event_id = run.events["event_id"].to_numpy()[path["event"]]
    return pd.DataFrame(
        {
            "event_id": np.where(path["event"] == NO_EVENT, -1, event_id),
            "name": np.array(words.names, dtype=object)[path["name"]],
            "kind": np.array(KINDS, dtype=object)[path["kind"]],
            "process": run.events["process"].cat.categories.to_numpy(object)[process],
            "lane": found.lanes.name[lane],
            "start_ns": path["start_ns"] + clocks_ns[process],
            "duration_ns": path["path_ns"].astype("int64"),
        }
    )


def _check_step(found: EventGraphs, step: int) -> None:
    steps = [number for window in found.windows for number in window.steps]
    if step not in steps:
        known = ", ".join(map(str, steps[:10])) + (", ..." if len(steps) > 10 else "")
        raise InputError(f"step {step} was not sampled in this run: it has {known or 'no steps'}")


def _after(run: Run, words: Words, found: EventGraphs, factors: dict[str, float]) -> pd.DataFrame:
    """The parts of the path after the change."""
    check_named(factors, {*words.names, *KINDS})
    work = work_factors(run.events, factors)
    delay = np.array([factors.get(name, factors.get(kind, 1.0)) for name, kind in DELAYS.items()])
    schedules = [
        graph.replay(np.where(graph.event == NO_EVENT, 1.0, work[graph.event]), delay[delays(graph, found.lanes)])
        for graph in found.graphs
    ]
    return path_parts(run.events, words, found, schedules)


def _summary(words: Words, found: EventGraphs, path: pd.DataFrame, steps: int | None) -> dict:
    length_ns = path["path_ns"].sum()
    steps = steps or sum(len(window.steps) for window in found.windows)
    by_kind = np.bincount(path["kind"], path["path_ns"], len(KINDS)) / length_ns
    by_name = np.bincount(path["name"], path["path_ns"], len(words.names)) / length_ns
    longest = np.argsort(-by_name, kind="stable")[:_LONGEST]
    of_delay = dict(zip(DELAYS, by_name[-len(DELAYS) :].tolist(), strict=True))
    process = found.lanes.process[path["lane"]]
    return {
        "length_ns": int(length_ns),
        "steps": steps,
        "step_ns": length_ns / steps if steps else math.nan,
        **{f"{kind}_share": float(share) for kind, share in zip(KINDS, by_kind, strict=True)},
        "late_begin_share": of_delay[LATE_BEGIN],
        "recorded_share": 1 - of_delay[LATE_BEGIN] - of_delay[NOTHING_RECORDED],
        "longest_names": [
            {"name": words.names[name], "path_share": float(by_name[name])} for name in longest if by_name[name] > 0
        ],
        "ranks_visited": int((np.bincount(process) > 0).sum()),
        "rank_switches": int((np.diff(process) != 0).sum()),
    }


def _change(length_ns: float, after_ns: float, what_if: str) -> dict:
    """How long the path would be after the change."""
    saved_ns = length_ns - after_ns
    return {
        "what_if": what_if,
        "length_after_ns": float(after_ns),
        "saved_ns": float(saved_ns),
        "saved_pct": 100 * saved_ns / length_ns,
        "what_if_source": "modelled",
    }


def _notes(found: EventGraphs, summary: dict, by: str) -> list[str]:
    notes = []
    late_share = summary["late_begin_share"]
    if late_share > MUCH_UNEXPLAINED_SHARE:
        notes.append(f"{late_share:.1%} of the path passes before its first process begins: others began earlier")
    unexplained_share = 1 - summary["recorded_share"] - late_share
    if unexplained_share > MUCH_UNEXPLAINED_SHARE:
        notes.append(
            f"{unexplained_share:.1%} of the path is time in which nothing was recorded that could be waited for"
        )
    if "what_if" in summary:
        notes.append(
            "what_if is modelled, and a bound: each delay and the order on each lane stay as they were, and a wait "
            "that the trace does not show is none"
        )
    counts = np.bincount(found.links.edges["cause"], minlength=len(CAUSES))
    counts[CAUSES.index("collective")] = found.links.meetings["meeting"].nunique()
    shown = ", ".join(f"{cause} {count:,}" for cause, count in zip(CAUSES, counts, strict=True) if count)
    notes.append(f"links between lanes, by cause: {shown or 'none were found: each thread and stream stands alone'}")
    if counts[CAUSES.index("stream wait")]:
        notes.append(
            "what a stream waited for is inferred from the order of calls: the trace does not say which streams a "
            "cudaStreamWaitEvent was about"
        )
    if found.acausal:
        notes.append(f"{found.acausal} links contradict the clock (an effect before its cause) and were left out")
    if by == "event":
        notes.append(f"the rows after the path are the {BESIDE} longest events beside it")
    return notes
