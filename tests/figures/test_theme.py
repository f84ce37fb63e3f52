"""The look: names are text, bars may read alike, units read well, empty states say why."""

import math

import pandas as pd
import plotly.graph_objects as go
import pytest

from workbench.analyses.core.result import Result, not_applicable
from workbench.analyses.core.timeline import PARTS
from workbench.figures import figure, theme
from workbench.trace.schema import SOURCES


def test_names_from_a_trace_are_escaped_and_cut():
    assert theme.label("<img src=x>") == "&lt;img src=x&gt;"
    assert theme.label("a" * 100) == "a" * 55 + "…"
    # Cut before escaping: an entity is never cut in two.
    assert theme.label("<" * 100).endswith("&lt;…")


def test_every_part_and_source_has_a_colour_of_its_own():
    assert tuple(theme.PART_COLOUR) == PARTS and tuple(theme.SOURCE_COLOUR) == SOURCES
    for colours in (theme.PART_COLOUR, theme.SOURCE_COLOUR):
        assert len(set(colours.values())) == len(colours)


def test_rows_that_read_alike_stay_apart():
    fig = theme.name_rows(go.Figure(go.Bar(orientation="h", x=[1, 2], y=[0, 1])), ["same", "same"])
    assert list(fig.layout.yaxis.tickvals) == [0, 1] and list(fig.layout.yaxis.ticktext) == ["same", "same"]
    assert fig.layout.yaxis.range == (1.5, -0.5)  # the first on top, no empty rows


def test_a_long_table_is_cut_and_says_so():
    table, subtitle = theme.first_rows(pd.DataFrame({"x": range(1234)}))
    assert len(table) == theme.MAX_ROWS and subtitle == f"the first {theme.MAX_ROWS} of 1,234 rows"
    assert theme.first_rows(pd.DataFrame({"x": range(3)}))[1] == ""


@pytest.mark.parametrize(
    ("values", "expected"),
    [([5e9, 1.0], (1e9, "s")), ([-2e6], (1e6, "ms")), ([1500], (1e3, "µs")), ([3], (1.0, "ns")),
     ([math.nan], (1.0, "ns")),
     ([], (1.0, "ns"))],
)  # fmt: skip
def test_time_units(values, expected):
    assert theme.time_unit(values) == expected


def test_rate_units():
    assert theme.rate_unit([2.5e9, math.nan], "B/s") == (1e9, "GB/s")
    assert theme.rate_unit([12], "B/s") == (1.0, "B/s")


def test_row_names():
    assert theme.row_name({"rank": 3, "process": "rank-3"}, "step 2") == "rank 3 · step 2"
    assert theme.row_name({"rank": -1, "process": "<w>", "source": "simulated"}) == "&lt;w&gt; · simulated"


def test_what_does_not_apply_becomes_a_figure_that_says_why():
    fig = figure(not_applicable("time", "a <b> c"))
    assert fig.layout.annotations[0].text == "not applicable: a &lt;b&gt; c"
    assert len(fig.data) == 0
    assert "nothing in it" in figure(Result("time")).layout.annotations[0].text


def test_finished_figures_have_the_template_and_keep_their_view():
    fig = theme.finish(go.Figure())
    assert fig.layout.template.layout.paper_bgcolor == "white" and fig.layout.uirevision
