"""What a page is, and the page that most are: one analysis with its controls."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import dash_mantine_components as dmc
from dash.development.base_component import Component

from dashboards import view
from dashboards.components import text
from dashboards.components.controls import controls, filter_control
from dashboards.components.figure import figure_card
from dashboards.components.table import result_table
from dashboards.options import options_of
from dashboards.runs import RunsFolder
from workbench.figures import figure

Query = Mapping[str, str]
Keys = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Page:
    """`controls` and `answer` make components of the folder and what the URL says (its query); the shell puts the
    question above, and beside it the chosen run where the page is about one (`of_run`). Neighbours of one `group` stand
    below its name in the navigation."""

    path: str
    title: str
    question: str
    controls: Callable[[RunsFolder, Query], Component]
    answer: Callable[[RunsFolder, Query], Component]
    of_run: bool = True
    group: str = ""


def analysis_page(analysis: str, *, group: str, question: str, key_figures: Keys, first_columns: Keys = ()) -> Page:
    """A page that answers with `analysis`: notes, key figures, figure, table, always in that order; a control for each
    of its options.

    `key_figures` are keys of its summary, and `first_columns` keys of its rows that stand before the others.
    """
    return Page(
        path=path_of(analysis), title=analysis.replace("_", " ").capitalize(), question=question, group=group,
        controls=partial(_controls, analysis), answer=partial(_answer, analysis, key_figures, first_columns),
    )  # fmt: skip


def path_of(analysis: str) -> str:
    """Where the page of `analysis` is."""
    return f"/{analysis.replace('_', '-')}"


def only_filter(_: RunsFolder, query: Query) -> Component:
    """The controls of a page without options."""
    return filter_control(query)


def _controls(analysis: str, folder: RunsFolder, query: Query) -> Component:
    return controls(options_of(analysis).values(), query, [entry.name for entry in folder.entries()])


def _answer(analysis: str, key_figures: Keys, first_columns: Keys, folder: RunsFolder, query: Query) -> Component:
    entry = folder.choose(query.get(view.RUN))
    if entry is None:
        return text.no_run_yet(folder.path)
    options = view.options(query)
    result = folder.analyze(entry, analysis, options)
    if not result.applies:
        return text.does_not_apply(result)
    # Of the files that are saved: what was looked at.
    name = "-".join([entry.name, analysis, *options.values()])
    parts = [
        *text.notes(result.notes),
        text.key_figures(result, key_figures),
        figure_card(figure(result), name),
        result_table(result, name, first_columns, query.get(view.FILTER, "")),
    ]
    return dmc.Stack(parts, gap="sm")
