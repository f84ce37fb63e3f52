"""Whole lanes in one line of a span file."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import InputError
from workbench.trace.lanes import _cpu_clock, spans_of
from workbench.trace.readers import spans
from workbench.trace.recorder import Recorder
from workbench.trace.schema import KINDS, Header, LaneLine, LaneSpan

TRACE, PARENT = "a" * 32, "b" * 16
HEADER = Header(schema=2, process="p", rank=0, pid=1, host="h", wall_ns=1000, monotonic_ns=0)


def line(*lane_spans, stretches=()):
    return LaneLine("request-0", 7, TRACE, PARENT, 0x100, list(lane_spans), list(stretches))


def inner(**changed):
    fields = {
        "name": "net", "kind": "compute", "phase": "net-0", "source": "measured", "tags": "", "message_bytes": 64,
        "number": 2, "around": 1, "start_ns": 120, "end_ns": 180,
    }  # fmt: skip
    return LaneSpan(**fields | changed)


OUTER = LaneSpan("handler", "span", "", "measured", "error", None, 1, 0, 100, 300)


def written(path, *records):
    path.write_bytes(b"\n".join(msgspec.json.encode(record) for record in records) + b"\n")
    return path


def test_a_lane_is_spelled_out():
    """Of 100 ns of CPU time over 200 ns the inner span, 60 ns long, has 30."""
    net, handler = spans_of(line(inner(), OUTER, stretches=[(100, 300, 100)]))
    assert (net.name, net.kind, net.phase, net.lane, net.step) == ("net", "compute", "net-0", "request-0", 7)
    assert (net.start_ns, net.duration_ns, net.cpu_ns, net.message_bytes) == (120, 60, 30, 64)
    assert (net.trace, net.span, net.parent) == (TRACE, f"{0x102:016x}", f"{0x101:016x}")
    assert (handler.span, handler.parent, handler.tags, handler.cpu_ns) == (f"{0x101:016x}", PARENT, "error", 100)


def test_cpu_time_of_a_stretch_is_spread_evenly_over_it():
    """The thread's stretch, noted before that of the loop which handed over, begins just before the loop's ends."""
    until_ns = _cpu_clock([(100, 200, 50), (395, 600, 205), (300, 400, 100)])
    moments_ns = [50, 100, 150, 200, 250, 350, 395, 497, 600, 700]
    assert [until_ns(moment) for moment in moments_ns] == [0, 0, 25, 50, 50, 100, 150, 252, 355, 355]


def test_a_lane_that_is_written_again_replaces_its_spans(tmp_path):
    with Recorder(tmp_path, "p") as recorder, recorder.span("beside"):
        first = line(inner(), OUTER)
        recorder.add_line(first)
        recorder.flush()
        first.spans[1].start_ns = 50
        recorder.add_line(first)
    events = spans.read(tmp_path / "p.spans.jsonl").events.set_index("name")
    assert sorted(events.index) == ["beside", "handler", "net"]
    assert events.loc["handler", "duration_ns"] == 250
    assert events["parent_id"]["net"] == events["event_id"]["handler"]


@pytest.mark.parametrize(
    "wrong", [{"kind": "spam"}, {"source": "guessed"}, {"end_ns": 119}, {"end_ns": 2**60}, {"number": -1}]
)
def test_a_wrong_span_in_a_lane_is_damage(tmp_path, wrong):
    path = written(tmp_path / "p.spans.jsonl", HEADER, line(inner(**wrong)), line(OUTER))
    with pytest.raises(InputError, match="line 2 is no span record"):
        spans.read(path)


times = st.integers(-(2**61), 2**61)


@given(
    st.lists(
        st.builds(
            LaneSpan, name=st.text(max_size=9), kind=st.sampled_from(KINDS), phase=st.text(max_size=9),
            source=st.just("measured"), tags=st.text(max_size=9), message_bytes=st.none() | st.floats(0, 1e15),
            number=st.integers(1, 2**62), around=st.integers(0, 2**62), start_ns=st.integers(0, 2**50),
            end_ns=st.integers(2**50, 2**51),
        ),
        max_size=6, unique_by=lambda span: span.number,
    ),
    st.lists(st.tuples(times, times, times), max_size=4),
)  # fmt: skip
def test_any_lane_survives_the_file(tmp_path_factory, lane_spans, stretches):
    path = tmp_path_factory.mktemp("lanes") / "p.spans.jsonl"
    events = spans.read(written(path, HEADER, line(*lane_spans, stretches=stretches))).events
    assert events["name"].tolist() == [span.name for span in lane_spans]
    assert events["start_ns"].tolist() == [span.start_ns + 1000 for span in lane_spans]
    assert events["duration_ns"].tolist() == [span.end_ns - span.start_ns for span in lane_spans]
    assert events["span_id"].tolist() == [span.number + 0x100 for span in lane_spans]
    assert events["cpu_ns"].notna().all() or len(events) == 0
    assert np.isfinite(events["cpu_ns"]).all()
