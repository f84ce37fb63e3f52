"""A figure of a study as data, and the one function that draws it."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_BARS = {"bar": "group", "stack": "stack"}  # style -> how bars of one x stand
_DASHES = ("solid", "dash", "dot", "dashdot")  # of lines one after the other: where two coincide, both are seen


@dataclass(frozen=True, kw_only=True)
class Curve:
    """`table` has one dict a point, in the order of drawing; `x`, `y` and `colour` are its columns and name the axes.

    A column `low` with `high` is drawn as error bars, a column `label` stands beside the points of a scatter. `source`
    says how the values are known; where values of `colour` are known in different ways, a column `source` says how each
    is. `paper` has points of the paper in the same columns, which are drawn apart: sourced ones only.
    """

    title: str
    table: list[dict[str, Any]]
    x: str
    y: str
    source: Literal["measured", "modelled", "simulated"]
    colour: str = ""
    style: Literal["line", "bar", "stack", "scatter"] = "line"
    log_x: bool = False
    log_y: bool = False
    paper: list[dict[str, Any]] | None = None


def draw(curve: Curve) -> "Figure":
    """The figure of `curve`, in the common look: one colour a value of the column `colour`, the paper's in black."""
    # Imported here: tables need no plotly.
    import plotly.graph_objects as go

    from workbench.figures import theme

    fig = go.Figure()
    names = dict.fromkeys(point.get(curve.colour, "ours") for point in curve.table)
    # A request's parts have their colours in every figure.
    colours = theme.REQUEST_PART_COLOUR if names.keys() <= theme.REQUEST_PART_COLOUR.keys() else {}
    for name in names:
        points = [point for point in curve.table if point.get(curve.colour, "ours") == name]
        how = f" · {points[0]['source']}" if "source" in points[0] else ""
        _add(fig, curve, points, name=theme.label(name) + how, marker={"color": colours.get(name)})
    if curve.paper:
        shape = {} if curve.style in _BARS else {"symbol": "diamond-open", "size": 11}
        _add(fig, curve, curve.paper, name="the paper", marker={"color": theme.BLACK, **shape})
    fig.update_xaxes(title=theme.label(curve.x), type="log" if curve.log_x else None)
    fig.update_yaxes(title=theme.label(curve.y), type="log" if curve.log_y else None, exponentformat="power")
    if curve.style in _BARS:
        fig.update_xaxes(type="category")
    elif curve.style == "line":  # few values, each with its own tick
        ticks = sorted({point[curve.x] for point in curve.table})
        fig.update_xaxes(tickvals=ticks, ticktext=[f"{tick:,.4g}" for tick in ticks])
    if curve.log_y:
        fig.update_yaxes(dtick=1)
        if curve.style in _BARS:  # whole decades: nobody takes the smallest value for none
            fig.update_yaxes(range=_decades([point[curve.y] for point in curve.table]))
    else:
        fig.update_yaxes(rangemode="tozero")
    sources = dict.fromkeys(point.get("source", curve.source) for point in curve.table)
    title = {"text": theme.label(curve.title, 100), "subtitle": {"text": " and ".join(sources)}}
    # Beside the plot, a legend of any length leaves title and labels alone.
    legend = {"orientation": "v", "x": 1.02, "xanchor": "left", "y": 1, "yanchor": "top"}
    return theme.finish(fig.update_layout(title=title, legend=legend, height=440, barmode=_BARS.get(curve.style)))


def _add(fig: "Figure", curve: Curve, points: list[dict], name: str, **look: Any) -> None:
    """One trace of `points`."""
    from workbench.figures import theme

    x, y = ([point[axis] for point in points] for axis in (curve.x, curve.y))
    if "low" in points[0]:
        low, high = ([point[end] for point in points] for end in ("low", "high"))
        above, below = ([_distance(*pair) for pair in zip(ends, y, strict=True)] for ends in (high, low))
        look["error_y"] = {"type": "data", "symmetric": False, "array": above, "arrayminus": below}
    if curve.style in _BARS:
        fig.add_bar(x=[theme.label(value) for value in x], y=y, name=name, **look)
        return
    mode = {"line": "lines+markers", "scatter": "markers"}[curve.style]
    if curve.style == "line":
        look["line"] = {"dash": _DASHES[len(fig.data) % len(_DASHES)]}
    if any("label" in point for point in points):
        mode += "+text"
        look |= {"text": [theme.label(point.get("label", "")) for point in points], "textposition": _above_or_below(x)}
    fig.add_scatter(x=x, y=y, name=name, mode=mode, **look)


def _above_or_below(x: list[float]) -> list[str]:
    """Where each point's label stands: neighbours' on different sides."""
    by_x = sorted(range(len(x)), key=x.__getitem__)
    return [f"{('top', 'bottom')[by_x.index(place) % 2]} center" for place in range(len(x))]


def _decades(values: list[float]) -> list[int]:
    """Exponents of the powers of 10 around `values`; the lower one is below the least of them."""
    return [math.ceil(math.log10(min(values))) - 1, math.ceil(math.log10(max(values)))]


def _distance(end: float | None, value: float) -> float | None:
    """How far an error bar reaches; one sample has none (NaN, which JSON keeps as null)."""
    return None if end is None else abs(end - value)
