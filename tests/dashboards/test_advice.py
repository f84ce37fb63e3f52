"""Sentences from results that are worked by hand."""

import math

import pandas as pd

from dashboards.advice import advice
from workbench.analyses.core.request_parts import PARTS
from workbench.analyses.core.result import Result, not_applicable


def _roofline(headroom_ns: list[float]) -> Result:
    table = pd.DataFrame({"name": ["sort", "mm"], "bound": ["inefficient", "compute"], "headroom_ns": headroom_ns})
    return Result("roofline", table.assign(headroom_share=[0.25, 0.1]), {"covered_time_share": 0.85})


def test_the_biggest_headroom_is_the_first_that_there_is():
    saved = "at its roof it would save 25.0 %"
    assert list(advice({"roofline": _roofline([5.0, 2.0])})) == [
        ("roofline", "85.0 % of the busy time has a cost model and so a roof."),
        ("roofline", f"The biggest headroom is in sort (inefficient): {saved} of the busy time."),
    ]
    assert len(list(advice({"roofline": _roofline([math.nan, math.nan])}))) == 1


def test_who_keeps_the_others_waiting():
    summary = {"shared_pct": 3.6, "last_arrivals": {7: 5, 2: 2, 4: 1}}
    assert list(advice({"communication": Result("communication", summary=summary)})) == [
        ("communication", "3.60 % of the collectives' time moves data; the rest is waiting for a rank."),
        ("communication", "Rank 7 arrives last most often: 5 times of 8."),
    ]
    unknown = Result("communication", summary={"shared_pct": math.nan, "last_arrivals": {}})
    assert list(advice({"communication": unknown})) == []


def test_what_a_request_spends_most_on():
    summary = {f"{part}_share": 0.1 for part in PARTS} | {"embedded_share": 0.5}
    table = pd.DataFrame({"percentile": [50.0, 90.0], "latency_ns": [25e6, 33e6]})
    said = "The median request takes 25.0 ms; the largest part of a request's time is embedded, 50.0 %."
    assert list(advice({"latency": Result("latency", table, summary)})) == [("latency", said)]


def test_what_does_not_apply_gives_no_advice():
    assert list(advice({"roofline": not_applicable("roofline", "no operators")})) == []
