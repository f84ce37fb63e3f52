"""Sampled stacks as an icicle: the whole on top, callees below their callers, as wide as their share of the samples."""

import pandas as pd
import plotly.graph_objects as go

from workbench.analyses.core.result import Result
from workbench.figures import theme

_DEPTHS_SHOWN, _DEPTH_PIXELS = 24, 22
_COLOURS = ["#D6EAF8", theme.ORANGE, theme.VERMILLION]


def stacks(result: Result) -> go.Figure:
    """Draw the tree of calls of `analyses.stacks`; a click on a box makes it the whole."""
    tree = pd.DataFrame(result.summary["call_tree"]).set_index("node", drop=False)
    shown_ns = tree["total"].groupby(tree["parent"]).sum().reindex(tree["node"], fill_value=0)
    whole = tree["total"].max()
    fig = go.Figure()
    fig.add_icicle(
        ids=tree["node"].astype(str), parents=tree["parent"].astype(str).where(tree["parent"] >= 0, ""),
        # What is in no box below: a total that rounding makes less than its parts would not be drawn at all.
        values=(tree["total"] - shown_ns).clip(lower=0), branchvalues="remainder",
        labels=[theme.label(_short(name)) for name in tree["name"]], sort=False, tiling={"orientation": "v"},
        customdata=pd.DataFrame({
            "name": tree["name"].map(lambda name: theme.label(name, 120)), "total": tree["total"] / whole,
            "self": tree["self"] / whole,
        }),
        marker={
            "colors": tree["self"] / tree["total"], "colorscale": _COLOURS, "cmin": 0, "cmax": 1, "showscale": True,
            "colorbar": {"title": {"text": "self / total", "side": "right"}, "tickformat": ".0%", "thickness": 12},
        },
        hovertemplate="%{customdata[0]}<br>total %{customdata[1]:.1%}, self %{customdata[2]:.1%}<extra></extra>",
        pathbar={"visible": True}, maxdepth=_DEPTHS_SHOWN,
    )  # fmt: skip
    largest = f"the {len(tree)} heaviest calling contexts; colour: how much of a box is its own"
    fig.update_layout(title={"text": "Sampled call stacks", "subtitle": {"text": largest}})
    return fig.update_layout(height=160 + _DEPTH_PIXELS * min(_depth(tree), _DEPTHS_SHOWN))


def _short(name: str) -> str:
    """Without the file, which a box has no room for."""
    return name.rpartition(" (")[0] or name


def _depth(tree: pd.DataFrame) -> int:
    depth = {-1: 0}
    for node, parent in zip(tree["node"], tree["parent"], strict=True):  # parents come first
        depth[node] = depth[parent] + 1
    return max(depth.values())
