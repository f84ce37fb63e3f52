"""The latency figures draw their table, and nothing else."""

import pandas as pd

from workbench.analyses.core.request_parts import CPU_PARTS, EMBEDDED_PARTS, PARTS
from workbench.analyses.core.result import Result
from workbench.figures import figure


def stacks(**columns):
    keys = [*PARTS, *(f"embedded_{part}" for part in EMBEDDED_PARTS), *(f"cpu_{part}" for part in CPU_PARTS)]
    values = {f"{key}_ns": [1_000_000 * (place + 1)] * 2 for place, key in enumerate(keys)}
    return Result("latency", pd.DataFrame(columns | {"source": "measured"} | values))


def test_three_panels_stack_the_parts():
    fig = figure(stacks(percentile=[50.0, 99.9]))
    assert [panel.text for panel in fig.layout.annotations] == ["end to end", "embedded portion", "CPU of all servers"]
    bars = [(bar.xaxis, bar.name, list(bar.x)) for bar in fig.data]
    assert bars[:2] == [("x", "dense", [1, 1]), ("x", "embedded", [2, 2])]
    assert ("x2", "network", [7, 7]) in bars and ("x3", "outside", [17, 17]) in bars
    assert "[ms]" in fig.layout.xaxis.title.text and fig.layout.barmode == "stack"
    assert list(fig.layout.yaxis.ticktext) == ["P50", "P99.9"]
    assert sum(bar.showlegend for bar in fig.data) == len({bar.name for bar in fig.data})


def test_requests_are_named_by_their_number_and_source():
    fig = figure(stacks(percentile=[1.0, 2.0], step=[7, 8]))
    assert list(fig.layout.yaxis.ticktext) == ["request 7", "request 8"]
    result = stacks(percentile=[50.0, 99.0])
    result.table["source"] = "modelled"
    assert list(figure(result).layout.yaxis.ticktext) == ["P50 · modelled", "P99 · modelled"]


def test_shards_split_what_their_calls_were_outstanding_for():
    table = pd.DataFrame(
        {
            "shard": ["shard-<0>"], "calls": [4], "bounding_share": [0.5], "outstanding_ns": [9_000.0],
            "shard_ns": [5_000.0], "sparse_ns": [3_000.0], "network_ns": [4_000.0],
        }
    )  # fmt: skip
    fig = figure(Result("latency", table))
    assert {bar.name: list(bar.x) for bar in fig.data} == {"sparse": [3], "service": [2], "network": [4]}
    assert list(fig.layout.yaxis.ticktext) == ["shard-&lt;0&gt;"]


def test_the_tail_is_what_slow_requests_have_more_of():
    table = pd.DataFrame({"part": ["network", "dense"], "tail_ns": [9e6, 1e6], "rest_ns": [1e6, 2e6]})
    fig = figure(Result("latency", table.assign(excess_ns=table["tail_ns"] - table["rest_ns"], excess_share=0.5)))
    assert list(fig.data[0].x) == [8, -1] and list(fig.layout.yaxis.ticktext) == ["network", "dense"]
