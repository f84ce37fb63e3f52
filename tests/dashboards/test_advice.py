"""Sentences from results that are worked by hand."""

import math

import pandas as pd

from dashboards.advice import advice
from workbench.analyses.core.result import Result, not_applicable


def _roofline(headroom_ns: list[float]) -> Result:
    table = pd.DataFrame({"name": ["sort", "mm"], "bound": ["inefficient", "compute"], "headroom_ns": headroom_ns})
    return Result("roofline", table.assign(headroom_share=[0.25, 0.1]), {"covered_time_share": 0.85})


def test_the_biggest_headroom_is_the_first_that_there_is():
    assert list(advice({"roofline": _roofline([5.0, 2.0])})) == [
        ("roofline", "85.0 % of the busy time has a cost model and so a roof."),
        ("roofline", "The biggest headroom is in sort (inefficient): 25.0 % of the busy time is beyond its roof."),
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


def test_what_does_not_apply_gives_no_advice():
    assert list(advice({"roofline": not_applicable("roofline", "no operators")})) == []
