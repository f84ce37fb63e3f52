"""The sharding figure draws its table, and nothing else."""

import pandas as pd

from workbench.analyses.core.result import Result
from workbench.figures import figure, theme

TIMES = {"lookup_ns": [1e6, 2e6], "update_ns": [3e6, 4e6], "communication_ns": [0.0, 1e6], "predicted_ns": [4e6, 7e6]}


def test_ranks_are_stacked_bars_with_what_was_measured():
    table = pd.DataFrame({"rank": [0, 1], **TIMES, "measured_ns": [5e6, 6e6]})
    fig = figure(Result("sharding", table, {"max_over_mean": 7 / 5.5}))
    drawn = {trace.name: list(trace.x) for trace in fig.data}
    assert drawn == {
        "lookup": [1, 2], "update": [3, 4], "communication": [0, 1], "lookup and update, measured": [5, 6],
    }  # fmt: skip
    assert fig.layout.shapes[0].x0 == 5.5 and "1.273" in fig.layout.title.subtitle.text
    assert list(fig.layout.yaxis.ticktext) == ["rank 0", "rank 1"] and "[ms]" in fig.layout.xaxis.title.text


def test_shards_are_named_and_cut():
    table = pd.DataFrame({"rank": 3, "table": "<t>", "scheme": "row-wise", **TIMES})
    fig = figure(Result("sharding", pd.concat([table] * 100), {"max_over_mean": 1.0}))
    assert fig.layout.yaxis.ticktext[0] == "&lt;t&gt; · row-wise · rank 3"
    assert all(len(bar.x) == theme.MAX_ROWS for bar in fig.data)
