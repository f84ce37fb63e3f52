"""Overview: what ran, how fast, and where to look next."""

import json
from functools import partial

import dash_mantine_components as dmc
import pandas as pd
from dash import html
from dash.development.base_component import Component

from dashboards import view
from dashboards.advice import advice
from dashboards.components import text
from dashboards.components.definitions import explained
from dashboards.components.figure import figure_card
from dashboards.components.table import frame_grid, table_card
from dashboards.entry import RunEntry
from dashboards.guard import guarded
from dashboards.headline import HEADERS
from dashboards.page import Page, Query, only_filter, path_of
from dashboards.runs import RunsFolder
from workbench.analyses.core.result import Result
from workbench.figures import figure
from workbench.units import format_value

_KEY_FIGURES = (
    "step_p50_ns", "step_p95_ns", "samples_per_s", "mfu_share", "compute_pct", "communication_pct", "host_pct",
)  # fmt: skip
_ANALYSES = ("time", "roofline", "communication", "latency")  # the quick ones
_OPERATORS = 8
_OPERATOR_COLUMNS = ["name", "shapes", "duration_per_step_ns", "time_share", "bound", "headroom_share"]


def _answer(folder: RunsFolder, query: Query) -> Component:
    """The table of runs, and below it the one that `query` names (else the newest)."""
    entries = folder.entries()
    if not entries:
        return text.no_run_yet(folder.path)
    chosen = query.get(view.RUN, entries[0].name)
    table = guarded(_runs_table, folder, entries, chosen, query.get(view.FILTER, ""))
    return dmc.Stack([table, guarded(_detail, folder, chosen)], gap="sm")


def _runs_table(folder: RunsFolder, entries: list[RunEntry], chosen: str, filter_text: str) -> Component:
    frame = pd.DataFrame([folder.headline(entry) for entry in entries], columns=list(HEADERS), dtype="object")
    grid = frame_grid(frame, "runs", HEADERS.get, filter_text, chosen)
    return table_card(f"{len(entries):,} runs in {folder.path}, newest first", grid, "runs")


def _detail(folder: RunsFolder, chosen: str) -> Component:
    """What the run did on the left; what to know of that, and what it was, on the right."""
    entry = folder.choose(chosen)
    results = {name: folder.analyze(entry, name) for name in _ANALYSES}
    did = [
        *_failure(entry),
        *_advice(results, entry.name),
        *_time(results["time"], entry.name),
        *_operators(results["roofline"], entry.name),
    ]
    was = [*text.notes(results["time"].notes), _facts(entry)]
    left = dmc.GridCol(dmc.Stack(did, gap="sm"), span={"base": 12, "lg": 8})
    right = dmc.GridCol(dmc.Stack(was, gap="sm"), span={"base": 12, "lg": 4})
    return dmc.Grid([left, right], gutter="sm")


def _time(result: Result, run: str) -> list[Component]:
    if not result.applies:
        return [text.does_not_apply(result)]
    return [text.key_figures(result, _KEY_FIGURES), figure_card(figure(result), f"{run}-time")]


def _operators(result: Result, run: str) -> list[Component]:
    if not result.applies:
        return []
    top = result.table.nlargest(_OPERATORS, "duration_ns")[_OPERATOR_COLUMNS]
    name = f"{run}-top-operators"
    return [table_card("Top operators by time", frame_grid(top, name, partial(explained, "roofline")), name)]


def _failure(entry: RunEntry) -> list[Component]:
    error = entry.manifest.get("error")
    return [text.message("This run failed", str(error), color="red")] if error else []


def _advice(results: dict[str, Result], run: str) -> list[Component]:
    search = view.write({view.RUN: run})
    lines = []
    for name, sentence in advice(results):
        link = dmc.Anchor("Show", href=path_of(name) + search, size="sm")
        lines.append(dmc.ListItem([sentence, " ", link]))
    title = dmc.Text("Where to look next", className="card-title")
    return [dmc.Paper([title, dmc.List(lines, size="sm")], className="card")] if lines else []


def _facts(entry: RunEntry) -> Component:
    manifest, host = entry.manifest, entry.manifest.get("host", {})
    facts = {
        "machine": host.get("cpu_model"),
        "cores": host.get("cores"),
        "memory": host.get("memory_bytes") and format_value("_bytes", host["memory_bytes"]),
        "devices": ", ".join(gpu["name"] for gpu in host.get("gpus", ())) or None,
        "ranks": manifest.get("ranks"),
        "threads a rank": manifest.get("threads_per_rank"),
        "samples a step": manifest.get("samples_per_step"),
        "seed": manifest.get("seed"),
        "code": manifest.get("code_revision"),
        **host.get("packages", {}),
    }
    rows = [
        dmc.TableTr([dmc.TableTd(name, className="fact"), dmc.TableTd(str(value))])
        for name, value in facts.items()
        if value not in (None, "")
    ]
    config = dmc.Code(json.dumps(manifest.get("config", {}), indent=1), block=True)
    parts = [
        dmc.Text("What it was", className="card-title"),
        dmc.Table(dmc.TableTbody(rows), verticalSpacing=3, className="facts"),
        html.Details([html.Summary("Configuration"), config], className="configuration"),
    ]
    return dmc.Paper(parts, className="card")


page = Page(path="/", title="Overview", question="What ran, and how fast?", controls=only_filter, answer=_answer)
