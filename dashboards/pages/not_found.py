"""Every other path."""

import dash_mantine_components as dmc
from dash.development.base_component import Component

from dashboards.page import Page, Query
from dashboards.runs import RunsFolder


def _controls(folder: RunsFolder, query: Query) -> Component:
    return dmc.Anchor("Go to the runs", href="/", size="sm")


def _answer(folder: RunsFolder, query: Query) -> Component:
    return dmc.Box()


page = Page(path="", title="Not found", question="404: there is no such page", controls=_controls, answer=_answer)
