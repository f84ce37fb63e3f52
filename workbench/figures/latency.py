"""Stacked bars, one row a percentile or request: its time end to end, its embedded portion, and the servers' CPU time.

Shards become bars of what their calls were outstanding for; the tail, bars of what the slowest requests have more of.
"""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.analyses.core.request_parts import CPU_PARTS, EMBEDDED_PARTS, PARTS
from workbench.analyses.core.result import Result
from workbench.figures import theme

_PANELS = {
    "end to end": {part: f"{part}_ns" for part in PARTS},
    "embedded portion": {part: f"embedded_{part}_ns" for part in EMBEDDED_PARTS},
    "CPU of all servers": {part: f"cpu_{part}_ns" for part in CPU_PARTS},
}


def latency(result: Result) -> go.Figure:
    """Draw the table of `analyses.latency`, whichever rows it has."""
    table, subtitle = theme.first_rows(result.table)
    if "excess_ns" in table:
        return _tail(table, subtitle)
    return _shards(table, subtitle) if "calls" in table else _stacks(table, subtitle)


def _stacks(table: pd.DataFrame, subtitle: str) -> go.Figure:
    fig = make_subplots(cols=len(_PANELS), shared_yaxes=True, horizontal_spacing=0.04, subplot_titles=list(_PANELS))
    named = set()
    for column, parts in enumerate(_PANELS.values(), start=1):
        scale, unit = theme.time_unit(table[list(parts.values())].sum(axis=1))
        for part, key in parts.items():
            fig.add_bar(
                name=part, legendgroup=part, showlegend=part not in named, orientation="h", x=table[key] / scale,
                y=list(range(len(table))), marker_color=theme.REQUEST_PART_COLOUR[part], row=1, col=column,
                hovertemplate=f"{part}: %{{x:.4g}} {unit}<extra></extra>",
            )  # fmt: skip
            named.add(part)
        fig.update_xaxes(title=f"time a request [{unit}]", row=1, col=column)
    fig.update_layout(title={"text": "What a request's time goes into", "subtitle": {"text": subtitle}})
    return theme.legend_below(theme.name_rows(fig, [_row_name(row) for row in table.to_dict("records")], row=1, col=1))


def _shards(table: pd.DataFrame, subtitle: str) -> go.Figure:
    parts = {"sparse": table["sparse_ns"], "service": table["shard_ns"] - table["sparse_ns"]}
    parts["network"] = table["network_ns"]
    scale, unit = theme.time_unit(table["outstanding_ns"])
    fig = go.Figure()
    for part, values in parts.items():
        fig.add_bar(
            name=part, orientation="h", x=values / scale, y=list(range(len(table))),
            marker_color=theme.REQUEST_PART_COLOUR[part], customdata=table[["calls", "bounding_share"]],
            hovertemplate=(
                f"{part}: %{{x:.4g}} {unit}, mean of %{{customdata[0]}} calls; waited for last in "
                "%{customdata[1]:.0%}<extra></extra>"
            ),
        )  # fmt: skip
    fig.update_layout(title={"text": "Sparse shards: a call's mean time", "subtitle": {"text": subtitle}})
    fig.update_xaxes(title=f"outstanding at the main shard [{unit}]")
    return theme.name_rows(fig, [theme.label(name) for name in table["shard"]])


def _tail(table: pd.DataFrame, subtitle: str) -> go.Figure:
    scale, unit = theme.time_unit(table["excess_ns"])
    fig = go.Figure()
    fig.add_bar(
        orientation="h", x=table["excess_ns"] / scale, y=list(range(len(table))), marker_color=theme.VERMILLION,
        customdata=table[["tail_ns", "rest_ns"]] / scale,
        hovertemplate=f"%{{customdata[0]:.4g}} {unit} in the tail, %{{customdata[1]:.4g}} in the rest<extra></extra>",
    )  # fmt: skip
    fig.update_layout(title={"text": "What the slowest 1 % have more of", "subtitle": {"text": subtitle}})
    fig.update_xaxes(title=f"mean in the slowest requests - mean in the others [{unit}]")
    return theme.name_rows(fig, [theme.label(part) for part in table["part"]])


def _row_name(row: dict) -> str:
    doubt = "" if row["source"] == "measured" else f" · {row['source']}"
    return (f"request {row['step']}" if "step" in row else f"P{row['percentile']:g}") + doubt
