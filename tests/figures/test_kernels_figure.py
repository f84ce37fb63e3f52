"""The kernels figure draws its table: time in all, the spread of single calls, short calls."""

import pandas as pd
import pytest

from workbench.analyses.core.result import Result
from workbench.figures import figure, theme

SPREAD = {"min_ns": 1000, "p50_ns": 2000.0, "p95_ns": 8000.0, "max_ns": 9000}


def result_of(rows=2, overhead_ns=4000.0, **columns):
    table = pd.DataFrame(
        {"calls": 5, "duration_ns": [2_000_000 - row for row in range(rows)], "time_share": 0.5, "short_share": 0.25,
         "source": "measured", **SPREAD, **columns}
    )  # fmt: skip
    return Result("kernels", table, {"launch_overhead_ns": overhead_ns})


def traces(fig):
    return {trace.name: trace for trace in fig.data}


def test_by_name():
    fig = figure(result_of(name=["void at::native::add<int>", "nccl"], kind=["compute", "communication"]))
    drawn = traces(fig)
    assert [x for x in drawn["compute"].x if x == x] == [2] and drawn["compute"].marker.color == theme.BLUE
    assert drawn["communication"].marker.color == theme.VERMILLION
    assert list(fig.layout.yaxis.ticktext) == ["add&lt;int&gt;", "nccl"]
    assert fig.layout.xaxis.title.text.endswith("[ms]") and fig.layout.xaxis2.type == "log"


def test_the_spread_of_calls_in_microseconds():
    drawn = traces(figure(result_of(operator=["a", "b"])))
    assert list(drawn["shortest to longest"].x) == [1, 9, None] * 2
    assert list(drawn["median to 95th pct"].x) == [2, 8, None] * 2
    assert list(drawn["median to 95th pct"].y) == [0, 0, None, 1, 1, None]
    assert list(drawn["median"].x) == [2, 2]
    assert list(drawn["a launch (4.00 us)"].x) == [4, 4]
    assert list(drawn["short calls"].x) == [0.25, 0.25]


@pytest.mark.parametrize(
    ("columns", "name"),
    [
        ({"module": "Linear_0", "inside": "Net_0"}, "Linear_0"),
        ({"rank": 3, "process": "rank-3", "device": "cuda:0", "lane": "stream 7"}, "rank 3 · cuda:0 · stream 7"),
        ({"operator": "aten::mm", "source": "simulated"}, "aten::mm · simulated"),
    ],
)
def test_rows_are_named(columns, name):
    assert figure(result_of(**columns)).layout.yaxis.ticktext[0] == name


def test_many_rows_are_cut_and_it_says_so():
    fig = figure(result_of(rows=200, operator="x"))
    assert "of 200 rows" in fig.layout.title.subtitle.text
    assert len(fig.layout.yaxis.ticktext) == len(traces(fig)["median"].x) < 200


def test_an_unknown_launch_is_no_line():
    fig = figure(result_of(overhead_ns=float("nan"), operator="x"))
    assert not [trace for trace in fig.data if trace.name.startswith("a launch")]
