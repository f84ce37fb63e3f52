"""Memory as lines over time with the peak marked, as bars of peaks (by phase or device), or as bars of who holds it."""

from itertools import cycle

import pandas as pd
import plotly.graph_objects as go

from workbench.analyses.core.result import Result
from workbench.figures import theme
from workbench.units import format_bytes

_MIB = 2**20
_PEAKS = {"peak_reserved_bytes": ("reserved", theme.GREY), "peak_allocated_bytes": ("allocated", theme.BLUE)}


def memory(result: Result) -> go.Figure:
    """Draw the table of `analyses.memory`, whichever rows it has."""
    if "after_ns" in result.table:
        return _over_time(result.table)
    table, subtitle = theme.first_rows(result.table)
    return _holders(table, subtitle) if "held_bytes" in table else _peaks(table, subtitle)


def _over_time(table: pd.DataFrame) -> go.Figure:
    """A line breaks where nobody recorded."""
    scale, unit = theme.time_unit(table["after_ns"])
    fig = go.Figure()
    colours = cycle(theme.TEMPLATE.layout.colorway)
    for (_, rows), colour in zip(table.groupby(["rank", "process", "device"], sort=False), colours, strict=False):
        where = theme.row_name(rows.iloc[0].to_dict(), theme.label(rows["device"].iloc[0]))
        for column, dash in (("allocated_bytes", "solid"), ("reserved_bytes", "dot")):
            name = f"{where} · {column.removesuffix('_bytes')}"
            for recording, part in rows.dropna(subset=column).groupby("recording"):
                fig.add_scatter(
                    name=name, legendgroup=name, showlegend=bool(recording == rows["recording"].iloc[0]), mode="lines",
                    x=part["after_ns"] / scale, y=part[column] / _MIB, customdata=part["phase"].map(theme.label),
                    line={"color": colour, "dash": dash, "shape": "hv"},
                    hovertemplate=f"%{{y:.4g}} MiB after %{{x:.4g}} {unit} %{{customdata}}<extra></extra>",
                )  # fmt: skip
        peak = rows.loc[rows["allocated_bytes"].idxmax()]
        fig.add_scatter(
            name=f"{where} · peak", x=[peak["after_ns"] / scale], y=[peak["allocated_bytes"] / _MIB], showlegend=False,
            mode="markers+text", marker={"color": colour, "size": 10, "symbol": "diamond"}, textposition="top center",
            text=[f"peak {format_bytes(peak['allocated_bytes'])}"], hoverinfo="skip",
        )  # fmt: skip
    fig.update_layout(title={"text": "Memory over time"}, height=460)
    fig.update_xaxes(title=f"time since the first change [{unit}]")
    return fig.update_yaxes(title="memory [MiB]", rangemode="tozero")


def _peaks(table: pd.DataFrame, subtitle: str) -> go.Figure:
    """What is reserved behind what is allocated of it."""
    fig, places = go.Figure(), list(range(len(table)))
    for column, (name, colour) in _PEAKS.items():
        fig.add_bar(
            name=f"peak {name}", orientation="h", x=table[column] / _MIB, y=places, marker_color=colour,
            width=0.7 if name == "reserved" else 0.4, customdata=table[column].map(format_bytes),
            hovertemplate=f"peak {name}: %{{customdata}}<extra></extra>",
        )  # fmt: skip
    fig.update_layout(title={"text": "Peak memory", "subtitle": {"text": subtitle}})
    fig.update_xaxes(title="memory [MiB]", rangemode="tozero")
    named = theme.name_rows(fig, [_row_name(row) for row in table.to_dict("records")])
    return named.update_layout(barmode="overlay")


def _holders(table: pd.DataFrame, subtitle: str) -> go.Figure:
    fig = go.Figure()
    fig.add_bar(
        orientation="h", x=table["held_bytes"] / _MIB, y=list(range(len(table))), marker_color=theme.BLUE,
        customdata=pd.DataFrame({"bytes": table["held_bytes"].map(format_bytes), "share": table["held_share"]}),
        hovertemplate="%{customdata[0]}, %{customdata[1]:.1%} of the peak<extra></extra>",
    )  # fmt: skip
    fig.update_layout(title={"text": "Who holds the memory at its peak", "subtitle": {"text": subtitle}})
    fig.update_xaxes(title="held at the peak [MiB]", rangemode="tozero")
    return theme.name_rows(fig, [_row_name(row, theme.label(row["name"], 44)) for row in table.to_dict("records")])


def _row_name(row: dict, *more: str) -> str:
    phase = [theme.label(row["phase"])] if row.get("phase") else []
    return theme.row_name(row, theme.label(row["device"]), *phase, *more)
