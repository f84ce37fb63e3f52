"""Tables on a terminal."""

import pandas as pd
import pytest

from workbench.analyses.core.result import Result
from workbench.console import console, print_result


@pytest.mark.parametrize(("ranks", "shown", "left_out"), [([0, 1], "rank", "process"), ([-1, -1], "process", "rank")])
def test_processes_without_ranks_go_by_their_names(ranks, shown, left_out, capsys):
    table = pd.DataFrame({"rank": ranks, "process": ["main", "shard-0"], "window_ns": [1, 2], "compute_ns": [1, 1]})
    print_result(console(), Result("time", table))
    printed = capsys.readouterr().out
    assert f" {shown} " in printed and f"json and csv also show: {left_out}, compute_ns\n" in printed
