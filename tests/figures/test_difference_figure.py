"""The difference figure: the largest changes, by status."""

import pandas as pd

from workbench.analyses.core.result import Result
from workbench.figures import figure


def result(deltas_ns, statuses):
    table = pd.DataFrame({"name": "aten::<mm>", "shapes": "[[8,8]]", "delta_ns": deltas_ns, "status": statuses})
    table["source"] = "measured"
    table["duration_a_ns"], table["duration_b_ns"] = 1e6, 1e6 + table["delta_ns"]
    return Result("difference", table, {"step_a_ns": 2e6, "step_b_ns": 3e6, "change_pct": 50.0})


def test_changes_are_drawn_by_status():
    fig = figure(result([2e6, -1e6], ["grew", "shrank"]))
    drawn = {bar.name: [x for x in bar.x if x == x] for bar in fig.data}
    assert drawn == {"grew": [2], "appeared": [], "shrank": [-1], "vanished": [], "same": []}
    assert "[ms]" in fig.layout.xaxis.title.text
    assert fig.layout.title.subtitle.text == "a step took 2.00 ms in a, 3.00 ms in b (+50.0 %)"
    assert list(fig.layout.yaxis.ticktext) == ["aten::&lt;mm&gt; [[8,8]]"] * 2


def test_only_the_largest_are_drawn_and_it_says_so():
    fig = figure(result([1e6] * 400, ["grew"] * 400))
    assert all(len(bar.x) == 25 for bar in fig.data)
    assert "the 25 largest of 400 changes" in fig.layout.title.subtitle.text
