"""One look for every figure: template, colours with a fixed meaning, rows with names, unit scaling, empty states.

Colours are Okabe and Ito's eight, which stay apart for colour-blind readers. Event names are text from a trace: they
pass `label`, which shortens and escapes them, since plotly reads HTML.
"""

import html
from collections.abc import Iterable

import pandas as pd
import plotly.graph_objects as go

BLUE, ORANGE, GREEN, VERMILLION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, YELLOW, BLACK = "#CC79A7", "#56B4E9", "#F0E442", "#000000"
GREY, FADED, INK = "#C8C8C8", "#666666", "#222222"

PART_COLOUR = {"compute": BLUE, "communication": VERMILLION, "copy": ORANGE, "host": GREEN, "idle": GREY}
KIND_COLOUR = {
    "compute": BLUE, "memory": ORANGE, "communication": VERMILLION, "storage": PURPLE, "serialization": YELLOW,
    "wait": GREY, "runtime": GREEN, "span": SKY,
}  # fmt: skip
TIER_COLOUR = {"l1": SKY, "l2": GREEN, "l3": BLUE, "dram": VERMILLION, "hbm": VERMILLION}
REQUEST_PART_COLOUR = {
    "dense": BLUE, "embedded": VERMILLION, "sparse": GREEN, "network": PURPLE, "serialization": ORANGE, "service": SKY,
    "scheduling": YELLOW, "outside": FADED, "unaccounted": GREY,
}  # fmt: skip
SOURCE_COLOUR = {"measured": BLUE, "modelled": PURPLE, "simulated": SKY}

# A page with more bars than this helps nobody, and freezes a notebook. Rows that come by size need fewer.
MAX_ROWS, MAX_LARGEST = 60, 25
_LABEL_CHARACTERS = 56
# What `fig.show(config=CONFIG)` and `dcc.Graph(config=CONFIG)` take: exports sharp enough for a paper.
CONFIG = {"displaylogo": False, "responsive": True, "toImageButtonOptions": {"format": "png", "scale": 3}}

_FONT = "Inter, Segoe UI, Helvetica, Arial, sans-serif"
_AXIS = {
    "showgrid": True, "gridcolor": "#ECECEC", "linecolor": "#999999", "ticks": "outside", "zeroline": False,
    "automargin": True, "title": {"standoff": 12},
}  # fmt: skip
TEMPLATE = go.layout.Template(
    layout={
        "font": {"family": _FONT, "size": 13, "color": INK},
        "title": {"x": 0, "xref": "paper", "font": {"size": 17}, "subtitle": {"font": {"size": 12, "color": FADED}}},
        "paper_bgcolor": "white", "plot_bgcolor": "white",
        "colorway": [BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, BLACK, YELLOW],
        "xaxis": _AXIS, "yaxis": _AXIS,
        "legend": {
            "orientation": "h", "traceorder": "normal", "yanchor": "bottom", "y": 1.0, "xanchor": "right", "x": 1.0,
        },
        "hoverlabel": {"font": {"family": _FONT}, "align": "left"},
        "margin": {"t": 76, "r": 24, "b": 56, "l": 24},
        "bargap": 0.25,
    }
)  # fmt: skip


def finish(fig: go.Figure) -> go.Figure:
    """The figure in the common look; zoom and hidden traces survive an update (`uirevision`)."""
    return fig.update_layout(template=TEMPLATE, uirevision="workbench")


def message(text: str) -> go.Figure:
    """An empty figure that says why it is empty."""
    fig = go.Figure().update_xaxes(visible=False).update_yaxes(visible=False)
    return finish(fig.add_annotation(text=html.escape(text), showarrow=False, font={"size": 15}))


def label(text: object, characters: int = _LABEL_CHARACTERS) -> str:
    """Text from a trace, fit for a label: the end of a long one cut, HTML escaped."""
    shown = str(text)
    return html.escape(shown if len(shown) <= characters else shown[: characters - 1] + "…")


def row_name(row: dict, *more: str) -> str:
    """What tells a row from the others: rank (or process), more words, and its source where it is not measured."""
    who = f"rank {row['rank']}" if row["rank"] >= 0 else label(row["process"])
    doubt = [row["source"]] if row.get("source", "measured") != "measured" else []
    return " · ".join([who, *more, *doubt])


def name_rows(fig: go.Figure, names: Iterable[str], **where: int) -> go.Figure:
    """Names (already through `label`) on the y axis of bars drawn at y = 0, 1, 2..., the first on top. Positions and
    not names place the bars, for two rows may read alike."""
    names = list(names)
    fig.update_layout(height=180 + 26 * max(len(names), 4), barmode="stack")
    # Beside markers and lines an automatic range would leave empty rows; panels to the right share the names.
    fig.update_yaxes(range=[len(names) - 0.5, -0.5], ticks="", showticklabels=False)
    return fig.update_yaxes(
        tickvals=list(range(len(names))), ticktext=names, ticks="outside", showticklabels=True, **where
    )


def legend_below(fig: go.Figure) -> go.Figure:
    """A legend of many entries, which beside the title would cover it."""
    legend = {"yref": "container", "y": 0.0, "yanchor": "bottom", "xref": "paper", "x": 0.0, "xanchor": "left"}
    return fig.update_layout(legend=legend, margin={"b": 112}, height=fig.layout.height + 56)


def first_rows(table: pd.DataFrame, most: int = MAX_ROWS) -> tuple[pd.DataFrame, str]:
    """What a figure draws of a table, and a subtitle that says so where it is not all."""
    if len(table) <= most:
        return table, ""
    return table.head(most), f"the first {most} of {len(table):,} rows"


def time_unit(values_ns: Iterable[float]) -> tuple[float, str]:
    """(ns in the unit, unit) in which the largest of the values reads well."""
    return _unit(values_ns, ((1e9, "s"), (1e6, "ms"), (1e3, "µs")), (1.0, "ns"))


def rate_unit(values_per_s: Iterable[float], unit: str) -> tuple[float, str]:
    """(base units in the unit, unit) with a decimal prefix, such as (1e9, 'GB/s')."""
    prefixes = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
    return _unit(values_per_s, tuple((size, prefix + unit) for size, prefix in prefixes), (1.0, unit))


def _unit(
    values: Iterable[float], units: tuple[tuple[float, str], ...], smallest: tuple[float, str]
) -> tuple[float, str]:
    largest = pd.Series(list(values), dtype="float64").abs().max()
    return next(((size, unit) for size, unit in units if largest >= size), smallest)
