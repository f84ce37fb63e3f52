"""The critical path: over time, on the threads and streams that it visits; or bars of what it consists of."""

import pandas as pd
import plotly.graph_objects as go

from workbench.analyses.core.result import Result
from workbench.figures import theme
from workbench.units import format_ns

# More parts than this are no wider than a pixel each.
_MOST_PARTS = 2000


def critical_path(result: Result) -> go.Figure:
    """Draw the table of `analyses.critical_path`, whichever rows it has."""
    return _time_line(result.table) if "on_path" in result.table else _bars(result.table)


def _time_line(table: pd.DataFrame) -> go.Figure:
    """One row a thread or stream, in the order in which the path comes by; its longest parts, if there are many."""
    path = table[table["on_path"]]
    shown = path.nlargest(_MOST_PARTS, "path_ns").sort_values("at_ns")
    where = shown[["process", "lane"]].drop_duplicates().reset_index(drop=True)
    place = pd.MultiIndex.from_frame(where).get_indexer(pd.MultiIndex.from_frame(shown[["process", "lane"]]))
    scale, unit = theme.time_unit(shown["at_ns"] + shown["path_ns"])
    fig = go.Figure()
    for kind, colour in theme.KIND_COLOUR.items():
        of_kind = (shown["kind"] == kind).to_numpy()
        parts = shown[of_kind]
        if len(parts):
            words = [
                [theme.label(name), format_ns(ns)] for name, ns in zip(parts["name"], parts["path_ns"], strict=True)
            ]
            fig.add_bar(
                name=kind, orientation="h", base=parts["at_ns"] / scale, x=parts["path_ns"] / scale, y=place[of_kind],
                width=0.8, marker={"color": colour, "line_width": 0}, customdata=words,
                hovertemplate="%{customdata[0]}: %{customdata[1]}<extra></extra>",
            )  # fmt: skip
    subtitle = f"its longest {len(shown):,} of {len(path):,} parts" if len(shown) < len(path) else ""
    fig.update_layout(title={"text": "The critical path over time", "subtitle": {"text": subtitle}})
    fig.update_xaxes(title=f"time since the first sampled step began [{unit}]")
    first = shown.drop_duplicates(["process", "lane"])
    theme.name_rows(fig, [theme.row_name(row, theme.label(row["lane"])) for row in first.to_dict("records")])
    return fig.update_layout(barmode="overlay")


def _bars(table: pd.DataFrame) -> go.Figure:
    """Time on the path, and a mark for what it would be after a change, which the shares then make room for."""
    table, subtitle = theme.first_rows(table, theme.MAX_LARGEST)
    scale, unit = theme.time_unit(table["path_ns"])
    places = list(range(len(table)))
    shares = None if "after_ns" in table else [f"{share:.1%}" for share in table["path_share"]]
    colours = [theme.KIND_COLOUR[kind] for kind in table["kind"]] if "kind" in table else theme.BLUE
    fig = go.Figure()
    fig.add_bar(
        name="on the path", orientation="h", x=table["path_ns"] / scale, y=places, marker_color=colours,
        customdata=table[["path_share", "events"]], text=shares,
        hovertemplate=f"%{{x:.4g}} {unit} (%{{customdata[0]:.1%}} of it), %{{customdata[1]:,}} events<extra></extra>",
    )  # fmt: skip
    if "after_ns" in table:
        fig.add_scatter(
            name="after the change (modelled)", x=table["after_ns"] / scale, y=places, mode="markers",
            marker={"symbol": "line-ns-open", "size": 18, "line_width": 3, "color": theme.INK},
            hovertemplate=f"%{{x:.4g}} {unit} after the change (modelled)<extra></extra>",
        )  # fmt: skip
    fig.update_layout(title={"text": "What the critical path consists of", "subtitle": {"text": subtitle}})
    fig.update_xaxes(title=f"time on the critical path [{unit}]")
    return theme.name_rows(fig, [_row_name(row) for row in table.to_dict("records")])


def _row_name(row: dict) -> str:
    if "rank" in row:
        return theme.row_name(row)
    doubt = f" · {row['source']}" if row["source"] != "measured" else ""
    return theme.label(row.get("name", row["kind"])) + doubt
