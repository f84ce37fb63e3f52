"""The communication figure: bandwidth beside its ceiling, and the split of the time."""

import math

import pandas as pd

from workbench.analyses.core.result import Result
from workbench.figures import figure, theme


def result(rows=2, wait_ns=4_000.0, **columns):
    table = pd.DataFrame(
        {
            "rank": range(rows), "process": "p", "collective": "all_to_all", "group_size": 2, "duration_ns": 10_000,
            "wait_ns": wait_ns, "transfer_ns": 6_000.0 if wait_ns == wait_ns else math.nan, "source": "measured",
            "busbw_bytes_per_s": 2e9, "ceiling_bytes_per_s": 4e9, "efficiency_share": 0.5, "ceiling_source": "measured",
        }
    )  # fmt: skip
    return Result("communication", table.assign(**columns))


def drawn(fig):
    return {trace.name: [x for x in trace.x if x == x] for trace in fig.data}


def test_bandwidth_ceiling_and_split():
    fig = figure(result())
    assert drawn(fig) == {
        "bus bandwidth": [2, 2], "ceiling at this size and group": [4, 4], "transfer": [6, 6],
        "wait for the last rank": [4, 4], "not split: ranks are missing": [], "duration": [10, 10],
    }  # fmt: skip
    assert "[GB/s]" in fig.layout.xaxis.title.text and "[µs]" in fig.layout.xaxis2.title.text
    assert list(fig.layout.yaxis.ticktext) == ["rank 0 · all_to_all of 2", "rank 1 · all_to_all of 2"]


def test_a_duration_that_cannot_be_split_is_drawn_whole():
    shown = drawn(figure(result(1, wait_ns=math.nan)))
    assert shown["not split: ranks are missing"] == [10] and shown["transfer"] == []


def test_unknown_bandwidths_and_names_from_a_trace():
    fig = figure(result(1, collective="<b>", busbw_bytes_per_s=math.nan, ceiling_bytes_per_s=math.nan))
    assert drawn(fig)["bus bandwidth"] == []
    assert "&lt;b&gt;" in fig.layout.yaxis.ticktext[0]


def test_simulated_rows_say_so_and_many_are_cut():
    fig = figure(result(100, source="simulated"))
    assert fig.layout.yaxis.ticktext[0].endswith("simulated")
    assert f"the first {theme.MAX_ROWS} of 100 rows" in fig.layout.title.subtitle.text


def test_a_matrix_is_a_heat_map():
    pairs = {"from_rank": [0, 0, 1, 1], "to_rank": [0, 1, 0, 1], "bytes": [4.0, 2.0, 3.0, 1.0]}
    links = {"link": ["same process", "other host", "other host", "same process"]}
    fig = figure(Result("communication", pd.DataFrame(pairs | links)))
    (heat,) = fig.data
    assert heat.z.tolist() == [[4, 2], [3, 1]] and heat.customdata.tolist()[0] == ["same process", "other host"]
    assert (list(heat.x), list(heat.y)) == (["rank 0", "rank 1"], ["rank 0", "rank 1"])


def test_rows_of_groups_and_links_are_named():
    groups = figure(result(1, process_group="<tp>", link="same host"))
    assert groups.layout.yaxis.ticktext[0] == "rank 0 · all_to_all of 2 · group &lt;tp&gt;"
    links = figure(Result("communication", result(1, link="other host").table.drop(columns="collective")))
    assert links.layout.yaxis.ticktext[0] == "rank 0 · other host"
