"""The links between lanes: who needed what of whom, who stood waiting, and where all had to meet.

A link is a place on one lane and a place on another: the number of a lane and a time on it (int64 ns).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

# Why one lane needs another (`cause` of an edge).
CAUSES = ("launch", "stream wait", "synchronise", "thread", "call", "collective")


@dataclass(frozen=True)
class Links:
    """What ties lanes together.

    `edges`: source_lane, departs_ns, target_lane, arrives_ns, cause (index into CAUSES): what starts on the target at
    arrives_ns, or next, needs what the source had done by departs_ns, which is no later. `waits`: lane, start_ns,
    end_ns of a lane that waits, unless an event runs inside. `meetings`, a row a rank of a collective: meeting (any
    number), lane, arrives_ns, leaves_ns, held: a rank that is held waits from arrival to leaving, and goes on only
    once all have arrived.
    """

    edges: pd.DataFrame
    waits: pd.DataFrame
    meetings: pd.DataFrame

    def within(self, start_ns: int, end_ns: int) -> "Links":
        """Those that lie inside, in time since `start_ns`; a meeting is there with all its ranks or not at all."""
        edges = _shifted(self.edges, start_ns, "departs_ns", "arrives_ns")
        waits = _shifted(self.waits, start_ns, "start_ns", "end_ns")
        meetings = _shifted(self.meetings, start_ns, "arrives_ns", "leaves_ns")
        inside = meetings["arrives_ns"].between(0, end_ns - start_ns, inclusive="left")
        return Links(
            edges[(edges["departs_ns"] > 0) & (edges["arrives_ns"] < end_ns - start_ns)],
            waits[(waits["start_ns"] >= 0) & (waits["end_ns"] <= end_ns - start_ns)],
            meetings[inside.groupby(meetings["meeting"]).transform("all")],
        )


class Collector:
    """Links as they are found. What contradicts the clock is none: it is counted in `acausal`."""

    def __init__(self) -> None:
        none = np.empty(0, dtype=np.int64)
        self._edges, self._waits, self._meetings = [], [], []
        self.acausal = 0
        self.edges(CAUSES[0], none, none, none, none)
        self.waits(none, none, none)
        self.meetings(none, none, none, none, none.astype(bool))

    def edges(
        self,
        cause: str,
        source_lane: np.ndarray,
        departs_ns: np.ndarray,
        target_lane: np.ndarray,
        arrives_ns: np.ndarray,
    ) -> None:
        """Edges [n]; those without a lane (-1) at either end are left out."""
        edges = pd.DataFrame(
            {
                "source_lane": source_lane, "departs_ns": departs_ns, "target_lane": target_lane,
                "arrives_ns": arrives_ns, "cause": CAUSES.index(cause),
            },
            dtype="int64",
        )  # fmt: skip
        placed = (edges["source_lane"] >= 0) & (edges["target_lane"] >= 0)
        causal = edges["departs_ns"] <= edges["arrives_ns"]
        self.acausal += int((placed & ~causal).sum())
        self._edges.append(edges[placed & causal])

    def waits(self, lane: np.ndarray, start_ns: np.ndarray, end_ns: np.ndarray) -> None:
        """Waits [n]; those without a length or a lane are left out."""
        waits = pd.DataFrame({"lane": lane, "start_ns": start_ns, "end_ns": end_ns}, dtype="int64")
        self._waits.append(waits[(waits["end_ns"] > waits["start_ns"]) & (waits["lane"] >= 0)])

    def meetings(
        self, meeting: np.ndarray, lane: np.ndarray, arrives_ns: np.ndarray, leaves_ns: np.ndarray, held: np.ndarray
    ) -> None:
        """A rank of a collective each [n]; a meeting in which someone has no lane is left out."""
        columns = {"meeting": meeting, "lane": lane, "arrives_ns": arrives_ns, "leaves_ns": leaves_ns}
        meetings = pd.DataFrame(columns, dtype="int64").assign(held=held)
        self._meetings.append(meetings[(meetings["lane"] >= 0).groupby(meetings["meeting"]).transform("all")])

    def links(self) -> Links:
        """All that was collected."""
        return Links(*(pd.concat(tables, ignore_index=True) for tables in (self._edges, self._waits, self._meetings)))


def _shifted(table: pd.DataFrame, epoch_ns: int, *columns: str) -> pd.DataFrame:
    return table.assign(**{name: table[name] - epoch_ns for name in columns})
