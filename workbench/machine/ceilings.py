"""Ceilings as data: one row a measured (or promised) limit, with look-ups that say what they found and how sure it is.

`measure/` fills them on this machine; `promised.toml` holds vendors' figures. A look-up that finds nothing returns
None: an unknown device has no roof.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd

from workbench.errors import InputError

CEILINGS_VERSION = 1
TEXT = ("kind", "name", "device", "tier", "precision", "collective", "backend", "unit", "method", "source")
# `row_bytes`: bytes of one random row or block. `message_bytes`: as the collective counts it (costs/collectives.py).
COLUMNS = (
    "kind", "name", "device", "tier", "precision", "cores", "active", "row_bytes", "working_set_bytes", "collective",
    "backend", "group_size", "message_bytes", "unit", "value", "median", "min", "max", "repeats", "method", "source",
)  # fmt: skip


# A row of machine.json as it must be, and a memory level of a device.
_Row = msgspec.defstruct(
    "_Row", [(name, str, "") if name in TEXT else (name, float | None, None) for name in COLUMNS]
)  # fmt: skip
_Level = msgspec.defstruct("_Level", [("tier", str), ("capacity_bytes", float | None, None)])


@dataclass(frozen=True)
class Ceiling:
    """One limit. `value` (in `unit`) is the 90th percentile of the repeats of a rate, the median of those of a time, or
    the vendor's figure; `low` and `high` are the least and the largest repeat."""

    value: float
    unit: str
    source: str
    method: str
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class Ceilings:
    """`table` has COLUMNS (NaN or empty where one does not apply); `about` says machine, date, quick or full."""

    table: pd.DataFrame
    about: dict

    def compute(self, precision: str = "fp32", cores: int | None = None, device: str = "cpu") -> Ceiling | None:
        """Peak FLOP/s of `device` at `precision` with `cores` busy (None: all of them)."""
        rows = self._rows(kind="compute", precision=precision, device=device)
        if len(rows) == 0:
            return None
        if cores is None or rows["cores"].isna().all():
            return _ceiling(rows.sort_values("cores").iloc[-1])
        exact = rows[rows["cores"] == cores]
        if len(exact):
            return _ceiling(exact.iloc[0])
        # Between one core and all: one core's rate times the number, at most all cores' rate.
        one, every = rows.nsmallest(1, "cores").iloc[0], rows.nlargest(1, "cores").iloc[0]
        scale = cores / one["cores"]
        if one["value"] * scale > every["value"]:
            return _ceiling(every)
        return _ceiling(one, scale, f", scaled to {cores} cores")

    def bandwidth(
        self, tier: str, name: str = "triad", active: int = 1, cores: int | None = None, device: str = "cpu"
    ) -> Ceiling | None:
        """Bytes/s that one process with `cores` threads (None: its equal part of all) sustains from `tier` with access
        pattern `name` (read, write, copy, triad) while `active` such processes do the same.

        A vendor's figure names no pattern and stands for each.
        """
        rows = self._rows(kind="bandwidth", tier=tier, device=device)
        return _share(rows[rows["name"].isin([name, ""])], active, cores)

    def gather(
        self,
        tier: str,
        row_bytes: float,
        footprint_bytes: float | None = None,
        active: int = 1,
        device: str = "cpu",
        cores: int | None = None,
    ) -> Ceiling | None:
        """Moved bytes/s (whole 64 B lines) of random row reads of `row_bytes` from a working set in `tier`, by one
        process with `cores` threads (None: its equal part of all) while `active` such processes do the same.

        Interpolates between measured row sizes on logarithmic axes; takes the working set nearest to
        `footprint_bytes` (None: the smallest), since translation misses slow a large one; with or without software
        prefetch, whichever is faster there.
        """
        rows = self._rows(kind="gather", tier=tier, device=device)
        if len(rows) == 0:
            return None
        sizes = rows["working_set_bytes"]
        distance = sizes if footprint_bytes is None else np.abs(np.log(sizes / footprint_bytes))
        rows = rows[distance == distance.min()]
        variants = [_at_row_size(variant, row_bytes, active, cores) for _, variant in rows.groupby("name")]
        return max(variants, key=lambda ceiling: ceiling.value)

    def overhead_ns(self, name: str) -> Ceiling | None:
        """Time of one call of the operator `name` (aten::add, ...) with next to nothing to do."""
        rows = self._rows(kind="overhead", name=name)
        return _ceiling(rows.iloc[0]) if len(rows) else None

    def collective_ns(
        self, collective: str, group_size: int, message_bytes: float, backend: str | None = None
    ) -> Ceiling | None:
        """Time of one collective of `message_bytes`, interpolated between measured sizes (straight lines in between;
        beyond the largest size at its rate). None where this collective or group size was not measured."""
        rows = self._rows(kind="collective", collective=collective, group_size=group_size)
        if backend:
            rows = rows[rows["backend"] == backend]
        rows = rows.sort_values("message_bytes")
        if len(rows) == 0 or not message_bytes > 0:
            return None
        sizes = rows["message_bytes"].to_numpy(float)
        found = []
        for column in ("value", "min", "max"):
            times = rows[column].to_numpy(float)
            beyond = message_bytes > sizes[-1]
            found.append(times[-1] * message_bytes / sizes[-1] if beyond else np.interp(message_bytes, sizes, times))
        return Ceiling(float(found[0]), "ns", rows["source"].iloc[0], rows["method"].iloc[0], *map(float, found[1:]))

    def tiers(self, device: str = "cpu") -> list[tuple[str, float]]:
        """(tier, capacity in bytes) of the memory levels of `device`, nearest first; the last has infinite capacity.
        Empty for an unknown device."""
        levels = self.about.get("levels", {}).get(device, [])
        return [(level["tier"], float(level["capacity_bytes"] or math.inf)) for level in levels]

    def dumps(self) -> bytes:
        """As the bytes of machine.json."""
        rows = [
            {key: value for key, value in row.items() if value == value and value not in ("", None)}
            for row in self.table.to_dict("records")
        ]
        return msgspec.json.format(msgspec.json.encode({"version": CEILINGS_VERSION, **self.about, "ceilings": rows}))

    @classmethod
    def from_rows(cls, rows: Sequence[dict], about: dict) -> "Ceilings":
        """From records with some of COLUMNS."""
        table = pd.DataFrame(rows, columns=list(COLUMNS))
        table[list(TEXT)] = table[list(TEXT)].astype("object").fillna("")
        numbers = [column for column in COLUMNS if column not in TEXT]
        table[numbers] = table[numbers].astype(float)
        table["device"] = table["device"].replace("", "cpu")
        return cls(table, about)

    @classmethod
    def read(cls, path: Path) -> "Ceilings":
        """From a machine.json; an InputError when it is none."""
        try:
            about = msgspec.json.decode(Path(path).read_bytes(), type=dict)
            version, rows = about.pop("version", None), about.pop("ceilings")
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError):
            raise InputError(f"{path} holds no ceilings: expected what `workbench machine` writes") from None
        if version != CEILINGS_VERSION:
            raise InputError(f"{path} has ceilings of version {version}, this workbench reads {CEILINGS_VERSION}")
        try:
            levels = msgspec.convert(about.get("levels", {}), dict[str, list[_Level]])
            rows = msgspec.to_builtins(msgspec.convert(rows, list[_Row]))
        except msgspec.ValidationError as error:
            raise InputError(f"{path} is damaged: {error}; expected what `workbench machine` writes") from None
        if any(level.capacity_bytes for device in levels.values() for level in device[-1:]):
            raise InputError(f"{path} is damaged: the farthest memory level of a device has no end")
        return cls.from_rows(rows, about)

    def _rows(self, **equal: object) -> pd.DataFrame:
        rows = self.table
        for column, value in equal.items():
            rows = rows[rows[column] == value]
        return rows


