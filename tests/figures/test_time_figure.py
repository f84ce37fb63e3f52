"""The time figures draw their table, and nothing else."""

import pandas as pd
import pytest

from workbench.analyses.core.result import Result
from workbench.analyses.core.timeline import PARTS
from workbench.figures import figure, theme


def parts_table(rows, **columns):
    window_ns = 20_000_000
    shares = dict(zip(PARTS, (40, 30, 10, 0, 20), strict=True))
    table = pd.DataFrame({"rank": range(rows), "process": "p", "source": "measured", "window_ns": window_ns, **columns})
    for part, pct in shares.items():
        table[f"{part}_ns"], table[f"{part}_pct"] = window_ns * pct // 100, float(pct)
    return Result("time", table)


def test_bars_are_the_parts_in_milliseconds():
    fig = figure(parts_table(2))
    bars = {bar.name: bar for bar in fig.data}
    assert tuple(bars) == PARTS
    assert [list(bars[part].x) for part in PARTS] == [[8, 8], [6, 6], [2, 2], [0, 0], [4, 4]]
    assert all(bars[part].marker.color == theme.PART_COLOUR[part] for part in PARTS)
    assert list(bars["compute"].text) == ["40.0 %"] * 2 and list(bars["host"].text) == ["", ""]
    assert "[ms]" in fig.layout.xaxis.title.text and fig.layout.barmode == "stack"
    assert list(fig.layout.yaxis.ticktext) == ["rank 0", "rank 1"]


@pytest.mark.parametrize(
    ("columns", "name"), [({"step": 7}, "rank 0 · step 7"), ({"lane": "t<1>"}, "rank 0 · t&lt;1&gt;")]
)
def test_rows_by_step_and_lane_are_named(columns, name):
    assert figure(parts_table(1, **columns)).layout.yaxis.ticktext[0] == name


def test_many_rows_are_cut_and_it_says_so():
    fig = figure(parts_table(500))
    assert all(len(bar.x) == theme.MAX_ROWS for bar in fig.data)
    assert "of 500 rows" in fig.layout.title.subtitle.text


def test_causes_of_idle_time():
    table = pd.DataFrame(
        {
            "rank": 0, "process": "p", "lane": "stream 7", "cause": ["host", "collective"],
            "name": ["aten::<add>", "nccl"], "gaps": [3, 1], "idle_ns": [5_000, 2_000], "idle_share": [0.7, 0.3],
        }
    )  # fmt: skip
    fig = figure(Result("time", table))
    bars = {bar.name: [x for x in bar.x if x == x] for bar in fig.data}
    assert bars == {"host": [5], "kernel": [], "collective": [2], "other": []}
    assert "[µs]" in fig.layout.xaxis.title.text
    assert list(fig.layout.yaxis.ticktext) == ["rank 0 · stream 7 · aten::&lt;add&gt;", "rank 0 · stream 7 · nccl"]
