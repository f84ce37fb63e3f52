"""Memory tiers as bars (bytes and time), tables as bars of hit shares, software caches as miss-ratio curves."""

import math

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.analyses.core.result import Result
from workbench.figures import theme
from workbench.units import format_bytes

CURVES = {
    "lookup_miss_share": ("per lookup, LRU", theme.BLUE, "solid"),
    "unique_row_miss_share": ("per unique row, LRU", theme.VERMILLION, "solid"),
    "cold_share_per_lookup": ("cold, per lookup", theme.BLUE, "dot"),
    "cold_share_per_unique_row": ("cold, per unique row", theme.VERMILLION, "dot"),
    "simulated_lru_miss_share": ("per unique row, 32-way LRU, simulated", theme.ORANGE, "dash"),
    "simulated_lfu_miss_share": ("per unique row, 32-way LFU, simulated", theme.GREEN, "dash"),
    "simulated_fifo_miss_share": ("per unique row, 32-way FIFO, simulated", theme.PURPLE, "dash"),
}
# Of one table, with its four bars; of more tables than MAX_TABLES nobody compares bars.
ROW_PIXELS, MAX_TABLES = 36, 20
SHARES = {
    "lookup_hit_share": ("hits per lookup", theme.BLUE),
    "unique_row_hit_share": ("hits per unique row", theme.VERMILLION),
    "hot_row_share": ("lookups of the hottest 1 % of rows", theme.ORANGE),
    "memory_share": ("lookups served by memory", theme.GREY),
}
CACHE_SHARES = {
    "replayed_lookup_hit_share": ("per lookup, replayed", theme.BLUE),
    "measured_lookup_hit_share": ("per lookup, measured", theme.VERMILLION),
    "replayed_unique_row_hit_share": ("per unique row, replayed", theme.ORANGE),
    "measured_unique_row_hit_share": ("per unique row, measured", theme.GREEN),
}


def memory_tiers(result: Result) -> go.Figure:
    """Draw the table of `analyses.memory_tiers`, whichever rows it has."""
    if "replayed_lookup_hit_share" in result.table:
        return _caches(result.table)
    if "capacity_rows" in result.table:
        return _curve(result.table, result.summary)
    if "table" in result.table:
        return _tables(result.table, result.summary)
    return _operators(result.table) if "operator" in result.table else _tiers(result.table)


def _operators(table: pd.DataFrame) -> go.Figure:
    """The operators with the most bytes, one bar each."""
    table, subtitle = theme.first_rows(table, theme.MAX_LARGEST)
    fig = _tiers(table.rename(columns={"operator": "phase"}))
    known = fig.layout.title.subtitle.text
    subtitle = ", ".join(filter(None, [known, subtitle]))
    return fig.update_layout(title={"text": "Memory traffic by operator", "subtitle": {"text": subtitle}})


def _tiers(table: pd.DataFrame) -> go.Figure:
    """Left bytes, right time; one bar a phase (or one for all), its pieces the tiers."""
    table = table.assign(phase=table.get("phase", "all operators"))
    phases = list(dict.fromkeys(table["phase"]))
    scale, unit = theme.time_unit(table.groupby("phase")["time_ns"].sum())
    fig = make_subplots(cols=2, shared_yaxes=True, horizontal_spacing=0.04)
    for tier in dict.fromkeys(table["tier"]):
        rows = table[table["tier"] == tier]
        places = [phases.index(phase) for phase in rows["phase"]]
        style = {"name": theme.label(tier), "legendgroup": tier, "orientation": "h", "y": places,
                 "marker_color": theme.TIER_COLOUR.get(tier, theme.GREY)}  # fmt: skip
        moved = rows["read_bytes"] + rows["write_bytes"]
        fig.add_bar(
            **style, x=moved / 2**20, customdata=[[format_bytes(r), format_bytes(w)] for r, w in
                                                  zip(rows["read_bytes"], rows["write_bytes"], strict=True)],
            hovertemplate=f"{theme.label(tier)}: %{{customdata[0]}} served, %{{customdata[1]}} written<extra></extra>",
            row=1, col=1,
        )  # fmt: skip
        fig.add_bar(
            **style, x=rows["time_ns"] / scale, showlegend=False, row=1, col=2,
            hovertemplate=f"{theme.label(tier)}: %{{x:.4g}} {unit}<extra></extra>",
        )  # fmt: skip
    fig.update_xaxes(title="bytes served and written [MiB]", row=1, col=1)
    took = "time of the copies" if (table["source"] == "measured").all() else "time at the tier's bandwidth"
    fig.update_xaxes(title=f"{took} [{unit}]", row=1, col=2)
    fig.update_layout(
        title={"text": "Memory traffic by tier", "subtitle": {"text": " and ".join(dict.fromkeys(table["source"]))}}
    )
    return theme.name_rows(fig, map(theme.label, phases), row=1, col=1)


