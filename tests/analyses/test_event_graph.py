"""The longest chain, the slack and the replay of an event graph, against a plain recursion over what pieces need."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.analyses.core.event_graph import NO_EVENT, NOTHING, WORK, EventGraph

unhurried = settings(max_examples=60, deadline=None)  # the first call compiles


def graph_of(pieces, edges=()):
    """`pieces`: (lane, start, finish), in order; `edges`: (source, target, offset)."""
    lane, start_ns, finish_ns = np.array(pieces, dtype=float).reshape(-1, 3).T
    edges = sorted(edges, key=lambda edge: edge[1])
    source, target, offset_ns = np.array(edges, dtype=np.int64).reshape(-1, 3).T
    return EventGraph(
        start_ns=start_ns, finish_ns=finish_ns, lane=lane.astype(np.int64),
        role=np.full(len(pieces), WORK), event=np.arange(len(pieces)),
        first_edge=np.searchsorted(target, np.arange(len(pieces) + 1)), source=source,
        offset_ns=offset_ns.astype(float), cause=np.zeros(len(edges), dtype=np.int64),
    )  # fmt: skip


def finishes(graph, work_ns, delay_ns, work_scale):
    """When each piece finishes, by recursion."""

    @cache
    def start(piece):
        ready_ns = 0
        if piece > 0 and graph.lane[piece - 1] == graph.lane[piece]:
            ready_ns = start(piece - 1) + work_ns[piece - 1]
        for edge in range(graph.first_edge[piece], graph.first_edge[piece + 1]):
            at = int(graph.source[edge])
            ready_ns = max(ready_ns, start(at) + graph.offset_ns[edge] * work_scale[at])
        return ready_ns + delay_ns[piece]

    return [start(piece) + work_ns[piece] for piece in range(len(graph.lane))]


@st.composite
def graphs(draw):
    """Lanes with work and gaps between, and edges that leave a piece while it works and go to a later one."""
    pieces = []
    for lane in range(draw(st.integers(1, 4))):
        at = 0
        for gap, work in draw(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9)), min_size=1, max_size=6)):
            pieces.append((lane, at + gap, at + gap + work))
            at += gap + work
    possible = [
        (source, target, offset)
        for source, (lane, start, finish) in enumerate(pieces)
        for target, (other, begin, _) in enumerate(pieces)
        for offset in (1, finish - start)
        if other != lane and start + offset <= begin
    ]
    edges = draw(st.lists(st.sampled_from(possible), max_size=8, unique=True)) if possible else []
    return graph_of(pieces, edges)


@given(graphs(), st.data())
@unhurried
def test_a_replay_is_what_the_recursion_says(graph, data):
    count = len(graph.lane)
    factors = st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), min_size=count, max_size=count)
    work_scale, delay_scale = (np.array(data.draw(factors)) for _ in range(2))
    replayed = graph.replay(work_scale, delay_scale)
    work_ns = (graph.finish_ns - graph.start_ns) * work_scale
    expected = finishes(graph, work_ns, graph.delay_ns * delay_scale, work_scale)
    assert replayed.finish_ns.tolist() == pytest.approx(expected)
    assert graph.path(replayed)["end_ns"].max() == pytest.approx(max(expected))


@given(graphs())
@unhurried
def test_unscaled_nothing_changes_and_less_work_is_never_longer(graph):
    ones = np.ones(len(graph.lane))
    assert (graph.replay(ones, ones).finish_ns == graph.finish_ns).all()
    lengths = [graph.replay(ones * factor, ones).finish_ns.max() for factor in (0, 0.25, 0.5, 1)]
    assert lengths == sorted(lengths)


@given(graphs())
@unhurried
def test_the_path_has_no_hole_and_no_slack(graph):
    path = graph.path(graph.observed)
    assert path["start_ns"].iloc[0] == 0 and path["end_ns"].iloc[-1] == graph.finish_ns.max()
    assert (path["start_ns"].to_numpy()[1:] == path["end_ns"].to_numpy()[:-1]).all()
    on_path = path.loc[~path["delay"], "piece"]
    assert (graph.slack_ns()[on_path] == 0).all() and (graph.slack_ns() >= 0).all()


@given(graphs(), st.data())
@unhurried
def test_slack_is_what_a_piece_may_be_late(graph, data):
    piece = data.draw(st.integers(0, len(graph.lane) - 1))
    work_ns, ones = graph.finish_ns - graph.start_ns, np.ones(len(graph.lane))
    for more_ns, later_ns in ((0, 0), (1, 1)):
        delay_ns = graph.delay_ns.copy()
        delay_ns[piece] += graph.slack_ns()[piece] + more_ns
        assert max(finishes(graph, work_ns, delay_ns, ones)) == graph.finish_ns.max() + later_ns


def test_the_last_to_be_ready_binds():
    #            0: lane 0          1: lane 1        2: lane 1, needs both
    graph = graph_of([(0, 0, 10), (1, 0, 4), (1, 12, 15)], [(0, 2, 10)])
    path = graph.path(graph.observed)
    assert list(zip(path["piece"], path["delay"], path["end_ns"] - path["start_ns"], strict=True)) == [
        (0, False, 10), (2, True, 2), (2, False, 3),
    ]  # fmt: skip
    assert graph.slack_ns().tolist() == [0, 6, 0]
    assert graph.observed.through[0] == NOTHING and NO_EVENT not in graph.event
    # Ten times faster, the other one binds.
    assert graph.replay(np.array([0.1, 1, 1]), np.ones(3)).finish_ns[2] == 4 + 2 + 3
