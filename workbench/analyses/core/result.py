"""What every analysis returns: a table, a summary and notes; shows itself in a notebook, turns into JSON."""

import html
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from workbench.metrics import define
from workbench.units import format_value

_NOT_APPLICABLE = "not applicable:"
WITHOUT_TIMES = (
    "an execution trace has no times, only an order: load the profile of the same run, and give this to it "
    "(--execution-trace)"
)


@dataclass
class Result:
    """`table`: one row a thing, columns with units in their names. `summary`: figures of the whole. `notes`: what a
    reader must know first (coverage, sampling, why it does not apply)."""

    analysis: str
    table: pd.DataFrame = field(default_factory=pd.DataFrame)
    summary: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def applies(self) -> bool:
        """False when the analysis has nothing to say about this run; `reason` says why."""
        return not self.reason

    @property
    def reason(self) -> str:
        """The note that says why this does not apply, or nothing."""
        return next((note for note in self.notes if note.startswith(_NOT_APPLICABLE)), "")

    @property
    def shown(self) -> dict[str, Any]:
        """The summary without its lists, which figures draw."""
        return {key: value for key, value in self.summary.items() if not isinstance(value, list)}

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: {"analysis", "summary", "rows", "notes"}; NaN and infinities are None."""
        rows = [{str(k): plain(v) for k, v in row.items()} for row in self.table.to_dict("records")]
        return {"analysis": self.analysis, "summary": plain(self.summary), "rows": rows, "notes": list(self.notes)}

    def _repr_html_(self) -> str:
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self.notes)
        summary = "".join(
            f"<tr><th style='text-align:left' title='{html.escape(self._tooltip(k), quote=True)}'>{html.escape(k)}</th>"
            f"<td style='text-align:left'>{html.escape(format_value(k, v))}</td></tr>"
            for k, v in self.shown.items()
        )
        table = self.table.to_html(index=False, max_rows=20, float_format="{:.4g}".format, na_rep="-")
        return f"<h4>{html.escape(self.analysis)}</h4><table>{summary}</table><ul>{notes}</ul>{table}"

    def __repr__(self) -> str:
        lines = [f"{self.analysis}: {len(self.table)} rows"]
        lines += [f"  {key} = {format_value(key, value)}" for key, value in self.shown.items()]
        return "\n".join(lines + [f"  note: {note}" for note in self.notes])

    def _tooltip(self, key: str) -> str:
        definition = define(self.analysis, key)
        return definition.text if definition else ""


def not_applicable(analysis: str, why: str) -> Result:
    """The answer of an analysis that does not apply: no rows, and the reason (exit code 0)."""
    return Result(analysis, notes=[f"{_NOT_APPLICABLE} {why}"])


def plain(value: Any) -> Any:
    """`value` in the types JSON has."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
