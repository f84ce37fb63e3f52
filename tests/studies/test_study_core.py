"""Facts, criteria, intervals and verdicts: what a study may say of a paper, and when."""

import math

import pytest
from scipy import stats

from workbench.figures import theme
from workbench.metrics import define
from workbench.studies.core.criteria import AtLeast, Between, Within, judge
from workbench.studies.core.curves import Curve, draw
from workbench.studies.core.facts import Fact
from workbench.studies.core.parts import Part, run_parts
from workbench.studies.core.quantities import COLUMNS, Quantity, row
from workbench.studies.core.result import from_json, make_result


def quantity(**changes) -> Quantity:
    fields = {"name": "q", "unit": "1", "scale_free": True, "fact": Fact(2.0, "src"), "criterion": Within(0.1)}
    return Quantity(**(fields | changes))


@pytest.mark.parametrize("tag", ["src", "src: table 3", "code: planner/constants.py", "derived: 8 GPUs a node"])
def test_a_fact_with_a_source_may_be_judged_against(tag):
    assert Fact(1.0, tag).sourced and Fact(1.0, tag).shown_tag == tag


def test_a_fact_from_memory_is_shown_as_unverified():
    fact = Fact(1.0, "recalled M")
    assert not fact.sourced and fact.shown_tag == "unverified (recalled M)"


@pytest.mark.parametrize("tag", ["recalled L", "recalled", "measured", "", "src:", "source", "my guess"])
def test_any_other_fact_is_refused(tag):
    with pytest.raises(ValueError, match="none of src, code or derived"):
        Fact(1.0, tag)


@pytest.mark.parametrize(
    ("criterion", "low", "high", "verdict"),
    [
        (Within(0.1), 1.85, 2.15, "reproduced"),
        (Within(0.1), 1.7, 1.9, "inconclusive"),
        (Within(0.1), 2.3, 2.4, "not reproduced"),
        (Within(0.1), 1.0, 3.0, "inconclusive"),
        (AtLeast(3), 3.0, 9.0, "reproduced"),
        (AtLeast(3), 1.0, 2.9, "not reproduced"),
        (AtLeast(3), 1.0, 3.1, "inconclusive"),
        (Between(-1, 1), -1.0, 1.0, "reproduced"),
        (Between(-1, 1), 1.1, 1.2, "not reproduced"),
    ],
)
def test_a_verdict_is_of_the_whole_interval(criterion, low, high, verdict):
    assert judge(criterion, 2.0, low, high) == verdict


def test_the_interval_is_students():
    samples = [1.9, 2.0, 2.2, 2.1, 1.8]
    made = row(quantity(), samples, "measured")
    low, high = stats.t.interval(0.95, 4, loc=2.0, scale=stats.sem(samples))
    assert tuple(made) == COLUMNS
    assert (made["ours"], made["low"], made["high"]) == pytest.approx((2.0, low, high))
    # Worked by hand: s = sqrt(0.1 / 4), and t(0.975, 4) = 2.7764.
    assert made["high"] - 2.0 == pytest.approx(2.7764 * math.sqrt(0.025 / 5), rel=1e-4)


def test_counts_are_their_own_interval_and_one_measurement_has_none():
    exact, repeated = row(quantity(), [2.0], "modelled"), row(quantity(), [2.0, 2.0, 2.0], "measured")
    assert exact["low"] == exact["high"] == repeated["low"] == repeated["high"] == 2.0
    assert exact["verdict"] == repeated["verdict"] == "reproduced"
    once = row(quantity(), [2.0], "measured")
    assert math.isnan(once["low"]) and once["verdict"] == "inconclusive: one sample has no interval"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"scale_free": False}, "depends on the machine"),
        ({"fact": None}, "not known"),
        ({"fact": Fact(2.0, "recalled H")}, "from memory"),
        ({"criterion": None}, "no criterion"),
    ],
)
def test_what_cannot_be_judged_says_why(changes, reason):
    verdict = row(quantity(**changes), [2.0], "modelled")["verdict"]
    assert verdict.startswith("not testable here: ") and reason in verdict


def test_a_claim_in_words_has_no_relative_criterion():
    with pytest.raises(TypeError, match="no number"):
        row(quantity(fact=Fact("quality is kept", "src")), [2.0], "modelled")
    kept = quantity(fact=Fact("quality is kept", "src"), criterion=Between(1, 3))
    assert row(kept, [2.0], "modelled")["verdict"] == "reproduced"


def test_a_source_is_one_of_three():
    with pytest.raises(ValueError, match="guessed"):
        row(quantity(), [2.0], "guessed")


