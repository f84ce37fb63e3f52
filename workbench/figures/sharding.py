"""Stacked bars: what each rank, or each of the costliest shards, was predicted to cost, what was measured as a mark;
or the bytes on the wire of every scheme."""

import pandas as pd
import plotly.graph_objects as go

from workbench.analyses.core.result import Result
from workbench.figures import theme

_PARTS = {
    "lookup_ns": ("lookup", theme.BLUE),
    "update_ns": ("update", theme.GREEN),
    "communication_ns": ("communication", theme.VERMILLION),
}
_SENT = {
    "input_bytes": ("lookups", theme.GREY),
    "forward_bytes": ("pooled rows", theme.BLUE),
    "backward_bytes": ("gradients", theme.VERMILLION),
    "update_bytes": ("sums of squares of columns", theme.GREEN),
}
_MIB = 2**20


def sharding(result: Result) -> go.Figure:
    """Draw the table of `analyses.sharding`, whichever rows it has."""
    if "sent_bytes" in result.table:
        return _sent(result.table)
    table, subtitle = theme.first_rows(result.table)
    by_shard = "scheme" in table
    rows = list(range(len(table)))
    scale, unit = theme.time_unit(table["predicted_ns"])
    fig = go.Figure()
    for column, (name, colour) in _PARTS.items():
        fig.add_bar(
            name=name, orientation="h", x=table[column] / scale, y=rows, marker_color=colour,
            hovertemplate=f"{name}: %{{x:.4g}} {unit}<extra></extra>",
        )  # fmt: skip
    if not by_shard:
        fig.add_scatter(
            name="lookup and update, measured", x=table["measured_ns"] / scale, y=rows, mode="markers",
            marker={"symbol": "line-ns", "size": 18, "line": {"width": 3, "color": theme.INK}},
            hovertemplate=f"measured: %{{x:.4g}} {unit}<extra></extra>",
        )  # fmt: skip
        fig.add_vline(table["predicted_ns"].mean() / scale, line={"color": theme.FADED, "dash": "dash"})
        imbalance = f"slowest rank over the mean (dashed): {result.summary['max_over_mean']:.3f}"
        subtitle = ", ".join(filter(None, [imbalance, subtitle]))
        names = [f"rank {rank}" for rank in table["rank"]]
    else:
        names = [f"{theme.label(row.table)} · {row.scheme} · rank {row.rank}" for row in table.itertuples()]
    title = "What each shard costs its rank" if by_shard else "What sharding puts on each rank"
    fig.update_layout(title={"text": title, "subtitle": {"text": subtitle}})
    fig.update_xaxes(title=f"predicted cost of a step [{unit}]", rangemode="tozero")
    return theme.name_rows(fig, names)


def _sent(table: pd.DataFrame) -> go.Figure:
    fig = go.Figure()
    for column, (name, colour) in _SENT.items():
        fig.add_bar(
            name=name, orientation="h", x=table[column] / _MIB, y=list(range(len(table))), marker_color=colour,
            hovertemplate=f"{name}: %{{x:.4g}} MiB<extra></extra>",
        )  # fmt: skip
    fig.update_layout(title={"text": "What ranks send to each other in a step, by scheme"})
    fig.update_xaxes(title="bytes to other ranks, sum over ranks [MiB]", rangemode="tozero")
    return theme.name_rows(fig, table["scheme"])
