"""Stacked bars: the parts of each rank's, step's or lane's time; or the time that each cause kept a stream idle."""

import pandas as pd
import plotly.graph_objects as go

from workbench.analyses.core.result import Result
from workbench.analyses.core.rows import NO_OPERATOR
from workbench.figures import theme

_CAUSE_COLOUR = {"host": theme.GREEN, "kernel": theme.BLUE, "collective": theme.VERMILLION, "other": theme.GREY}


def time(result: Result) -> go.Figure:
    """Draw the table of `analyses.time`, whichever rows it has."""
    if "cause" in result.table:
        return _idle(*theme.first_rows(result.table, theme.MAX_LARGEST))
    return _parts(*theme.first_rows(result.table))


def _parts(table: pd.DataFrame, subtitle: str) -> go.Figure:
    scale, unit = theme.time_unit(table["window_ns"])
    fig = go.Figure()
    for part, colour in theme.PART_COLOUR.items():
        share = table[f"{part}_pct"]
        fig.add_bar(
            name=part, orientation="h", x=table[f"{part}_ns"] / scale, y=list(range(len(table))), marker_color=colour,
            customdata=share, text=[f"{pct:.1f} %" if pct >= 4 else "" for pct in share], textposition="inside",
            insidetextanchor="middle", textangle=0,
            hovertemplate=f"{part}: %{{x:.4g}} {unit} (%{{customdata:.2f}} %)<extra></extra>",
        )  # fmt: skip
    fig.update_layout(title={"text": "Where the time goes", "subtitle": {"text": subtitle}})
    fig.update_xaxes(title=f"time of the sampled steps [{unit}]")
    return theme.name_rows(fig, [_row_name(row) for row in table.to_dict("records")])


def _idle(table: pd.DataFrame, subtitle: str) -> go.Figure:
    scale, unit = theme.time_unit(table["idle_ns"])
    fig = go.Figure()
    for cause, colour in _CAUSE_COLOUR.items():
        fig.add_bar(
            name=cause, orientation="h", x=table["idle_ns"].where(table["cause"] == cause) / scale,
            y=list(range(len(table))), marker_color=colour, customdata=table[["gaps", "idle_share"]],
            hovertemplate=f"%{{x:.4g}} {unit} in %{{customdata[0]}} gaps, %{{customdata[1]:.1%}} of all<extra></extra>",
        )  # fmt: skip
    fig.update_layout(title={"text": "Why streams stood still", "subtitle": {"text": subtitle}})
    fig.update_xaxes(title=f"idle time between two events of a stream [{unit}]")
    return theme.name_rows(fig, [_row_name(row, _blamed(row)) for row in table.to_dict("records")])


def _blamed(row: dict) -> str:
    """Who took the time, and before which operator where nobody did."""
    before = f" before {row['before_operator']}" if row["name"] == NO_OPERATOR and row["before_operator"] else ""
    return theme.label(row["name"] + before)


def _row_name(row: dict, *more: str) -> str:
    where = [f"step {row['step']}"] if "step" in row else [theme.label(row["lane"])] if "lane" in row else []
    return theme.row_name(row, *where, *more)
