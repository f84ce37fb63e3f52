"""Three panels, one row a kernel (operator, module, stream): time in all, durations of single calls, short calls."""

import math
import re

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.analyses.core.result import Result
from workbench.figures import theme
from workbench.units import format_ns

_QUANTILES = ["min_ns", "p50_ns", "p95_ns", "max_ns"]
# What half of all kernels begin with says nothing.
_NOISE = re.compile(r"^void |at::native::|\(anonymous namespace\)::")
_MOST_ROWS = 30


def kernels(result: Result) -> go.Figure:
    """Draw the first rows of `analyses.kernels`, which come by total duration."""
    table, subtitle = theme.first_rows(result.table, _MOST_ROWS)
    fig = make_subplots(cols=3, shared_yaxes=True, horizontal_spacing=0.04, column_widths=[0.32, 0.46, 0.22])
    _total(fig, table)
    _spread(fig, table, result.summary["launch_overhead_ns"])
    fig.add_bar(
        name="short calls", orientation="h", x=table["short_share"], y=_places(table), marker_color=theme.FADED,
        hovertemplate="%{x:.1%} of the calls<extra></extra>", showlegend=False, row=1, col=3,
    )  # fmt: skip
    fig.update_xaxes(title="calls shorter than a launch", tickformat=".0%", range=[0, 1], row=1, col=3)
    fig.update_layout(title={"text": "Kernels: time, spread and launches", "subtitle": {"text": subtitle}})
    return theme.legend_below(theme.name_rows(fig, [_row_name(row) for row in table.to_dict("records")], row=1, col=1))


def _total(fig: go.Figure, table: pd.DataFrame) -> None:
    scale, unit = theme.time_unit(table["duration_ns"])
    kinds = table["kind"] if "kind" in table else pd.Series("compute", index=table.index)
    for kind in kinds.unique():
        fig.add_bar(
            name=kind, orientation="h", x=table["duration_ns"].where(kinds == kind) / scale, y=_places(table),
            marker_color=theme.KIND_COLOUR[kind], customdata=table[["calls", "time_share"]], row=1, col=1,
            showlegend="kind" in table,
            hovertemplate=f"%{{x:.4g}} {unit} in %{{customdata[0]:,}} calls, %{{customdata[1]:.1%}}<extra></extra>",
        )  # fmt: skip
    fig.update_xaxes(title=f"duration, summed over calls [{unit}]", row=1, col=1)


def _spread(fig: go.Figure, table: pd.DataFrame, overhead_ns: float) -> None:
    """A thin line from the shortest to the longest call, a thick one from median to 95th percentile."""
    shown = table[_QUANTILES].map(format_ns)
    for name, low, high, width, colour in (
        ("shortest to longest", "min_ns", "max_ns", 1.5, theme.FADED),
        ("median to 95th pct", "p50_ns", "p95_ns", 9, theme.SKY),
    ):
        ends = [value for pair in zip(table[low] / 1e3, table[high] / 1e3, strict=True) for value in (*pair, None)]
        places = [place for row in _places(table) for place in (row, row, None)]
        fig.add_scatter(
            name=name, x=ends, y=places, mode="lines", line={"width": width, "color": colour}, hoverinfo="skip",
            row=1, col=2,
        )  # fmt: skip
    fig.add_scatter(
        name="median", x=table["p50_ns"] / 1e3, y=_places(table), mode="markers", customdata=shown,
        marker={"color": theme.INK, "size": 7}, row=1, col=2,
        hovertemplate="median %{customdata[1]}, 95th percentile %{customdata[2]}, "
                      "from %{customdata[0]} to %{customdata[3]}<extra></extra>",
    )  # fmt: skip
    if not math.isnan(overhead_ns):
        fig.add_scatter(
            name=f"a launch ({format_ns(overhead_ns)})", x=[overhead_ns / 1e3] * 2, y=[-0.5, len(table) - 0.5],
            mode="lines", line={"dash": "dot", "color": theme.VERMILLION}, hoverinfo="skip", row=1, col=2,
        )  # fmt: skip
    fig.update_xaxes(title="duration of a call [µs]", type="log", row=1, col=2)


def _places(table: pd.DataFrame) -> list[int]:
    return list(range(len(table)))


def _row_name(row: dict) -> str:
    if "lane" in row:
        return theme.row_name(row, theme.label(row["device"]), theme.label(row["lane"]))
    doubt = f" · {row['source']}" if row["source"] != "measured" else ""
    name = next(row[key] for key in ("name", "operator", "module") if key in row)
    return theme.label(_NOISE.sub("", name), 48) + doubt
