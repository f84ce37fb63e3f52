"""The icicle draws the tree of calls: a box a calling context, as wide as its total."""

import pandas as pd

from workbench.analyses.core.result import Result
from workbench.figures import figure

NODES = [(0, -1, "all", 10, 0), (1, 0, "main (a.py)", 10, 1), (2, 1, "<b>step</b> (b.py)", 9, 5), (3, 2, "mm", 4, 4)]


def drawn(*nodes):
    tree = [dict(zip(("node", "parent", "name", "total", "self"), node, strict=True)) for node in nodes]
    return figure(Result("stacks", pd.DataFrame({"function": ["main"]}), {"call_tree": tree}))


def test_boxes_below_their_callers():
    (icicle,) = drawn(*NODES).data
    assert list(icicle.ids) == ["0", "1", "2", "3"] and list(icicle.parents) == ["", "0", "1", "2"]
    assert list(icicle.labels) == ["all", "main", "&lt;b&gt;step&lt;/b&gt;", "mm"]
    assert list(icicle.marker.colors) == [0, 0.1, 5 / 9, 1]
    assert list(icicle.customdata[2]) == ["&lt;b&gt;step&lt;/b&gt; (b.py)", 0.9, 0.5]


def test_a_box_is_as_wide_as_its_total_also_where_children_are_left_out():
    (icicle,) = drawn(*NODES[:2], NODES[2]).data
    assert icicle.branchvalues == "remainder" and list(icicle.values) == [0, 1, 9]


def test_deeper_trees_are_taller():
    chain = [(node, node - 1, "f", 10, 0) for node in range(100)]
    heights = [drawn(*chain[:length]).layout.height for length in (2, 12, 100)]
    assert heights[0] < heights[1] < heights[2] < 1000
