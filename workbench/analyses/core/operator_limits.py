"""The shortest times in which arithmetic and memory allow a call of an operator, with one rank's share of a machine."""

import math
from dataclasses import dataclass

from workbench.analyses.core.rank_share import LINE_BYTES, RankShare, moved_bytes
from workbench.costs import Cost, Gather
from workbench.machine.ceilings import Ceiling

_FLOATING = ("fp", "bf", "tf")


@dataclass(frozen=True)
class Limits:
    """Of one call; times are NaN where there is work and no ceiling.

    `tier` is the nearest that holds the operands, or the next outwards whose bandwidth is known. `flops` leaves out
    integer operations at a precision without a ceiling: their operators (index arithmetic, sorting) stand against
    memory alone.
    """

    tier: str
    flops: float
    compute_ns: float
    memory_ns: float
    source: str

    @property
    def bound_ns(self) -> float:
        """The longer of both: what the call takes at best."""
        return math.nan if math.isnan(self.compute_ns + self.memory_ns) else max(self.compute_ns, self.memory_ns)


def limits(known: Cost, share: RankShare) -> Limits:
    """F / peak, and Q / bandwidth of the tier."""
    tier, stream = share.stream(share.tier_of(working_set_bytes(known)))
    if share.ceilings is None:
        return Limits(tier, known.flops, math.nan, math.nan, "")
    peak = share.peak(known.precision)
    flops = known.flops if peak is not None or known.precision.startswith(_FLOATING) else 0.0
    sources = {ceiling.source for ceiling in (peak if flops else None, stream) if ceiling is not None}
    return Limits(tier, flops, _time_ns(flops, peak), memory_ns(known, share, tier), ", ".join(sorted(sources)))


def memory_ns(known: Cost, share: RankShare, tier: str) -> float:
    """Time to move the compulsory bytes of one call from and to `tier`. Rows read at random arrive in whole lines at
    the gather bandwidth of their size and footprint; the other operands stream."""
    rows = random_rows(known)
    if rows is None:
        return _time_ns(known.bytes, share.stream(tier)[1])
    streamed_ns = _time_ns(known.bytes - rows.rows * rows.row_bytes, share.stream(tier)[1])
    gathered = share.gather(tier, rows.row_bytes, footprint_bytes(rows))
    return streamed_ns + _time_ns(rows.rows * moved_bytes(rows.row_bytes), gathered)


def working_set_bytes(known: Cost) -> float:
    """What has to stay in a tier for it to serve the call: the operands, of an embedding operator all its tables."""
    rows = random_rows(known)
    return known.bytes if rows is None else known.bytes - rows.rows * rows.row_bytes + footprint_bytes(rows)


def random_rows(known: Cost) -> Gather | None:
    """The rows that an operator reads at random. Pieces shorter than a line, read at some index, may lie side by side:
    at best they stream. Embedding rows do not, whatever their length."""
    rows = known.gather
    if rows is None or rows.rows * rows.row_bytes == 0 or not (is_embedding(known) or rows.row_bytes >= LINE_BYTES):
        return None
    return rows


def is_embedding(known: Cost) -> bool:
    """Whether the operator looks embeddings up or updates them."""
    return known.gather is not None and "embedding" in known.model


def footprint_bytes(rows: Gather) -> float:
    """What the rows are chosen from; where that is unknown, the rows themselves."""
    return rows.footprint_bytes or rows.rows * rows.row_bytes


def _time_ns(work: float, ceiling: Ceiling | None) -> float:
    """Time for `work` at a ceiling; no work takes none, whatever the ceiling."""
    if work == 0:
        return 0.0
    return 1e9 * work / ceiling.value if ceiling is not None else math.nan
