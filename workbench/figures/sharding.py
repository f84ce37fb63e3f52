"""Stacked bars: what each rank, or each of the costliest shards, was predicted to cost; what was measured as a mark."""

import plotly.graph_objects as go

from workbench.analyses.core.result import Result
from workbench.figures import theme

_PARTS = {
    "lookup_ns": ("lookup", theme.BLUE),
    "update_ns": ("update", theme.GREEN),
    "communication_ns": ("communication", theme.VERMILLION),
}


def sharding(result: Result) -> go.Figure:
    """Draw the table of `analyses.sharding`, by rank or by shard."""
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
        imbalance = f"slowest rank over the mean: {result.summary['max_over_mean']:.3f}"
        subtitle = ", ".join(filter(None, [imbalance, subtitle]))
        names = [f"rank {rank}" for rank in table["rank"]]
    else:
        names = [f"{theme.label(row.table)} · {row.scheme} · rank {row.rank}" for row in table.itertuples()]
    fig.update_layout(title={"text": "What sharding puts on each rank", "subtitle": {"text": subtitle}})
    fig.update_xaxes(title=f"predicted cost of a step [{unit}]", rangemode="tozero")
    return theme.name_rows(fig, names)
