"""Studies: what papers ask, what came out here, and the figures of the one that was chosen."""

import shlex
from datetime import datetime

import dash_mantine_components as dmc
from dash.development.base_component import Component

from dashboards import view
from dashboards.components import text
from dashboards.components.definitions import explained
from dashboards.components.figure import figure_card
from dashboards.components.table import result_table
from dashboards.guard import guarded
from dashboards.page import Page, Query, only_filter
from dashboards.runs import RunsFolder
from workbench import registry, studies
from workbench.studies.core.curves import draw
from workbench.studies.core.folder import Written, latest

STUDY = "study"  # the word of the URL that names the chosen one
_FIRST_COLUMNS = ("quantity", "ours", "low", "high", "unit", "source", "paper", "verdict")
_COLORS = {"reproduced": "teal", "not_reproduced": "red", "inconclusive": "yellow", "not_testable": "gray"}


def _answer(folder: RunsFolder, query: Query) -> Component:
    """A card a study with the counts of its newest result, and below them the table and figures of the chosen one."""
    written = latest(folder.path)
    cards = [_card(folder, name, written.get(name), query) for name in studies.names()]
    chosen = [guarded(_detail, written, query)] if STUDY in query else []
    return dmc.Stack([*cards, *chosen], gap="sm")


def _card(folder: RunsFolder, name: str, written: Written | None, query: Query) -> Component:
    parts = [dmc.Text(name, className="card-title"), dmc.Text(studies.question(name), size="sm")]
    if written is None:
        command = f"workbench study {name} --traces {shlex.quote(str(folder.path))}"
        parts += [dmc.Text("No result yet. This makes one in some minutes:", size="sm"), dmc.Code(command, block=True)]
    else:
        started = datetime.fromtimestamp(written.start_ns / 1e9).strftime("%Y-%m-%d %H:%M")
        result = written.result
        about = f"{written.status}, scale {result.scale}, {result.seeds} seeds, {started}, in {written.path.name}"
        search = view.write({**query, STUDY: name})
        link = dmc.Anchor("Show table and figures", href=f"{page.path}{search}", size="sm")
        parts += [_verdicts(result.summary), dmc.Text(about, size="xs", c="dimmed"), link]
    return dmc.Paper(dmc.Stack(parts, gap=6), className="card")


def _verdicts(counts: dict[str, int]) -> Component:
    """One badge a verdict."""
    badges = [
        dmc.Badge(f"{counts[key]} {explained('study', key)[0].lower()}", color=color, variant="light", size="sm")
        for key, color in _COLORS.items()
    ]
    return dmc.Group(badges, gap="xs")


def _detail(written: dict[str, Written], query: Query) -> Component:
    registry.check(query[STUDY], tuple(written), "study with a result")
    result = written[query[STUDY]].result
    name = f"study-{result.name}"
    figures = [
        dmc.GridCol(figure_card(draw(curve), f"{name}-{number}"), span={"base": 12, "lg": 6})
        for number, curve in enumerate(result.curves, start=1)
    ]
    table = result_table(result, name, _FIRST_COLUMNS, query.get(view.FILTER, ""))
    return dmc.Stack([*text.notes(result.notes), table, dmc.Grid(figures, gutter="sm")], gap="sm")


page = Page(
    path="/studies", title="Studies", question="What do papers claim, and what came out here?",
    controls=only_filter, answer=_answer, of_run=False, group="Papers",
)  # fmt: skip
