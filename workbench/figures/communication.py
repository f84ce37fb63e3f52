"""Two panels, one row a collective and rank: its bus bandwidth against the ceiling, and what its time went into.

A matrix of who sends how much to whom becomes a heat map.
"""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.analyses.core.result import Result
from workbench.figures import theme

# Without all ranks a duration cannot be split; it is drawn whole.
_SPLIT = {"transfer_ns": ("transfer", theme.BLUE), "wait_ns": ("wait for the last rank", theme.VERMILLION)}


def communication(result: Result) -> go.Figure:
    """Draw the table of `analyses.communication`, whichever rows it has."""
    return _matrix(result.table) if "to_rank" in result.table else _bars(result.table)


def _matrix(table: pd.DataFrame) -> go.Figure:
    sent, links = (table.pivot(index="from_rank", columns="to_rank", values=name) for name in ("bytes", "link"))
    fig = go.Figure(
        go.Heatmap(
            z=sent.to_numpy(), x=[f"rank {rank}" for rank in sent.columns], y=[f"rank {rank}" for rank in sent.index],
            colorscale="Cividis", colorbar={"title": {"text": "bytes"}, "tickformat": ".3s"},
            customdata=links.to_numpy(), hovertemplate="%{y} to %{x}: %{z:.4s}B, %{customdata}<extra></extra>",
        )
    )  # fmt: skip
    fig.update_xaxes(title="to").update_yaxes(title="from", autorange="reversed")
    return fig.update_layout(title={"text": "All-to-alls: who sends how much to whom"})


def _bars(table: pd.DataFrame) -> go.Figure:
    table, subtitle = theme.first_rows(table)
    rows = list(range(len(table)))
    fig = make_subplots(cols=2, shared_yaxes=True, horizontal_spacing=0.04)
    rate, rate_unit = theme.rate_unit([*table["busbw_bytes_per_s"], *table["ceiling_bytes_per_s"]], "B/s")
    fig.add_bar(
        name="bus bandwidth", orientation="h", x=table["busbw_bytes_per_s"] / rate, y=rows, marker_color=theme.SKY,
        customdata=table["efficiency_share"], row=1, col=1,
        hovertemplate=f"%{{x:.4g}} {rate_unit}, %{{customdata:.1%}} of the ceiling<extra></extra>",
    )  # fmt: skip
    fig.add_scatter(
        name="ceiling at this size and group", x=table["ceiling_bytes_per_s"] / rate, y=rows, mode="markers",
        marker={"symbol": "line-ns", "size": 18, "line": {"width": 3, "color": theme.INK}}, row=1, col=1,
        customdata=table["ceiling_source"], hovertemplate=f"%{{x:.4g}} {rate_unit}, %{{customdata}}<extra></extra>",
    )  # fmt: skip
    scale, unit = theme.time_unit(table["duration_ns"])
    whole = table["duration_ns"].where(table["wait_ns"].isna())
    for name, colour, values in [
        *((name, colour, table[column]) for column, (name, colour) in _SPLIT.items()),
        ("not split: ranks are missing", theme.GREY, whole),
    ]:
        fig.add_bar(
            name=name, orientation="h", x=values / scale, y=rows, marker_color=colour, row=1, col=2,
            hovertemplate=f"{name}: %{{x:.4g}} {unit}<extra></extra>",
        )  # fmt: skip
    fig.add_scatter(
        name="duration", x=table["duration_ns"] / scale, y=rows, mode="markers", row=1, col=2,
        marker={"symbol": "line-ns", "size": 18, "line": {"width": 2, "color": theme.GREEN}},
        hovertemplate=f"duration: %{{x:.4g}} {unit}<extra></extra>",
    )  # fmt: skip
    fig.update_xaxes(rangemode="tozero")
    fig.update_xaxes(title=f"bus bandwidth [{rate_unit}]", row=1, col=1)
    fig.update_xaxes(title=f"time, summed over calls [{unit}]", row=1, col=2)
    fig.update_layout(title={"text": "Collectives: bandwidth and waiting", "subtitle": {"text": subtitle}})
    return theme.legend_below(theme.name_rows(fig, [_row_name(row) for row in table.to_dict("records")], row=1, col=1))


def _row_name(row: dict) -> str:
    what = [f"{theme.label(row['collective'])} of {row['group_size']}"] if "collective" in row else []
    when = [f"step {row['step']}"] if "step" in row else []
    # A single call needs no group to be told from the others.
    named = "process_group" in row and (row["process_group"] or not when)
    group = [f"group {theme.label(row['process_group'] or 'unknown')}"] if named else []
    link = [row["link"]] if "link" in row and "process_group" not in row else []
    return theme.row_name(row, *what, *group, *link, *when)
