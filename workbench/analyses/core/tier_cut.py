"""A stream of touches cut by memory tier: which level serves each touch, what is written back, how long it takes.

The hierarchy is modelled as inclusive, fully associative and LRU with write-back and write-allocate, each tier with
the rank's share of its capacity. A touch is served by the nearest tier that still holds its whole unit: reuse distance
plus its own lines fit. Writes go to the nearest tier; a dirty line goes one tier out when its stay there ends.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from workbench.analyses.core.access_stream import PARTS, ROW_PARTS, Touches, Window
from workbench.analyses.core.rank_share import LINE_BYTES, RankShare
from workbench.analyses.core.reuse import COLD, reuse_distances, written_back


@dataclass(frozen=True)
class TierCut:
    """Sums over the counted touches, arrays [tier, part, table + 1]; the last table stands for none (dense operators).

    `touches` are counts, `read_bytes` what a tier served, `write_bytes` what was written into it, `time_ns` both at the
    tier's bandwidth. `prefix_bytes` is how much distinct data the uncounted prefix touched: a tier at least as large
    was not full when counting began.
    """

    touches: np.ndarray
    read_bytes: np.ndarray
    write_bytes: np.ndarray
    time_ns: np.ndarray
    prefix_bytes: float


def cut(stream: Touches, window: Window, tables: Sequence[Mapping], share: RankShare) -> TierCut:
    """`stream` of `window` against the tiers of `share` (at least one)."""
    capacities = np.array([capacity_bytes / LINE_BYTES for _, capacity_bytes in share.tiers()])
    distances = reuse_distances(stream.unit, stream.lines)
    counted = stream.step >= window.counted_from
    reached = np.where(distances == COLD, np.inf, distances + stream.lines)
    served = np.minimum(np.searchsorted(capacities, reached), len(capacities) - 1)
    # Written into a tier: by the operators' stores into the nearest, by dirty evictions of the one before elsewhere.
    written = [stream.written] + [
        written_back(stream.unit, stream.lines, stream.written, distances, capacity) for capacity in capacities[:-1]
    ]
    column = stream.part * (len(tables) + 1) + stream.table % (len(tables) + 1)
    width = len(PARTS) * (len(tables) + 1)

    def sums(tier: np.ndarray | int, weights: np.ndarray | None = None) -> np.ndarray:
        flat = (np.broadcast_to(tier, len(column)) * width + column)[counted]
        weights = None if weights is None else weights[counted]
        found = np.bincount(flat, weights, minlength=len(capacities) * width)
        return found.reshape(len(capacities), len(PARTS), len(tables) + 1).astype(float)

    read_bytes = LINE_BYTES * sums(served, stream.lines)
    write_bytes = LINE_BYTES * sum(sums(tier, lines) for tier, lines in enumerate(written))
    moved_bytes = read_bytes + write_bytes
    # A tier without a known bandwidth has no time - unless nothing moved there.
    time_ns = np.where(moved_bytes > 0, 1e9 * moved_bytes / _bandwidths(tables, share), 0.0)
    prefix_lines = stream.lines[~counted & (distances == COLD)].sum()
    return TierCut(sums(served), read_bytes, write_bytes, time_ns, float(LINE_BYTES * prefix_lines))


def _bandwidths(tables: Sequence[Mapping], share: RankShare) -> np.ndarray:
    """Bytes/s [tier, part, table + 1]: rows at the gather bandwidth of their size and footprint, the rest streams;
    NaN where it was not measured."""
    tiers = [tier for tier, _ in share.tiers()]
    found = np.full((len(tiers), len(PARTS), len(tables) + 1), np.nan)
    for place, tier in enumerate(tiers):
        found[place] = _value(share.stream(tier)[1])
        for index, table in enumerate(tables):
            gathered = share.gather(tier, table["row_bytes"], table["rows"] * table["row_bytes"])
            found[place, ROW_PARTS, index] = _value(gathered)
    return found


def _value(ceiling: object) -> float:
    return ceiling.value if ceiling is not None else np.nan
