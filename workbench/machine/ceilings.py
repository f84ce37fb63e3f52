"""Ceilings as data: one row a measured (or promised) limit, with look-ups that say what they found and how sure it is.

`measure/` fills them on this machine; `promised.toml` holds vendors' figures. A look-up that finds nothing returns
None: an unknown device has no roof.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd

from workbench.errors import InputError

CEILINGS_VERSION = 1
COLUMNS = (
    "kind", "name", "device", "tier", "precision", "cores", "active", "row_bytes", "working_set_bytes", "collective",
    "backend", "group_size", "message_bytes", "unit", "value", "median", "min", "max", "repeats", "method", "source",
)  # fmt: skip


@dataclass(frozen=True)
class Ceiling:
    """One limit. `value` (in `unit`) is the 90th percentile of the repeats, or the vendor's figure."""

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
        if device == "cpu":
            exact = rows if cores is None else rows[rows["cores"] == cores]
            if len(exact) == 0:  # between one core and all: one core's rate times the number, at most all cores' rate
                one, every = rows.nsmallest(1, "cores").iloc[0], rows.nlargest(1, "cores").iloc[0]
                value = min(one["value"] * cores / one["cores"], every["value"])
                return Ceiling(value, one["unit"], one["source"], f"{one['method']}, scaled to {cores} cores")
            rows = exact.nlargest(1, "cores")
        return _ceiling(rows.iloc[0])

    def bandwidth(
        self, tier: str, name: str = "triad", active: int = 1, cores: int | None = None, device: str = "cpu"
    ) -> Ceiling | None:
        """Bytes/s that one process sustains from `tier` with access pattern `name` (read, write, copy, triad) while
        `active` processes do the same. Where that count was not measured, the nearest measured one shares equally."""
        rows = self._rows(kind="bandwidth", tier=tier, name=name, device=device)
        if cores is not None and (rows["cores"] == cores).any():
            rows = rows[rows["cores"] == cores]
        return _nearest_active(rows, active)

    def gather(
        self, tier: str, row_bytes: float, footprint_bytes: float | None = None, active: int = 1, device: str = "cpu"
    ) -> Ceiling | None:
        """Moved bytes/s (whole 64 B lines) of random row reads of `row_bytes` from a working set in `tier`.

        Interpolates between measured row sizes on logarithmic axes; takes the working set nearest to
        `footprint_bytes`, since translation misses slow a large one.
        """
        rows = self._rows(kind="gather", tier=tier, device=device)
        if len(rows) == 0:
            return None
        if footprint_bytes is not None:
            distance = np.abs(np.log(rows["working_set_bytes"] / footprint_bytes))
            rows = rows[distance == distance.min()]
        counts = rows["active"].unique()
        nearest = min(counts, key=lambda count: (abs(count - active), count))
        rows = rows[rows["active"] == nearest].sort_values("row_bytes")
        scale = min(1.0, nearest / active)
        sizes = np.log(rows["row_bytes"].to_numpy(float))
        values = [
            float(np.exp(np.interp(math.log(row_bytes), sizes, np.log(rows[column].to_numpy(float))))) * scale
            for column in ("value", "min", "max")
        ]
        return Ceiling(values[0], "B/s", rows["source"].iloc[0], rows["method"].iloc[0], values[1], values[2])

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
        for column in ("median", "min", "max"):
            times = rows[column].to_numpy(float)
            beyond = message_bytes > sizes[-1]
            found.append(times[-1] * message_bytes / sizes[-1] if beyond else np.interp(message_bytes, sizes, times))
        return Ceiling(float(found[0]), "ns", rows["source"].iloc[0], rows["method"].iloc[0], *map(float, found[1:]))

    def tiers(self, device: str = "cpu") -> list[tuple[str, float]]:
        """(tier, capacity in bytes) of the memory levels of `device`, nearest first; the last has infinite capacity."""
        return [(level["tier"], float(level["capacity_bytes"] or math.inf)) for level in self.about["levels"][device]]

    def dumps(self) -> bytes:
        """As the bytes of machine.json."""
        rows = [
            {key: value for key, value in row.items() if value == value and value not in ("", None)}
            for row in self.table.to_dict("records")
        ]
        return msgspec.json.format(msgspec.json.encode({"version": CEILINGS_VERSION, **self.about, "ceilings": rows}))

    @classmethod
    def from_rows(cls, rows: list[dict], about: dict) -> "Ceilings":
        """From records with some of COLUMNS."""
        table = pd.DataFrame(rows, columns=list(COLUMNS))
        text = ["kind", "name", "device", "tier", "precision", "collective", "backend", "unit", "method", "source"]
        table[text] = table[text].astype("object").fillna("")
        numbers = [column for column in COLUMNS if column not in text]
        table[numbers] = table[numbers].astype(float)
        table["device"] = table["device"].replace("", "cpu")
        return cls(table, about)

    @classmethod
    def read(cls, path: Path) -> "Ceilings":
        """From a machine.json; an InputError when it is none."""
        try:
            about = msgspec.json.decode(Path(path).read_bytes())
            rows = about.pop("ceilings")
        except (msgspec.DecodeError, KeyError, AttributeError, TypeError):
            raise InputError(f"{path} holds no ceilings: expected what `workbench machine` writes") from None
        if about.get("version") != CEILINGS_VERSION:
            raise InputError(f"{path} has ceilings of version {about.get('version')}, this workbench reads {CEILINGS_VERSION}")
        return cls.from_rows(rows, about)

    def _rows(self, **equal: object) -> pd.DataFrame:
        rows = self.table
        for column, value in equal.items():
            rows = rows[rows[column] == value]
        return rows


def _ceiling(row: pd.Series, scale: float = 1.0) -> Ceiling:
    return Ceiling(
        row["value"] * scale, row["unit"], row["source"], row["method"], row["min"] * scale, row["max"] * scale
    )


def _nearest_active(rows: pd.DataFrame, active: int) -> Ceiling | None:
    """The row measured with `active` processes; else the nearest count, its total shared among `active`."""
    if len(rows) == 0:
        return None
    counts = rows["active"].fillna(1)
    row = rows.loc[(counts - active).abs().idxmin()]
    measured = row["active"] if row["active"] == row["active"] else 1
    return _ceiling(row, min(1.0, measured / active))
