"""The critical path figure draws its table: over time by thread and stream, or bars by kind, name or rank."""

import pandas as pd

from workbench.analyses.core.result import Result
from workbench.figures import figure, theme


def time_line(*rows):
    columns = ["rank", "process", "lane", "kind", "name", "at_ns", "path_ns", "on_path"]
    return figure(Result("critical_path", pd.DataFrame(rows, columns=columns)))


def traces(fig):
    return {trace.name: trace for trace in fig.data}


def test_over_time():
    fig = time_line(
        (1, "rank-1", "thread 5", "compute", "aten::<b>mm", 0, 4_000_000, True),
        (0, "rank-0", "stream 7", "communication", "nccl", 4_000_000, 2_000_000, True),
        (1, "rank-1", "thread 5", "compute", "aten::add", 6_000_000, 1_000_000, True),
        (0, "rank-0", "stream 9", "compute", "beside", 0, 0, False),
    )
    drawn = traces(fig)
    assert list(drawn["compute"].base) == [0, 6] and list(drawn["compute"].x) == [4, 1]
    assert list(drawn["compute"].y) == [0, 0] and list(drawn["communication"].y) == [1]
    assert drawn["communication"].marker.color == theme.VERMILLION
    assert drawn["compute"].customdata[0][0] == "aten::&lt;b&gt;mm"
    assert list(fig.layout.yaxis.ticktext) == ["rank 1 · thread 5", "rank 0 · stream 7"]
    assert fig.layout.xaxis.title.text.endswith("[ms]")


def test_a_long_path_is_cut_and_it_says_so():
    rows = [(0, "rank-0", "thread 5", "compute", "x", at, 1 + at, True) for at in range(5000)]
    fig = time_line(*rows)
    assert "of 5,000 parts" in fig.layout.title.subtitle.text
    assert len(traces(fig)["compute"].x) < 5000 and min(traces(fig)["compute"].base) > 0


def test_bars_by_name_and_what_a_change_does():
    table = pd.DataFrame(
        {"name": ["aten::mm", "nccl"], "kind": ["compute", "communication"], "path_ns": [3000, 1000],
         "path_share": [0.75, 0.25], "events": [2, 1], "after_ns": [1500, 1000], "source": ["measured", "simulated"]}
    )  # fmt: skip
    fig = figure(Result("critical_path", table))
    bars, change = fig.data
    assert list(bars.x) == [3, 1] and list(bars.marker.color) == [theme.BLUE, theme.VERMILLION]
    assert list(change.x) == [1.5, 1] and "modelled" in change.name
    assert list(fig.layout.yaxis.ticktext) == ["aten::mm", "nccl · simulated"]


def test_bars_by_rank():
    table = pd.DataFrame(
        {"rank": [7], "process": "rank-7", "path_ns": 1000, "path_share": 1.0, "events": 2, "source": "measured"}
    )
    fig = figure(Result("critical_path", table))
    assert list(fig.layout.yaxis.ticktext) == ["rank 7"] and len(fig.data) == 1
