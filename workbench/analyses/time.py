"""Where time goes: compute, exposed communication, copies, host and idle, by rank, step or lane; and why it is idle.

The parts are set algebra on disjoint intervals (core/timeline.py), so they sum to the window by construction.
"""

from dataclasses import replace
from typing import Literal

import numpy as np
import pandas as pd

from workbench.analyses.core.idle import CAUSES, WAIT_THRESHOLD_NS, idle_gaps
from workbench.analyses.core.intervals import covered_ns, intersect, total_ns
from workbench.analyses.core.result import Result, not_applicable
from workbench.analyses.core.throughput import throughput
from workbench.analyses.core.timeline import PARTS, Timeline, timelines
from workbench.trace.run import Run
from workbench.units import format_ns


def time(run: Run, *, by: Literal["rank", "step", "lane", "idle"] = "rank") -> Result:
    """Split the sampled steps of each rank into compute, communication, copy, host and idle (`_ns`, `_pct` of window).

    `by`: one row a rank, a rank's step, a rank's stream or thread; or a cause of idle time on a rank's device stream.
    """
    lines = timelines(run)
    if not lines:
        return not_applicable("time", "the run has neither operators nor steps")
    gaps = [(line, idle_gaps(run, line)) for line in lines if line.on_device]
    if by == "idle" and not gaps:
        return not_applicable("time", "idle time has causes on a device's streams, and no device worked in this run")
    table = _by_cause(gaps) if by == "idle" else pd.concat([_rows(line, by) for line in lines], ignore_index=True)
    speed, speed_notes = throughput(run)
    return Result("time", table, _summary(lines) | _why_idle(gaps) | speed, [*speed_notes, *_notes(lines)])


def _rows(line: Timeline, by: str) -> pd.DataFrame:
    """The rows of one timeline: one for the rank, or one a step, or one a lane."""
    labels = _labels(line)
    if by == "step":
        start_ns, end_ns = line.steps["start_ns"].to_numpy(), line.steps["end_ns"].to_numpy()
        return _percent(_part_ns(line, start_ns, end_ns), labels | {"step": line.steps["step"].to_numpy()})
    if by == "lane":
        lanes = sorted({layer.lane for layer in line.layers} | {line.critical_lane})
        return pd.concat([_percent(_whole(_only(line, lane)), labels | {"lane": lane}) for lane in lanes])
    return _percent(_whole(line), labels | {"steps": len(line.steps)})


def _labels(line: Timeline) -> dict:
    return {"rank": line.rank, "process": line.process, "device": line.device, "source": line.source}


def _only(line: Timeline, lane: str) -> Timeline:
    """The timeline of one lane alone; only the critical thread's empty time is the host's."""
    rest = line.rest if lane == line.critical_lane else "idle"
    return replace(line, layers=[layer for layer in line.layers if layer.lane == lane], rest=rest)


def _whole(line: Timeline) -> pd.DataFrame:
    """The parts summed over all windows, one row."""
    return _part_ns(line, line.windows[:, 0], line.windows[:, 1]).sum().to_frame().T


def _part_ns(line: Timeline, start_ns: np.ndarray, end_ns: np.ndarray) -> pd.DataFrame:
    """How much of each interval [n] belongs to each part, and how much communication there is in all."""
    nanoseconds = {"window_ns": end_ns - start_ns}
    nanoseconds |= {f"{part}_ns": covered_ns(where, start_ns, end_ns) for part, where in line.parts.items()}
    everything = intersect(line.everything("communication"), line.active)
    nanoseconds["all_communication_ns"] = covered_ns(everything, start_ns, end_ns)
    return pd.DataFrame(nanoseconds)


