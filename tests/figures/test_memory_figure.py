"""The memory figures draw their table: lines over time, peaks, holders."""

import pandas as pd

from workbench.analyses.core.result import Result
from workbench.figures import figure, theme

MIB = 2**20


def result_of(**columns):
    place = {"rank": 0, "process": "rank-0", "device": "cuda:0", "source": "measured"}
    return Result("memory", pd.DataFrame({**place, **columns}))


def over_time(**columns):
    return result_of(
        after_ns=[0, 1_000_000, 3_000_000], recording=0, phase="", allocated_bytes=[MIB, 3 * MIB, 2 * MIB],
        reserved_bytes=4.0 * MIB, **columns,
    )  # fmt: skip


def test_lines_in_mebibytes_with_the_peak_marked():
    fig = figure(over_time())
    allocated, reserved, peak = fig.data
    assert list(allocated.x) == [0, 1, 3] and list(allocated.y) == [1, 3, 2] and allocated.line.shape == "hv"
    assert list(reserved.y) == [4, 4, 4] and reserved.line.dash == "dot"
    assert (list(peak.x), list(peak.y), peak.text[0]) == ([1], [3], "peak 3.00 MiB")
    assert "[ms]" in fig.layout.xaxis.title.text and allocated.name == "rank 0 · cuda:0 · allocated"


def test_a_line_breaks_between_recordings_and_without_a_reserve():
    result = over_time()
    result.table["recording"], result.table["reserved_bytes"] = [0, 0, 1], float("nan")
    first, second, _ = figure(result).data
    assert (list(first.x), list(second.x)) == ([0, 1], [3])
    assert first.legendgroup == second.legendgroup and (first.showlegend, second.showlegend) == (True, False)


def test_peaks_lie_over_what_was_reserved():
    fig = figure(result_of(phase=["forward", ""], peak_allocated_bytes=[MIB, 2 * MIB], peak_reserved_bytes=5 * MIB))
    reserved, allocated = fig.data
    assert (list(reserved.x), list(allocated.x)) == ([5, 5], [1, 2])
    assert fig.layout.barmode == "overlay" and allocated.width < reserved.width
    assert list(fig.layout.yaxis.ticktext) == ["rank 0 · cuda:0 · forward", "rank 0 · cuda:0"]


def test_holders():
    fig = figure(
        result_of(name=["aten::<mm>", "b"], phase="", blocks=[1, None], held_bytes=[2 * MIB, MIB], held_share=0.5)
    )
    (bar,) = fig.data
    assert list(bar.x) == [2, 1] and bar.marker.color == theme.BLUE
    assert list(fig.layout.yaxis.ticktext) == ["rank 0 · cuda:0 · aten::&lt;mm&gt;", "rank 0 · cuda:0 · b"]
