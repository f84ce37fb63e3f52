"""Tables in AG Grid: raw values underneath (sorting, filters, CSV), pretty units on top, definitions in tooltips."""

from collections.abc import Callable, Collection
from functools import partial

import dash_ag_grid as dag
import dash_mantine_components as dmc
import pandas as pd
from dash.development.base_component import Component

from dashboards.components.definitions import explained
from workbench.analyses.core.result import Result, plain
from workbench.units import format_row

_ROWS_SHOWN, _CHOICES_SHOWN = 14, 8  # longer tables scroll in themselves
_MOST_ROWS = 5_000  # more would choke the browser; `workbench analyze --format csv` has them all
_COLUMNS_SHOWN = 12  # beside more, the first stays in sight
_ROW_PIXELS, _HEADER_PIXELS = 31, 40
_MOST_WIDTH, _FIRST_WIDTH = 260, 400  # the first tells rows apart: names that begin alike are read to their end
_LEAST_WIDTH, _LETTER_PIXELS, _PADDING_PIXELS = 84, 7, 26  # a header breaks between its words, never inside one
# Narrow columns under headers of several lines; the types of values are known already; CSV takes the raw ones.
_COLUMN = {
    "wrapHeaderText": True, "autoHeaderHeight": True, "cellDataType": False,
    "useValueFormatterForExport": False,
}  # fmt: skip
_THEME = {
    "function": "themeQuartz.withParams({fontFamily: 'inherit', fontSize: 13, headerFontSize: 12, spacing: 5,"
    " headerVerticalPaddingScale: 0.6, wrapperBorderRadius: 4, headerBackgroundColor: '#f8f9fa',"
    " borderColor: '#e9ecef'})"
}


def result_table(result: Result, name: str, first: Collection[str] = (), filter_text: str = "") -> Component:
    """A card with the rows of `result` that contain `filter_text`, the columns in `first` before the others, and the
    button that saves them as `<name>.csv`."""
    columns = [key for key in first if key in result.table]
    frame = result.table[columns + [key for key in result.table if key not in columns]].head(_MOST_ROWS)
    rows = f"{len(result.table):,} rows"
    title = rows if len(frame) == len(result.table) else f"first {len(frame):,} of {rows}"
    return table_card(title, frame_grid(frame, name, partial(explained, result.analysis), filter_text), name)


def table_card(title: str, grid: Component, name: str) -> Component:
    """`grid` below a title and the button that saves it as `<name>.csv`."""
    button = dmc.Button("CSV", id={"type": "csv", "name": name}, variant="default", size="compact-xs")
    top = dmc.Group([dmc.Text(title, className="card-title"), button], justify="space-between", mb=6)
    return dmc.Paper([top, grid], className="card")


def frame_grid(
    frame: pd.DataFrame, name: str, header: Callable[[str], tuple[str, str]], filter_text: str = "", chosen: str = ""
) -> dag.AgGrid:
    """The grid of `frame`; `header` gives each column's title and explanation.

    `chosen` marks the row whose first column has this value; a click on another row then chooses that one.
    """
    rows_shown = _CHOICES_SHOWN if chosen else _ROWS_SHOWN
    full = len(frame) <= rows_shown
    options = {
        "theme": _THEME,
        "quickFilterText": filter_text,
        "domLayout": "autoHeight" if full else "normal",
        "tooltipShowDelay": 300,
        "enableCellTextSelection": True,
        "animateRows": False,
        "suppressColumnVirtualisation": True,  # columns that are out of sight are sized too
        "autoSizeStrategy": {"type": "fitCellContents", "skipHeader": True, "scaleUpToFitGridWidth": True},
    }
    columns = [_column(str(key), *header(key), frame[key]) for key in frame.columns]
    if columns:
        columns[0]["maxWidth"] = _FIRST_WIDTH
    if len(columns) > _COLUMNS_SHOWN:
        columns[0]["pinned"] = "left"
    choosing = {}
    if chosen:
        options["rowSelection"] = {"mode": "singleRow", "checkboxes": False, "enableClickSelection": True}
        choosing = {"getRowId": f"params.data.{frame.columns[0]}", "selectedRows": {"ids": [chosen]}}
    return dag.AgGrid(
        id={"type": "grid", "name": name, "chooses": bool(chosen)},
        rowData=[_row(row) for row in frame.to_dict("records")],
        columnDefs=columns,
        defaultColDef=_COLUMN,
        dashGridOptions=options,
        style={"height": None if full else _HEADER_PIXELS + rows_shown * _ROW_PIXELS},
        **choosing,
    )


def _row(row: dict) -> dict:
    """Raw values, and beside them what people see: one formatter, in Python, for pages, reports and terminals."""
    return {**{str(key): plain(value) for key, value in row.items()}, "_shown": format_row(row)}


def _column(key: str, title: str, explanation: str, values: pd.Series) -> dict:
    kind = values.dropna().infer_objects().dtype
    numeric = pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_bool_dtype(kind)
    longest_word = max(map(len, title.split()), default=0)
    return {
        "field": key,
        "headerName": title,
        "headerTooltip": explanation,
        "tooltipField": None if numeric else key,
        "valueFormatter": {"function": "shown(params)"},
        "filter": "agNumberColumnFilter" if numeric else "agTextColumnFilter",
        "minWidth": max(_LEAST_WIDTH, longest_word * _LETTER_PIXELS + _PADDING_PIXELS),
        "maxWidth": _MOST_WIDTH,
        **({"type": "rightAligned", "sortingOrder": ["desc", "asc", None]} if numeric else {}),
    }