def _percent(sums: pd.DataFrame, labels: dict) -> pd.DataFrame:
    """`sums` with percentages and labels; asserts that the parts make up the window."""
    everything = sums.pop("all_communication_ns")
    table = pd.concat([pd.DataFrame(labels, index=sums.index), sums], axis=1)
    for part in PARTS:
        table[f"{part}_pct"] = 100.0 * table[f"{part}_ns"] / table["window_ns"]
    table["overlapped_communication_share"] = 1 - table["communication_ns"] / everything.where(everything > 0)
    whole_pct = table[[f"{part}_pct" for part in PARTS]].sum(axis=1)
    assert np.allclose(whole_pct, 100, atol=0.1), f"the parts of {labels} sum to {whole_pct.tolist()} %"
    return table


def _summary(lines: list[Timeline]) -> dict:
    window_ns = sum(total_ns(line.windows) for line in lines)
    steps = sum(len(line.steps) for line in lines)
    summary = {"ranks": len({(line.process, line.rank) for line in lines}), "steps": steps, "window_ns": window_ns}
    for part in PARTS:
        summary[f"{part}_pct"] = 100 * sum(total_ns(line.parts[part]) for line in lines) / window_ns
    return summary


def _why_idle(gaps: list[tuple[Timeline, pd.DataFrame]]) -> dict:
    """Causes of the gaps on each device's busiest compute stream, as shares of their time."""
    busiest = [table[table["lane"] == line.critical_lane] for line, table in gaps]
    table = pd.concat(busiest) if busiest else pd.DataFrame()
    if len(table) == 0:
        return {}
    by_cause = table.groupby("cause", observed=True)["idle_ns"].sum().reindex(CAUSES, fill_value=0)
    shares = {f"idle_{cause}_share": float(by_cause[cause] / by_cause.sum()) for cause in CAUSES}
    late = table[table["cause"] == "host"].groupby("name", observed=True)["idle_ns"].sum()
    return shares | {"idle_late_operator": late.idxmax() if len(late) else "", "idle_threshold_ns": WAIT_THRESHOLD_NS}


def _by_cause(gaps: list[tuple[Timeline, pd.DataFrame]]) -> pd.DataFrame:
    """Gaps of every stream by cause and by what is to blame, largest first."""
    tables, keys = [], ["lane", "cause", "name"]
    for line, table in gaps:
        groups = table.groupby(keys, observed=True)["idle_ns"].agg(gaps="size", idle_ns="sum")
        # Of the operators whose launch ended the gaps: that before which most of the time passed.
        before = table.groupby([*keys, "before_operator"], observed=True)["idle_ns"].sum().sort_values(kind="stable")
        groups["before_operator"] = before.reset_index("before_operator")["before_operator"].groupby(keys).last()
        grouped = groups.reset_index().astype(dict.fromkeys((*keys, "before_operator"), "str"))
        grouped["idle_share"] = grouped["idle_ns"] / grouped.groupby("lane")["idle_ns"].transform("sum")
        grouped = grouped[[*keys, "before_operator", "gaps", "idle_ns", "idle_share"]]
        tables.append(pd.concat([pd.DataFrame(_labels(line), index=grouped.index), grouped], axis=1))
    return pd.concat(tables).sort_values("idle_ns", ascending=False, ignore_index=True)


def _notes(lines: list[Timeline]) -> list[str]:
    notes = ["communication that runs under compute counts as compute"]
    if any(line.on_device for line in lines):
        notes.append(
            "a rank's window is from its first to its last device event of the sampled steps; idle_*_share are of the "
            f"gaps on its busiest compute stream, where a wait ends within {format_ns(WAIT_THRESHOLD_NS)} of its reason"
        )
    host = [line for line in lines if not line.on_device]
    if host:
        where = ", ".join(sorted({line.critical_lane for line in host})[:4])
        notes.append(
            "no device worked, so the host is the device: a step's time is split on its critical thread "
            f"({where}), that of a server's requests on all of theirs; time in one without an operator is host, "
            "between them idle"
        )
    if any(line.from_spans for line in lines):
        notes.append("no profiler window: the times are those of the recorder's spans")
    return notes
