"""The roofline: every operator against the machine's ceilings, on logarithmic axes.

Left, operators with FLOPs by intensity and achieved FLOP/s, under the bandwidths of the memory tiers and the peaks of
the precisions. Right, operators without FLOPs by the bytes of a call and achieved bandwidth.
"""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.analyses.core.result import Result
from workbench.figures import theme
from workbench.units import format_decimal, format_value

BOUND_COLOUR = {
    "compute": theme.BLUE, "memory": theme.GREEN, "overhead": theme.PURPLE, "inefficient": theme.VERMILLION,
    "unknown": theme.FADED,
}  # fmt: skip
ROOF_DASH = {"compute": "solid", "bandwidth": "solid", "gather": "dot"}
# Those with the most time: more would only darken one corner.
MAX_POINTS = 300
# Diameters in pixels: of the least, and of one that took all the time. Areas are proportional to time.
SMALLEST_MARKER, WHOLE_MARKER = 7, 80


def roofline(result: Result) -> go.Figure:
    """One marker an operator: size by share of the time, colour by what holds it back."""
    drawable = result.table[(result.table["bytes"] > 0) & (result.table["duration_ns"] > 0)]
    table = drawable.nlargest(MAX_POINTS, "duration_ns")
    table = table.assign(call_bytes=table["bytes"] / table["calls"])
    with_flops, without = table[table["flops"] > 0], table[table["flops"] == 0]
    fig = make_subplots(
        cols=2, column_widths=[0.64, 0.36], horizontal_spacing=0.1,
        subplot_titles=["work with FLOPs", "without FLOPs"],
    )  # fmt: skip
    roofs = pd.DataFrame(result.summary["roofs"], columns=["name", "kind", "value", "unit", "source"])
    _draw_roofs(fig, roofs, with_flops["intensity"], without["call_bytes"])
    for bound in BOUND_COLOUR:
        left, right = with_flops[with_flops["bound"] == bound], without[without["bound"] == bound]
        _markers(fig, left, "intensity", "flops_per_s", bound, column=1, in_legend=len(left) > 0)
        _markers(fig, right, "call_bytes", "bytes_per_s", bound, column=2, in_legend=len(left) == 0)
    fig.update_xaxes(type="log").update_yaxes(type="log", tickformat="~s")
    fig.update_xaxes(title="intensity [FLOP/B]", tickformat="~g", row=1, col=1)
    fig.update_yaxes(title="achieved [FLOP/s]", row=1, col=1)
    fig.update_xaxes(title="bytes of a call [B]", tickformat="~s", row=1, col=2)
    fig.update_yaxes(title="achieved [B/s]", row=1, col=2)
    shown = f"the {MAX_POINTS} rows with the most time of {len(drawable):,}" if len(drawable) > len(table) else ""
    return fig.update_layout(
        height=640, legend={"y": -0.14, "yanchor": "top", "x": 0, "xanchor": "left", "itemsizing": "constant"},
        legend2={"orientation": "h", "y": -0.21, "yanchor": "top", "x": 0, "xanchor": "left"},
        title={"text": "Against the roofs of the machine", "subtitle": {"text": shown}},
    )  # fmt: skip


def _draw_roofs(fig: go.Figure, roofs: pd.DataFrame, intensities: pd.Series, call_bytes: pd.Series) -> None:
    """Bandwidths rise to the highest peak, peaks begin at the fastest bandwidth; on the right, bandwidths are level."""
    peaks, bandwidths = roofs[roofs["kind"] == "compute"], roofs[roofs["kind"] != "compute"]
    ridges = [peak / bandwidth for peak in peaks["value"] for bandwidth in bandwidths["value"]]
    low, high = _span([*intensities, *ridges])
    for roof in bandwidths.itertuples():
        end = peaks["value"].max() / roof.value if len(peaks) else high
        _line(fig, roof, [low, end], [low * roof.value, end * roof.value], column=1)
        _line(fig, roof, _span(call_bytes), [roof.value, roof.value], column=2)
    for roof in peaks.itertuples():
        start = roof.value / bandwidths["value"].max() if len(bandwidths) else low
        _line(fig, roof, [start, high], [roof.value, roof.value], column=1)


def _line(fig: go.Figure, roof: object, x: list[float], y: list[float], column: int) -> None:
    text = f"{theme.label(roof.name)}: {format_decimal(roof.value, roof.unit)} ({theme.label(roof.source)})"
    tier = str(roof.name).split(" ")[0]
    line = {"color": theme.TIER_COLOUR.get(tier, theme.INK), "width": 2, "dash": ROOF_DASH[roof.kind]}
    # Roofs lie close together, so their names stand in a legend of their own rather than on the lines.
    fig.add_scatter(
        x=x, y=y, mode="lines", line=line, name=text, legend="legend2", legendgroup=str(roof.name),
        showlegend=column == 1, hovertemplate=f"{text}<extra></extra>", row=1, col=column,
    )  # fmt: skip


def _markers(fig: go.Figure, rows: pd.DataFrame, x: str, y: str, bound: str, column: int, in_legend: bool) -> None:
    """One trace a bound and panel; a legend group spans both panels."""
    fig.add_scatter(
        x=rows[x], y=rows[y], mode="markers", name=bound, legendgroup=bound, showlegend=in_legend,
        marker={
            "color": BOUND_COLOUR[bound], "opacity": 0.75, "line": {"width": 0.5, "color": "white"},
            "size": rows["time_share"], "sizemode": "area", "sizeref": 2 / WHOLE_MARKER**2,
            "sizemin": SMALLEST_MARKER / 2,
        },
        hovertext=[_hover(row) for row in rows.to_dict("records")], hoverinfo="text", row=1, col=column,
    )  # fmt: skip


def _hover(row: dict) -> str:
    facts = ["time_share", "flops_per_s", "roof_flops_per_s", "bytes_per_s", "roof_bytes_per_s", "headroom_ns"]
    lines = [f"<b>{theme.label(row['name'])}</b>", theme.label(row["shapes"], 120)]
    lines += [f"{row['calls']:,} calls {theme.label(row['phase'])}"]
    lines += [f"{key} = {format_value(key, row[key])}" for key in facts if row[key] == row[key]]
    return "<br>".join([*lines, f"{row['bound']}, {row['tier']}, {row['precision']}, {row['bytes_basis']} bytes"])


def _span(values: list[float]) -> list[float]:
    """A decade around the positive values."""
    positive = [value for value in values if value > 0] or [1.0]
    return [min(positive) / 3, max(positive) * 3]
