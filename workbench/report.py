"""One HTML file with every breakdown that applies: it opens anywhere, offline, and can be mailed."""

import time
from collections.abc import Sequence
from pathlib import Path

import jinja2
import pandas as pd
from plotly.graph_objects import Figure
from plotly.offline import get_plotlyjs

from workbench.analyses import analyze, names
from workbench.analyses.core.result import Result
from workbench.errors import InputError
from workbench.figures import figure
from workbench.metrics import define
from workbench.trace.run import Run
from workbench.units import format_row, format_value

_ROWS = 40
_FACTS = (
    "workload",
    "preset",
    "status",
    "seed",
    "ranks",
    "threads_per_rank",
    "samples_per_step",
    "parameters",
    "revision",
)


def write_report(run: Run, out: Path | None = None) -> Path:
    """Write the report of `run` to `out` (default: `report.html` in the run's folder, or `<trace>.report.html` here
    for a user's own trace, whose folder is not ours); returns the path."""
    out = out or (run.path / "report.html" if run.directories else Path(f"{run.name}.report.html"))
    results = [analyze(run, name) for name in names()]
    sections = [section(result, [figure(result)]) for result in results if result.applies]
    left_out = [f"{result.analysis}: {result.reason}" for result in results if not result.applies]
    write_page(
        "report.html", out, title=run.name, facts=_facts(run), sections=sections, left_out=left_out,
        machine=_machine(run),
    )  # fmt: skip
    return out


def section(result: Result, figures: Sequence[Figure], rows: int = _ROWS) -> dict:
    """What templates show of a result: notes, summary, figures, and the first `rows` of its table."""
    return {
        "name": result.analysis,
        "notes": list(dict.fromkeys(result.notes)),
        "summary": [(key, format_value(key, value), _tooltip(result, key)) for key, value in _scalars(result.summary)],
        "figures": [_html(figure) for figure in figures],
        "columns": [(column, _tooltip(result, column)) for column in result.table.columns],
        "rows": _rows(result.table.head(rows)),
        "more": max(0, len(result.table) - rows),
    }


def write_page(template: str, out: Path, **values: object) -> None:
    """Fill `templates/<template>` and write it, self-contained, to `out`, whole or not at all."""
    # Event names, paths and notes come from traces: everything is escaped unless the template says otherwise.
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True)
    written = time.strftime("%Y-%m-%d %H:%M")
    html = environment.get_template(template).render(plotly_js=get_plotlyjs(), written=written, **values)
    scratch = out.with_name(f".{out.name}.part")
    try:
        scratch.write_text(html)
        scratch.replace(out)
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}; choose another file with --out") from None


def _html(figure: Figure) -> str:
    return figure.to_html(include_plotlyjs=False, full_html=False, config={"displaylogo": False})


def _rows(table: pd.DataFrame) -> list[list[str]]:
    return [list(format_row(row).values()) for row in table.to_dict("records")]


def _scalars(summary: dict) -> list[tuple[str, object]]:
    """Nested values belong to figures."""
    return [(key, value) for key, value in summary.items() if not isinstance(value, (list, dict))]


def _tooltip(result: Result, key: str) -> str:
    definition = define(result.analysis, str(key))
    return definition.text if definition else ""


def _facts(run: Run) -> list[tuple[str, str]]:
    return [(key, str(run.manifest[key])) for key in _FACTS if run.manifest.get(key) is not None]


def _machine(run: Run) -> list[tuple[str, str]]:
    """The main roofs, with how they are known."""
    if run.ceilings is None:
        return []
    table = run.ceilings.table
    top = table[table["kind"].isin(["compute", "bandwidth"])]
    top = top[(top["kind"] == "compute") | (top["name"].isin(["triad", ""]) & ~(top["active"] > 1))]
    shown = []
    for row in top.to_dict("records"):
        what = " ".join(str(row[key]) for key in ("device", "precision", "tier") if row[key])
        cores = f", {row['cores']:.0f} cores" if row["cores"] == row["cores"] else ""
        shown.append(
            (f"{what}{cores}", f"{format_value('x_' + _unit_key(row['unit']), row['value'])} ({row['source']})")
        )
    return shown


def _unit_key(unit: str) -> str:
    return {"B/s": "bytes_per_s", "FLOP/s": "flops_per_s"}.get(unit, "")
