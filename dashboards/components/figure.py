"""A figure in a card, with PNG export under a name that says what it shows."""

import dash_mantine_components as dmc
from dash import dcc
from dash.development.base_component import Component
from plotly.graph_objects import Figure

from workbench.figures.theme import CONFIG

_HEIGHT = 460


def figure_card(figure: Figure, name: str) -> Component:
    """`figure` at its own height; the camera in its toolbar saves `<name>.png`."""
    export = {**CONFIG["toImageButtonOptions"], "filename": name}
    config = {**CONFIG, "toImageButtonOptions": export, "modeBarButtonsToRemove": ["select2d", "lasso2d"]}
    height = figure.layout.height or _HEIGHT
    graph = dcc.Graph(figure=figure, config=config, id={"type": "figure", "name": name}, style={"height": height})
    return dmc.Paper(graph, className="card")
