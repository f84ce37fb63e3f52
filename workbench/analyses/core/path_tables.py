"""Rows about the critical path: its sums by kind, name or rank, or its events one by one."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from workbench.analyses.core.event_graph import NO_EVENT
from workbench.analyses.core.event_graph_build import EventGraphs
from workbench.analyses.core.path_parts import Words
from workbench.trace.schema import KINDS, SOURCES

# Beside the path, so many of the longest events are shown.
BESIDE = 20


def path_sums(
    by: str, events: pd.DataFrame, words: Words, found: EventGraphs, path: pd.DataFrame, work: pd.DataFrame,
    after: pd.DataFrame | None,
) -> pd.DataFrame:  # fmt: skip
    """Rows by kind, name (and kind) or rank, those with most on the path first: path_ns, path_share, after_ns (on the
    path `after` a change, if there was one), events (on the path), total_ns (self time on and off it), slack_ns (the
    least of those off it, NaN for none), source."""
    labels, coded = _labels(by, events, words, found)
    codes, visited = coded(work), np.zeros(len(events) + 1, dtype=bool)
    visited[path["event"]] = True
    visited[NO_EVENT] = False
    event = np.flatnonzero(visited)
    on_path = pd.DataFrame({"event": event, "lane": found.lanes.lane[event]} | words.of_events(event), copy=False)
    off_path = ~visited[work["event"]]

    def total(of: pd.DataFrame, ns: np.ndarray | pd.Series) -> np.ndarray:
        return np.bincount(coded(of), ns, len(labels)).round().astype(np.int64)

    slack_ns = work["slack_ns"][off_path].groupby(codes[off_path]).min().reindex(labels.index)
    source = work["source"].groupby(codes).max().reindex(labels.index, fill_value=0)
    path_ns = total(path, path["path_ns"])
    table = labels.assign(path_ns=path_ns, path_share=path_ns / path_ns.sum())
    if after is not None:
        table["after_ns"] = total(after, after["path_ns"])
    table["events"] = np.bincount(coded(on_path), minlength=len(labels))
    table["total_ns"] = total(work, work["total_ns"])
    table["slack_ns"] = slack_ns
    table["source"] = np.array(SOURCES)[source]
    table = table[(table["path_ns"] > 0) | (table["total_ns"] > 0)]
    return table.sort_values(["path_ns", "total_ns"], ascending=False, ignore_index=True)


def path_rows(
    events: pd.DataFrame, words: Words, found: EventGraphs, path: pd.DataFrame, work: pd.DataFrame
) -> pd.DataFrame:
    """The events and delays of the path in order, then the longest events beside it: at_ns (since the first window
    began), path_ns, total_ns (self time on and off the path), slack_ns, kind, name, on_path, event_id, source."""
    of_event = work.groupby("event").agg({"total_ns": "sum", "slack_ns": "min"})
    is_event = path["event"] != NO_EVENT
    goes_on = is_event & (path["event"] == path["event"].shift())
    on = path.groupby((~goes_on).cumsum()).agg({name: "sum" if name == "path_ns" else "first" for name in path})
    longest = of_event[~of_event.index.isin(path["event"])].nlargest(BESIDE, "total_ns").index.to_numpy()
    off = pd.DataFrame(
        {"start_ns": found.lanes.start_ns[longest], "path_ns": 0.0, "event": longest}
        | {"lane": found.lanes.lane[longest], "step": events["step"].to_numpy()[longest]}
        | words.of_events(longest)
    )
    rows = pd.concat([on.assign(on_path=True), off.assign(on_path=False)], ignore_index=True)
    lane, is_event = rows["lane"].to_numpy(), (rows["event"] != NO_EVENT).to_numpy()
    slack_ns = of_event["slack_ns"].reindex(rows["event"]).to_numpy()
    return pd.DataFrame(
        {
            "at_ns": rows["start_ns"] - found.windows[0].start_ns,
            "path_ns": rows["path_ns"].round().astype("int64"),
            "total_ns": of_event["total_ns"].reindex(rows["event"]).to_numpy(),
            "slack_ns": np.where(rows["on_path"], 0.0, slack_ns),
            "rank": found.lanes.rank[lane], "process": _processes(events)[found.lanes.process[lane]],
            "lane": found.lanes.name[lane], "step": rows["step"],
            "kind": np.array(KINDS, dtype=object)[rows["kind"]],
            "name": np.array(words.names, dtype=object)[rows["name"]], "on_path": rows["on_path"],
            "event_id": np.where(is_event, events["event_id"].to_numpy()[rows["event"]], -1),
            "source": np.array(SOURCES, dtype=object)[rows["source"]],
        }
    )  # fmt: skip


def _labels(
    by: str, events: pd.DataFrame, words: Words, found: EventGraphs
) -> tuple[pd.DataFrame, Callable[[pd.DataFrame], np.ndarray]]:
    """What the rows are called, and a function that numbers the rows of a table of parts accordingly."""
    if by == "kind":
        return pd.DataFrame({"kind": KINDS}), lambda parts: parts["kind"].to_numpy()
    if by == "name":
        pairs = {"name": np.repeat(words.names, len(KINDS)), "kind": np.tile(KINDS, len(words.names))}
        return pd.DataFrame(
            pairs
        ), lambda parts: parts["name"].to_numpy(dtype=np.int64) * len(KINDS) + parts["kind"].to_numpy()
    processes = _processes(events)
    ranks = np.full(len(processes), -1)
    ranks[found.lanes.process] = found.lanes.rank
    labels = pd.DataFrame({"rank": ranks, "process": processes})
    return labels, lambda parts: found.lanes.process[parts["lane"]]


def _processes(events: pd.DataFrame) -> np.ndarray:
    return events["process"].cat.categories.to_numpy(object)