def _ceiling(row: pd.Series, scale: float = 1.0, remark: str = "") -> Ceiling:
    value, low, high = (float(row[column] * scale) for column in ("value", "min", "max"))
    return Ceiling(value, row["unit"], row["source"], row["method"] + remark, low, high)


def _share(rows: pd.DataFrame, active: int, cores: int | None) -> Ceiling | None:
    """What one process with `cores` threads gets while `active` such processes are at work.

    A process of several threads counts as that many of one, so a row stands for the number of threads at work in it.
    Between two measured numbers a thread gets what it got among fewer, but at most an equal part of the total that more
    of them reached; beyond the largest, an equal part of its total. Rows that state no cores speak of whole processes.
    """
    if len(rows) == 0:
        return None
    width, own = rows["cores"].fillna(1), 1.0
    working = width * rows["active"].fillna(1)
    if rows["cores"].notna().any():
        own = working.max() / active if cores is None else cores
    asked, most = own * active, working.max()
    scale = own / width * (working / asked).where((working >= asked) | (asked > most), 1.0)
    if asked > most:
        nearest = working == most
    else:
        nearest = (working == asked) | ~(working == asked).any()
    place = (rows["value"] * scale)[nearest].idxmin()
    remark = "" if working[place] == asked else f", from {working[place]:g} threads at work to {asked:g}"
    return _ceiling(rows.loc[place], scale[place], remark)


def _at_row_size(rows: pd.DataFrame, row_bytes: float, active: int, cores: int | None) -> Ceiling:
    """The share of one process at `row_bytes`, between the measured row sizes on logarithmic axes."""
    shares = {size: _share(same, active, cores) for size, same in rows.groupby("row_bytes")}
    sizes = np.log(list(shares))
    rates = np.log([(share.value, share.low, share.high) for share in shares.values()])
    value, low, high = (float(np.exp(np.interp(math.log(row_bytes), sizes, column))) for column in rates.T)
    nearest = shares[min(shares, key=lambda size: abs(math.log(size / row_bytes)))]
    return Ceiling(value, nearest.unit, nearest.source, nearest.method, low, high)