def test_parts_hand_on_what_they_have():
    seen = []

    def first(scale, seeds, say):
        say("half", 0.5)
        return Part([row(quantity(), [2.0], "modelled")], notes=[f"{scale} {list(seeds)}"])

    def second(scale, seeds, say):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_parts("n", "q?", {"a": first, "b": second}, "tiny", 2, lambda *told: seen.append(told))
    assert [(text, share, len(result.table)) for text, share, result in seen] == [
        ("a", 0.0, 0), ("a: half", 0.25, 0), ("b", 0.5, 1),
    ]  # fmt: skip
    assert seen[-1][2].notes == ["tiny [0, 1]"]
    assert seen[-1][2].summary == {
        "quantities": 1, "reproduced": 1, "not_reproduced": 0, "inconclusive": 0, "not_testable": 0,
    }  # fmt: skip


CURVE = Curve(
    title="t", x="W", y="max / mean", colour="planner", source="simulated", log_x=True,
    table=[{"W": 8, "max / mean": 1.5, "planner": "<b>greedy", "low": 1.2, "high": 1.7}],
    paper=[{"W": 8, "max / mean": 1.4}],
)  # fmt: skip


def test_a_result_survives_json():
    import json

    rows = [row(quantity(), [2.0], "modelled"), row(quantity(fact=Fact("kept", "src")), [1.0], "measured")][:1]
    rows.append(row(quantity(fact=None), [1.0], "measured"))
    result = make_result("n", "q?", "tiny", 3, rows, [CURVE], ["note"])
    back = from_json(json.dumps(result.to_dict(), allow_nan=False).encode(), "here")
    assert back.to_dict() == result.to_dict()
    assert back.curves == [CURVE] and (back.name, back.question, back.seeds) == ("n", "q?", 3)


def test_a_curve_is_drawn_with_its_interval_and_the_papers_points():
    figure = draw(CURVE)
    ours, paper = figure.data
    assert paper.marker.color == "#000000"
    assert (ours.name, paper.name) == ("&lt;b&gt;greedy", "the paper")
    assert (ours.x[0], ours.y[0]) == (8, 1.5)
    assert (ours.error_y.array[0], ours.error_y.arrayminus[0]) == pytest.approx((0.2, 0.3))
    assert figure.layout.xaxis.type == "log" and figure.layout.title.subtitle.text == "simulated"


def test_parts_of_a_stack_stand_on_one_another():
    parts = ["dense", "sparse"]
    points = [{"cut": "1 shard", "ms": 1.0, "part": part} for part in parts]
    figure = draw(Curve(title="t", table=points, x="cut", y="ms", colour="part", style="stack", source="modelled"))
    assert figure.layout.barmode == "stack" and [trace.name for trace in figure.data] == parts
    assert [trace.marker.color for trace in figure.data] == [theme.REQUEST_PART_COLOUR[part] for part in parts]


def test_values_known_in_different_ways_each_say_how():
    points = [{"cut": "1 shard", "ms": 1.0, "P50": how, "source": how} for how in ("measured", "modelled")]
    figure = draw(Curve(title="t", table=points, x="cut", y="ms", colour="P50", style="bar", source="modelled"))
    assert [trace.name for trace in figure.data] == ["measured · measured", "modelled · modelled"]
    assert figure.layout.title.subtitle.text == "measured and modelled"


def test_ticks_of_measured_values_are_short():
    points = [{"ms": 15.28614, "ratio": 1.0}, {"ms": 1535.3376, "ratio": 1.1}]
    figure = draw(Curve(title="t", table=points, x="ms", y="ratio", log_x=True, source="measured"))
    assert figure.layout.xaxis.ticktext == ("15.29", "1,535")


def test_logarithmic_bars_begin_a_decade_below_the_least_at_most():
    points = [{"W": width, "B": size} for width, size in ((1, 100.0), (2, 4_000.0))]
    figure = draw(Curve(title="t", table=points, x="W", y="B", style="bar", log_y=True, source="modelled"))
    assert figure.layout.yaxis.range == (1, 4)


def test_neighbours_labels_and_equal_lines_can_be_told_apart():
    points = [{"x": x, "y": 1.0, "label": str(x)} for x in (3, 1, 2)]
    [scatter] = draw(Curve(title="t", table=points, x="x", y="y", style="scatter", source="modelled")).data
    assert scatter.textposition == ("top center", "top center", "bottom center")
    points = [{"x": 1, "y": 1.0, "planner": planner} for planner in "ab"]
    lines = draw(Curve(title="t", table=points, x="x", y="y", colour="planner", source="modelled")).data
    assert lines[0].line.dash != lines[1].line.dash


def test_every_column_and_count_is_defined():
    result = make_result("n", "q?", "tiny", 1, [], [], [])
    for key in [*result.table.columns, *result.summary]:
        assert define("study", key), key
