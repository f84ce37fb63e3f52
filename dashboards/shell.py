"""The frame around every page: header with the run picker, navigation, the URL and the clock of running runs."""

from collections.abc import Sequence
from itertools import groupby

import dash_mantine_components as dmc
from dash import dcc, html
from dash.development.base_component import Component

from dashboards.components.controls import control_id
from dashboards.entry import RunEntry
from dashboards.page import Page
from dashboards.view import RUN

REFRESH_MS = 3000
# What did not end well is red.
_STATUS_COLORS = {"complete": "teal", "running": "blue", "interrupted": "yellow"}
_THEME = {"primaryColor": "indigo", "defaultRadius": "sm", "fontSizes": {"sm": "13px", "xs": "12px"}}


def layout() -> Component:
    """The empty frame; the callbacks of `app` fill it from the URL."""
    brand = dmc.Anchor("recsys-workbench", href="/", className="brand", underline="never")
    answer = dcc.Loading(
        html.Div(id="answer"), target_components={"answer": "children"}, delay_show=500,
        custom_spinner=dmc.Paper(dmc.Text("Loading ...", size="sm"), className="loading", shadow="sm"),
        overlay_style={"visibility": "visible", "opacity": 0.4},
    )  # fmt: skip
    heading = dmc.Group([dmc.Title(id="question", order=1), dmc.Group(id="subject", gap="xs")])
    page = dmc.Stack([heading, html.Div(id="controls"), answer], gap="sm")
    shell = dmc.AppShell(
        [
            dmc.AppShellHeader(dmc.Group([brand, html.Div(id="picker")], h="100%", px="md", justify="space-between")),
            dmc.AppShellNavbar(html.Div(id="navigation"), p="xs"),
            dmc.AppShellMain(page),
        ],
        header={"height": 48},
        navbar={"width": 176, "breakpoint": "sm"},
        padding="md",
    )
    invisible = [
        dcc.Location(id="url", refresh="callback-nav"),
        dcc.Interval(id="refresh", interval=REFRESH_MS, disabled=True),
        dcc.Store(id="shown"),
    ]
    return dmc.MantineProvider([*invisible, shell], theme=_THEME, forceColorScheme="light")


def picker(names: Sequence[str], chosen: str | None, named: bool, link: str) -> Component:
    """All runs, the chosen one selected, and its link to copy. `named`: the URL names it (else it is the newest)."""
    select = dmc.Select(
        id=control_id(RUN, "" if named else chosen),
        value=chosen, data=list(names), placeholder="no run",
        searchable=True, allowDeselect=False, nothingFoundMessage="no such run", size="xs", w=380,
    )  # fmt: skip
    copy = dmc.CopyButton(value=link, children="Copy link", copiedChildren="Copied", size="xs", variant="default")
    return dmc.Group([dmc.Text("Run", className="control-label"), select, copy], gap="xs")


def subject(entry: RunEntry) -> list[Component | str]:
    """The run that the page is about."""
    color = _STATUS_COLORS.get(entry.status, "red")
    return [entry.name, dmc.Badge(entry.status, color=color, variant="light", size="sm", radius="sm")]


def navigation(pages: Sequence[Page], path: str, search: str) -> list[Component]:
    """A link to each page, which keeps the chosen run, below the name of the page's group."""
    shown = []
    for group, members in groupby(pages, key=lambda page: page.group):
        if group:
            shown.append(dmc.Text(group, className="navigation-group"))
        shown += [dmc.NavLink(label=page.title, href=page.path + search, active=path == page.path) for page in members]
    return shown
