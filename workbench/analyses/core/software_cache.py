"""What a software cache of embedding rows would see: reuse per lookup and per unique row of a batch, by capacity.

*Hit rate has two meanings.* Per lookup, every lookup asks the cache. A batch-deduplicating cache (FBGEMM's, in front
of host memory) asks once for each unique row of a batch: it sees fewer accesses, and the easy hits are gone. Both are
reported under their own names. A slot holds one row and is as wide as the widest row of the rank's tables.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from workbench.analyses.core.access_stream import Window, row_touches
from workbench.analyses.core.caches import POLICIES, WAYS, simulate
from workbench.analyses.core.reuse import COLD, SampledReuse, sample, sampled_reuse

# Streams up to this length are followed exactly, longer ones by SHARDS at the rate that leaves about so many; and each
# of the many simulations takes a smaller sample.
FOLLOWED_ACCESSES = 2_000_000
SIMULATED_ACCESSES = 200_000
HOT_SHARE = 0.01
TABLE_COLUMNS = [
    "table", "rank", "rows", "dim", "row_bytes", "lookups", "lookup_bytes", "pooling_factor", "unique_share",
    "touched_rows", "touched_bytes", "hot_row_share", "lookup_hit_share", "unique_row_hit_share", "table_index",
]  # fmt: skip


@dataclass(frozen=True)
class RowStream:
    """Row accesses of one process in order, arrays [n]: unit key, table, whether the access counts; and their reuse."""

    unit: np.ndarray
    table: np.ndarray
    counted: np.ndarray
    reuse: SampledReuse

    def accesses_by_table(self, tables: int) -> np.ndarray:
        """Counted accesses [tables]."""
        return np.bincount(self.table[self.counted], minlength=tables)

    def miss_share_by_table(self, capacity_rows: int, tables: int) -> np.ndarray:
        """Of a fully associative LRU cache for all tables together, [tables]; NaN where a table was not accessed."""
        followed = self.reuse.followed
        missed = self.table[followed][self.reuse.missed(capacity_rows) & self.counted[followed]]
        scaled = np.bincount(missed, minlength=tables) / self.reuse.rate
        accesses = self.accesses_by_table(tables)
        return np.clip(scaled / np.where(accesses > 0, accesses, np.nan), 0, 1)

    def simulated_miss_share(self, capacity_rows: int, policy: str) -> float:
        """Misses over counted accesses of a set-associative cache; of a long stream a sample, and a cache as much
        smaller (Waldspurger and others, "Cache modeling and optimization using miniature simulations", ATC 2017). NaN
        where that leaves less than one set."""
        rate = min(1.0, SIMULATED_ACCESSES / len(self.unit))
        if capacity_rows * rate < WAYS:
            return math.nan
        followed = sample(self.unit, rate) if rate < 1 else slice(None)
        hits = simulate(self.unit[followed], round(capacity_rows * rate), policy)
        missed = (~hits & self.counted[followed]).sum() / rate
        return float(np.clip(missed / self.counted.sum(), 0, 1))


@dataclass(frozen=True)
class RankRows:
    """One process's window as a software cache sees it. `supported_rows` is what the uncounted prefix can fill: of a
    larger cache the sample says nothing."""

    window: Window
    lookups: RowStream
    unique: RowStream
    supported_rows: int
    slot_bytes: int


def rank_rows(window: Window, tables: Sequence[Mapping]) -> RankRows:
    """Both streams of `window`; `tables` are the manifest's."""
    lookups, unique = (_stream(window, deduplicated) for deduplicated in (False, True))
    # Units are numbered by first touch, and the prefix comes first.
    supported_rows = int(unique.unit[~unique.counted].max(initial=-1)) + 1
    slot_bytes = max(tables[table]["row_bytes"] for table in window.accesses["table"].unique())
    return RankRows(window, lookups, unique, supported_rows, int(slot_bytes))


