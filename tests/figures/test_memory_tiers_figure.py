"""What the memory-tier figures draw, from tables as the analysis makes them."""

import math

import pandas as pd

from workbench.analyses.core.result import Result
from workbench.figures import figure
from workbench.figures.memory_tiers import CACHE_SHARES, CURVES, MAX_TABLES, SHARES

TIERS = [{"tier": "l3", "capacity_bytes": 2.0**20}, {"tier": "dram", "capacity_bytes": math.inf}]
SUMMARY = {"tiers": TIERS, "cache_rows": 32, "cache_bytes": 2048, "supported_rows": 64}


def test_tiers_are_bars_of_bytes_and_time():
    rows = [
        {"tier": "l3", "read_bytes": 2.0**20, "write_bytes": 2.0**20, "time_ns": 1e6, "source": "modelled"},
        {"tier": "dram", "read_bytes": 2.0**22, "write_bytes": 0.0, "time_ns": 3e6, "source": "measured"},
    ]
    fig = figure(Result("memory_tiers", pd.DataFrame(rows), SUMMARY))
    bars = {(trace.name, trace.xaxis): trace.x[0] for trace in fig.data}
    assert bars == {("l3", "x"): 2.0, ("l3", "x2"): 1.0, ("dram", "x"): 4.0, ("dram", "x2"): 3.0}
    assert fig.layout.title.subtitle.text == "modelled and measured"
    assert "[MiB]" in fig.layout.xaxis.title.text and "[ms]" in fig.layout.xaxis2.title.text


def test_the_time_of_what_was_measured_is_not_called_a_tiers():
    row = {"operator": "row_fetch", "tier": "dram", "read_bytes": 64.0, "write_bytes": 0.0, "time_ns": 10.0}
    fig = figure(Result("memory_tiers", pd.DataFrame([row | {"source": "measured"}]), {}))
    assert fig.layout.xaxis2.title.text == "time of the copies [ns]"


def test_phases_are_rows():
    rows = [
        {"phase": phase, "tier": "dram", "read_bytes": 64.0, "write_bytes": 0.0, "time_ns": 10.0, "source": "modelled"}
        for phase in ("lookup", "dense")
    ]
    fig = figure(Result("memory_tiers", pd.DataFrame(rows), SUMMARY))
    assert fig.data[0].y == (0, 1) and fig.layout.yaxis.ticktext == ("lookup", "dense")


def test_the_curve_has_the_levels_of_the_machine():
    rows = [
        {"capacity_rows": capacity, "capacity_bytes": 64 * capacity} | dict.fromkeys(CURVES, 0.5)
        for capacity in (32, 64)
    ]
    fig = figure(Result("memory_tiers", pd.DataFrame(rows), SUMMARY))
    assert len(fig.data) == 7 and list(fig.data[0].x) == [2048, 4096]
    assert [line.x0 for line in fig.layout.shapes] == [2.0**20]  # memory has no capacity to draw
    assert fig.layout.annotations[0].text == "l3 1.00 MiB" and fig.layout.annotations[0].x == math.log10(2**20)
    assert "up to 64 rows" in fig.layout.title.subtitle.text


def test_tables_are_escaped_and_capped():
    row = {"table": "<i>", "rank": 0} | dict(zip(SHARES, (0.9, 0.1, 0.5, 0.2), strict=True))
    fig = figure(Result("memory_tiers", pd.DataFrame([row] * 61), SUMMARY))
    assert fig.layout.yaxis.ticktext[0] == "&lt;i&gt; · rank 0" and len(fig.layout.yaxis.ticktext) == MAX_TABLES
    assert (
        f"the first {MAX_TABLES} of 61 rows" in fig.layout.title.subtitle.text
        and "32 rows (2.00 KiB)" in fig.layout.title.subtitle.text
    )
    assert {trace.x[0] for trace in fig.data} == {0.9, 0.1, 0.5, 0.2}


def test_row_caches_stand_beside_what_was_measured():
    row = {"rank": 3, "capacity_rows": 3200, "policy": "lfu", "backing": "ssd"}
    row |= dict(zip(CACHE_SHARES, (0.9, 0.91, 0.5, 0.51), strict=True))
    fig = figure(Result("memory_tiers", pd.DataFrame([row]), {}))
    assert [trace.x[0] for trace in fig.data] == [0.9, 0.91, 0.5, 0.51]
    assert fig.layout.yaxis.ticktext == ("rank 3 · 3,200 rows, lfu over ssd",)


def test_a_result_without_rows_says_why():
    fig = figure(Result("memory_tiers", notes=["not applicable: no accesses"]))
    assert "no accesses" in fig.layout.annotations[0].text