def _tables(table: pd.DataFrame, summary: dict) -> go.Figure:
    """Shares side by side, the tables with the most lookups on top."""
    table, subtitle = theme.first_rows(table, MAX_TABLES)
    fig = go.Figure()
    for column, (name, colour) in SHARES.items():
        fig.add_bar(
            name=name, orientation="h", x=table[column], y=list(range(len(table))), marker_color=colour,
            hovertemplate=f"{name}: %{{x:.2%}}<extra></extra>",
        )  # fmt: skip
    cache = f"software cache of {summary['cache_rows']:,} rows ({format_bytes(summary['cache_bytes'])}) a rank"
    fig.update_layout(
        title={"text": "Embedding tables", "subtitle": {"text": ", ".join(filter(None, [cache, subtitle]))}}
    )
    fig.update_xaxes(title="share", tickformat=".0%", range=[0, 1])
    names = [f"{theme.label(row.table)} · rank {row.rank}" for row in table.itertuples()]
    theme.name_rows(fig, names)
    return fig.update_layout(barmode="group", height=180 + ROW_PIXELS * max(len(names), 5))


def _caches(table: pd.DataFrame) -> go.Figure:
    """Hit shares of each rank's row cache: replayed beside measured."""
    fig = go.Figure()
    for column, (name, colour) in CACHE_SHARES.items():
        fig.add_bar(
            name=name, orientation="h", x=table[column], y=list(range(len(table))), marker_color=colour,
            hovertemplate=f"{name}: %{{x:.2%}}<extra></extra>",
        )  # fmt: skip
    fig.update_xaxes(title="hits / accesses", tickformat=".0%", range=[0, 1])
    fig.update_layout(title={"text": "Row caches", "subtitle": {"text": "replayed from the accesses, and measured"}})
    names = [
        f"rank {row.rank} · {row.capacity_rows:,} rows, {row.policy} over {row.backing}" for row in table.itertuples()
    ]
    theme.name_rows(fig, names)
    return fig.update_layout(barmode="group", height=180 + 60 * max(len(names), 3))


def _curve(table: pd.DataFrame, summary: dict) -> go.Figure:
    """Miss ratios by capacity, with the capacities of the machine's own levels as vertical lines."""
    fig = go.Figure()
    for column, (name, colour, dash) in CURVES.items():
        fig.add_scatter(
            name=name, x=table["capacity_bytes"], y=table[column], mode="lines+markers", marker={"size": 5},
            line={"color": colour, "dash": dash}, customdata=table["capacity_rows"],
            hovertemplate=f"{name}: %{{y:.2%}} at %{{customdata:,}} rows<extra></extra>",
        )  # fmt: skip
    for tier in summary["tiers"]:
        if math.isfinite(tier["capacity_bytes"]):
            text = f"{theme.label(tier['tier'])} {format_bytes(tier['capacity_bytes'])}"
            # A shape on a logarithmic axis stands at the value, its annotation at the logarithm.
            fig.add_vline(tier["capacity_bytes"], line={"color": theme.GREY, "dash": "dash"})
            fig.add_annotation(x=math.log10(tier["capacity_bytes"]), y=1.0, yref="paper", text=text, showarrow=False,
                               xanchor="left", yanchor="bottom", font={"size": 11, "color": theme.FADED})  # fmt: skip
    fig.update_xaxes(title="capacity of the software cache, a rank [B]", type="log", tickformat="~s")
    fig.update_yaxes(title="misses / accesses", tickformat=".0%", range=[0, 1])
    reach = f"the sample speaks up to {summary['supported_rows']:,} rows"
    return fig.update_layout(
        height=560, legend={"y": -0.2, "yanchor": "top"},
        title={"text": "Miss ratio by capacity", "subtitle": {"text": f"modelled and simulated; {reach}"}},
    )  # fmt: skip
