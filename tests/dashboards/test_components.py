"""What tables, tiles and controls are made of."""

import math

import pandas as pd
import pytest

from dashboards.components.controls import controls
from dashboards.components.definitions import explained
from dashboards.components.table import frame_grid, result_table
from dashboards.components.text import does_not_apply, key_figures
from dashboards.options import options_of
from workbench.analyses.core.result import Result, not_applicable
from workbench.metrics import define


@pytest.fixture
def result() -> Result:
    table = pd.DataFrame({"name": ["aten::mm", "copy"], "duration_ns": [1_500_000, 2], "time_share": [0.25, math.nan]})
    return Result("roofline", table, {"covered_time_share": 0.934})


def _grid(component) -> object:
    return next(item for item in component.children if hasattr(item, "rowData"))


def test_tables_hold_raw_values_and_show_pretty_ones(result):
    first, second = _grid(result_table(result, "a run")).rowData
    assert (first["duration_ns"], first["time_share"]) == (1_500_000, 0.25)
    assert first["_shown"] == {"name": "aten::mm", "duration_ns": "1.50 ms", "time_share": "25.0 %"}
    assert second["time_share"] is None
    assert second["_shown"]["time_share"] == "-"


def test_headers_and_tooltips_are_the_definitions(result):
    columns = {column["field"]: column for column in _grid(result_table(result, "a run")).columnDefs}
    definition = define("roofline", "time_share")
    assert columns["time_share"]["headerName"] == definition.title
    assert columns["time_share"]["headerTooltip"] == f"time_share: {definition.text}"
    assert columns["time_share"]["type"] == "rightAligned"
    assert "type" not in columns["name"]


def test_a_key_without_definition_stands_for_itself():
    assert explained("roofline", "no_such_key") == ("no_such_key", "no_such_key")


def test_chosen_columns_stand_first_and_long_tables_are_cut():
    table = pd.DataFrame({"calls": range(6000), "name": "mm"})
    card = result_table(Result("roofline", table), "a run", first=("name", "not_there"))
    assert [column["field"] for column in _grid(card).columnDefs] == ["name", "calls"]
    assert len(_grid(card).rowData) == 5000
    assert "first 5,000 of 6,000 rows" in str(card)


def test_whole_numbers_stay_whole_beside_unknown_ones():
    frame = pd.DataFrame({"ranks": [2, None]}, dtype="object")
    grid = frame_grid(frame, "runs", lambda key: (key.title(), "how many"))
    assert [row["_shown"]["ranks"] for row in grid.rowData] == ["2", "-"]
    assert grid.columnDefs[0]["type"] == "rightAligned"


def test_key_figures_are_those_that_the_summary_has(result):
    tiles = key_figures(result, ["covered_time_share", "step_bound_ns"]).children
    assert len(tiles) == 1
    assert "93.4 %" in str(tiles[0])
    assert define("roofline", "covered_time_share").text in str(tiles[0])


def test_a_key_figure_without_words_is_a_dash():
    peak = Result("memory", summary={"peak_phase": ""})  # a peak between phases
    [tile] = key_figures(peak, ["peak_phase"]).children
    assert "Text(children='-'" in str(tile)


def test_what_does_not_apply_says_why():
    assert "Because the run has no collectives." in str(
        does_not_apply(not_applicable("x", "the run has no collectives"))
    )


def test_controls_come_from_the_signature_of_the_analysis():
    known = options_of("memory_tiers")
    options = [known["by"], known["cache_rows"]]
    by, cache_rows, filter_rows = controls(options, {"by": "table"}, runs=[]).children
    choice = by.children[1]
    assert choice.data == ["tier", "operator", "table", "capacity", "phase", "cache", "measured"]
    assert choice.value == "table"
    assert choice.id == {"type": "control", "key": "by", "default": "tier"}
    assert (cache_rows.value, cache_rows.id["default"]) == ("", "")
    assert filter_rows.value == ""


def test_an_option_that_is_another_run_is_chosen_among_the_runs():
    _, baseline, _ = controls(options_of("latency").values(), {"baseline": "b"}, runs=["a", "b"]).children
    assert (baseline.data, baseline.value) == (["a", "b"], "b")
    assert baseline.id == {"type": "control", "key": "baseline", "default": ""}
