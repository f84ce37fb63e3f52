"""What the roofline draws: one marker an operator, and the roofs that its result names."""

import pandas as pd
import pytest

from workbench.analyses.core.result import Result
from workbench.figures import figure
from workbench.figures.roofline import MAX_POINTS

ROOFS = [
    {"name": "fp32 peak", "kind": "compute", "value": 1e11, "unit": "FLOP/s", "source": "measured"},
    {"name": "dram triad", "kind": "bandwidth", "value": 2e10, "unit": "B/s", "source": "promised"},
]
ROW = {
    "name": "aten::mm", "shapes": "[[8, 16], [16, 8]]", "phase": "forward", "calls": 2, "flops": 4096.0,
    "bytes": 2560.0, "bytes_basis": "compulsory", "tier": "dram", "precision": "fp32", "duration_ns": 1000,
    "time_share": 0.6, "intensity": 1.6, "flops_per_s": 4.096e9, "bytes_per_s": 2.56e9, "roof_flops_per_s": 3.2e10,
    "roof_bytes_per_s": 2e10, "bound": "inefficient", "headroom_ns": 872.0,
}  # fmt: skip
COPY = ROW | {
    "name": "<b>copy</b>",
    "flops": 0.0,
    "intensity": 0.0,
    "bound": "memory",
    "roof_flops_per_s": float("nan"),
}
UNKNOWN = ROW | {"name": "mine::op", "flops": float("nan"), "bytes": float("nan"), "bound": "unknown"}


def drawn(rows: list[dict], roofs: list[dict] = ROOFS):
    return figure(Result("roofline", pd.DataFrame(rows), {"roofs": roofs}))


def test_operators_stand_where_their_numbers_say():
    fig = drawn([ROW, COPY, UNKNOWN])
    points = {(trace.name, trace.xaxis): (trace.x, trace.y) for trace in fig.data if trace.mode == "markers"}
    assert [list(values) for values in points["inefficient", "x"]] == [[1.6], [4.096e9]]
    assert [list(values) for values in points["memory", "x2"]] == [[1280.0], [2.56e9]]
    assert sum(len(x) for x, _ in points.values()) == 2  # what has no bytes has no place


def test_roofs_rise_to_the_peak_and_say_value_and_source():
    lines = {(trace.legendgroup, trace.xaxis): trace for trace in drawn([ROW, COPY]).data if trace.mode == "lines"}
    rising, peak = lines["dram triad", "x"], lines["fp32 peak", "x"]
    assert (rising.x[1], rising.y[1]) == (5.0, 1e11)  # the ridge: 1e11 / 2e10
    assert rising.y[0] == pytest.approx(2e10 * rising.x[0])
    assert (peak.x[0], peak.y) == (5.0, (1e11, 1e11))
    assert "100 GFLOP/s (measured)" in peak.name and "20.0 GB/s (promised)" in rising.name
    assert lines["dram triad", "x2"].y == (2e10, 2e10)


def test_text_from_traces_is_escaped():
    texts = [text for trace in drawn([ROW, COPY]).data if trace.mode == "markers" for text in trace.hovertext]
    assert any("&lt;b&gt;copy&lt;/b&gt;" in text for text in texts)


def test_many_operators_are_capped_and_said():
    rows = [ROW | {"duration_ns": 1000 + index} for index in range(MAX_POINTS + 5)]
    fig = drawn(rows)
    assert sum(len(trace.x) for trace in fig.data if trace.mode == "markers") == MAX_POINTS
    assert f"{MAX_POINTS} rows with the most time of {MAX_POINTS + 5}" in fig.layout.title.subtitle.text


def test_without_roofs_and_without_rows():
    assert not [trace for trace in drawn([ROW], roofs=[]).data if trace.mode == "lines"]
    assert "why not" in figure(Result("roofline", notes=["not applicable: why not"])).layout.annotations[0].text
