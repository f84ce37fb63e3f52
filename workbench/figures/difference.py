"""Bars of the largest changes per step between two runs: what grew to the right, what shrank to the left."""

import plotly.graph_objects as go

from workbench.analyses.core.result import Result
from workbench.figures import theme
from workbench.units import format_ns

_STATUS_COLOUR = {
    "grew": theme.VERMILLION, "appeared": theme.ORANGE, "shrank": theme.BLUE, "vanished": theme.SKY, "same": theme.GREY,
}  # fmt: skip
_LARGEST = 25


def difference(result: Result) -> go.Figure:
    """Draw the first rows of `analyses.difference`, which come by size of change."""
    table, summary = result.table.head(_LARGEST), result.summary
    scale, unit = theme.time_unit(table["delta_ns"])
    fig = go.Figure()
    for status, colour in _STATUS_COLOUR.items():
        fig.add_bar(
            name=status, orientation="h", x=table["delta_ns"].where(table["status"] == status) / scale,
            y=list(range(len(table))), marker_color=colour,
            customdata=table[["duration_a_ns", "duration_b_ns"]].map(format_ns),
            hovertemplate="%{customdata[0]} → %{customdata[1]} a step<extra></extra>",
        )  # fmt: skip
    a, b = format_ns(summary["step_a_ns"]), format_ns(summary["step_b_ns"])
    steps = f"a step took {a} in a, {b} in b ({summary['change_pct']:+.1f} %)"
    shown = f"; the {len(table)} largest of {len(result.table):,} changes" if len(table) < len(result.table) else ""
    fig.update_layout(title={"text": "What changed from a to b", "subtitle": {"text": steps + shown}})
    fig.update_xaxes(title=f"change of time per step [{unit}]", zeroline=True, zerolinecolor=theme.INK)
    return theme.name_rows(fig, [_row_name(row) for row in table.to_dict("records")])


def _row_name(row: dict) -> str:
    shapes = f" {theme.label(row['shapes'], 28)}" if row.get("shapes") else ""
    doubt = f" · {row['source']}" if row["source"] != "measured" else ""
    return theme.label(row["name"], 44) + shapes + doubt
