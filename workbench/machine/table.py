"""Ceilings as a table for people: what, how much, how sure; measured beside promised."""

import pandas as pd

from workbench.machine.ceilings import Ceilings
from workbench.machine.promised import promised
from workbench.units import format_bytes, format_decimal, format_ns

_KINDS = ("compute", "bandwidth", "gather", "latency", "collective", "overhead")
_TIERS = ("", "l1", "l2", "l3", "dram", "hbm", "pcie", "nvlink", "ssd", "network")
_FIGURES = ("value", "median", "min", "max")
_SHOWN_ROW_BYTES = (64, 256)
_SHOWN_OPERATORS = ("aten::add", "aten::mm", "aten::embedding_bag", "aten::sort")
_DISTURBED_SHARE = 0.05


def summary_table(ceilings: Ceilings) -> pd.DataFrame:
    """The main ceilings for people: what, value, median, min, max (with units), repeats, method, source.

    What the vendor promises for the machine's device stands beside what was measured; without such a promise a row
    says so. What was left out follows with the reason, and whether other work disturbed the measurement.
    """
    promises = _promises(ceilings)
    table = _coarse(pd.concat([ceilings.table, *promises], ignore_index=True))
    order = table.assign(kind=table["kind"].map(_KINDS.index), tier=table["tier"].map(_TIERS.index))
    order = order.sort_values(["kind", "device", "tier", "precision", "collective", "source"], kind="stable")
    rows = [_row(row) for row in table.loc[order.index].to_dict("records")]
    if not promises:
        rows.append(_remark("promised roof", f"no vendor's figure is known for {_device_name(ceilings)}"))
    rows += [_remark(what, f"left out: {reason}") for what, reason in ceilings.about.get("left_out", {}).items()]
    if ceilings.about.get("others_share", 0) > _DISTURBED_SHARE:
        share = ceilings.about["others_share"]
        rows.append(_remark("disturbed", f"other work took up to {share:.0%} of the processors: these may be too low"))
    return pd.DataFrame(rows)


def _coarse(table: pd.DataFrame) -> pd.DataFrame:
    """Without what only analyses need: sweeps, fits, one core's part among all, sizes and operators in between."""
    kind, sizes = table["kind"], table.groupby(["collective", "group_size"])["message_bytes"]
    ends = (table["message_bytes"] == sizes.transform("min")) | (table["message_bytes"] == sizes.transform("max"))
    alone = ~(table["active"] > 1) | (table["tier"] == "ssd")
    keep = (
        (kind == "compute")
        | ((kind == "bandwidth") & alone & ((table["name"] != "triad_write_allocate") | (table["tier"] == "dram")))
        | ((kind == "gather") & alone & table["row_bytes"].isin(_SHOWN_ROW_BYTES))
        | (kind == "latency")
        | ((kind == "collective") & ends)
        | ((kind == "overhead") & table["name"].isin(_SHOWN_OPERATORS))
    )
    return table[keep]


def _promises(ceilings: Ceilings) -> list[pd.DataFrame]:
    """The promised rows of the first GPU, if there is one and it is known."""
    gpus = ceilings.about.get("host", {}).get("gpus", [])
    known = promised(gpus[0]["name"], memory_bytes=gpus[0]["memory_bytes"]) if gpus else None
    return [known.table] if known else []


def _device_name(ceilings: Ceilings) -> str:
    host = ceilings.about.get("host", {})
    return host["gpus"][0]["name"] if host.get("gpus") else host.get("cpu_model", "this machine")


def _row(row: dict) -> dict:
    figures = {name: _pretty(row[name], row["unit"]) for name in _FIGURES}
    repeats = "-" if row["repeats"] != row["repeats"] else f"{row['repeats']:.0f}"
    return {"what": _what(row), **figures, "repeats": repeats, "method": row["method"], "source": row["source"]}


def _remark(what: str, text: str) -> dict:
    return {"what": what, **dict.fromkeys((*_FIGURES, "repeats"), "-"), "method": text, "source": ""}


def _what(row: dict) -> str:
    """The ceiling in words: 'cpu bandwidth dram triad, 2 active'."""
    words = [row[key] for key in ("device", "kind", "tier", "precision", "collective", "backend", "name") if row[key]]
    details = [
        f"{row['row_bytes']:.0f} B rows" if row["row_bytes"] == row["row_bytes"] else "",
        format_bytes(row["message_bytes"]) if row["message_bytes"] == row["message_bytes"] else "",
        f"of {format_bytes(row['working_set_bytes'])}" if row["kind"] == "gather" else "",
        f"{row['group_size']:.0f} ranks" if row["group_size"] == row["group_size"] else "",
        f"{row['cores']:.0f} cores" if row["cores"] > 1 else "",
        f"{row['active']:.0f} active" if row["active"] > 1 else "",
    ]
    return ", ".join([" ".join(words), *filter(None, details)])


def _pretty(value: float, unit: str) -> str:
    if value != value:
        return "-"
    return format_ns(value) if unit == "ns" else format_decimal(value, unit)