def curve(ranks: Sequence[RankRows], supported_rows: int) -> pd.DataFrame:
    """Miss shares at powers of two of rows (a rank), up to `supported_rows`; ranks weigh by their accesses.

    Columns: capacity_rows, capacity_bytes, {miss,cold}_share_per_{lookup,unique_row} of a fully associative LRU cache,
    and the simulated_<policy>_miss_share of set-associative ones, per unique row.
    """
    rows = []
    capacity = WAYS
    while capacity <= supported_rows:
        row = {"capacity_rows": capacity, "capacity_bytes": capacity * max(rank.slot_bytes for rank in ranks)}
        for per, stream in (("lookup", "lookups"), ("unique_row", "unique")):
            row[f"{per}_miss_share"] = miss_share(ranks, stream, capacity)
            row[f"cold_share_per_{per}"] = _weighted(ranks, stream, _cold_share)
        for policy in POLICIES:
            row[f"simulated_{policy}_miss_share"] = _weighted(
                ranks, "unique", lambda own, name=policy, rows=capacity: own.simulated_miss_share(rows, name)
            )
        rows.append(row)
        capacity *= 2
    return pd.DataFrame(rows)


def miss_share(ranks: Sequence[RankRows], stream: str, capacity_rows: int) -> float:
    """Of a fully associative LRU cache, over the counted accesses of `stream` ("lookups" or "unique") of all ranks."""
    return _weighted(ranks, stream, lambda own: own.reuse.miss_share(capacity_rows, own.counted))


def table_rows(rank: RankRows, tables: Sequence[Mapping], capacity_rows: int) -> pd.DataFrame:
    """One row a table of the rank, over the counted steps; hit shares are of a fully associative LRU cache that holds
    `capacity_rows` rows of all the rank's tables together."""
    own = rank.window.accesses[rank.window.accesses["step"] >= rank.window.counted_from]
    hits = {
        f"{per}_hit_share": 1 - stream.miss_share_by_table(capacity_rows, len(tables))
        for per, stream in (("lookup", rank.lookups), ("unique_row", rank.unique))
    }
    lookups, unique = rank.lookups.accesses_by_table(len(tables)), rank.unique.accesses_by_table(len(tables))
    found = []
    for index, accesses in own[own["table"].map(lambda table: lookups[table] > 0)].groupby("table", sort=True):
        table = tables[index]
        counts = np.sort(np.unique(np.concatenate(list(accesses["rows"])), return_counts=True)[1])[::-1]
        row = {
            "table": table["name"], "rank": table.get("rank", -1), "rows": table["rows"], "dim": table["dim"],
            "row_bytes": table["row_bytes"], "lookups": int(lookups[index]),
            "lookup_bytes": int(lookups[index]) * table["row_bytes"],
            "pooling_factor": lookups[index] / sum(map(len, accesses["lengths"])),
            "unique_share": unique[index] / lookups[index],
            "touched_rows": len(counts), "touched_bytes": len(counts) * table["row_bytes"],
            "hot_row_share": counts[: math.ceil(HOT_SHARE * len(counts))].sum() / lookups[index],
            "table_index": index,
        }  # fmt: skip
        found.append(row | {name: shares[index] for name, shares in hits.items()})
    return pd.DataFrame(found, columns=TABLE_COLUMNS).astype({"table_index": int})


def _stream(window: Window, deduplicated: bool) -> RowStream:
    unit, table, step = row_touches(window, unique=deduplicated)
    rate = min(1.0, FOLLOWED_ACCESSES / max(len(unit), 1))
    return RowStream(unit, table, step >= window.counted_from, sampled_reuse(unit, rate))


def _cold_share(stream: RowStream) -> float:
    return stream.reuse.share(stream.reuse.distances == COLD, stream.counted)


def _weighted(ranks: Sequence[RankRows], stream: str, share: Callable[[RowStream], float]) -> float:
    """Mean of share(stream) over the ranks that have counted accesses, by their number."""
    streams = [own for rank in ranks if (own := getattr(rank, stream)).counted.any()]
    weights = [own.counted.sum() for own in streams]
    return float(np.average([share(own) for own in streams], weights=weights)) if streams else math.nan
