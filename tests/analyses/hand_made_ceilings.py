"""Machines written by hand, with round numbers."""

from workbench.machine.ceilings import Ceilings


def ceilings(rows: list[dict], levels: dict, source: str = "measured") -> Ceilings:
    """Ceilings of `rows` (kind, value and what tells them apart); `levels` are those of `about`."""
    rest = {"source": source, "method": "by hand"}
    rows = [rest | row | {"min": row["value"], "max": row["value"]} for row in rows]
    return Ceilings.from_rows(rows, {"levels": levels})
