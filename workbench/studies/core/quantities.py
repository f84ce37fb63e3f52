"""One row a quantity: ours with its interval, the paper's with its tag, and the verdict of a criterion set before."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from workbench.studies.core.criteria import INCONCLUSIVE, Criterion, judge
from workbench.studies.core.facts import Fact

CONFIDENCE = 0.95
SOURCES = ("measured", "modelled", "simulated")
NOT_TESTABLE = "not testable here"
COLUMNS = (
    "quantity", "ours", "low", "high", "unit", "source", "paper", "tag", "scale_free", "verdict", "criterion",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """What is compared, as data: `unit` is the base unit of both values ("1" for ratios and shares).

    `scale_free`: a ratio, share or curve that any machine can reproduce. `fact` is None where the paper has no value,
    and `criterion` where nothing is to be judged.
    """

    name: str
    unit: str
    scale_free: bool
    fact: Fact | None = None
    criterion: Criterion | None = None


def row(quantity: Quantity, samples: Sequence[float], source: str) -> dict:
    """The row of `quantity` (COLUMNS) from `samples`, one a seed or repeat, that are `source`: one of SOURCES.

    `ours` is their mean and `low`, `high` its interval at 95 % by Student's t. Samples that are all equal are
    their own interval, and so is a single modelled one: a formula or count gives the same each time. A single
    measured or simulated sample has none, and decides nothing.
    """
    if source not in SOURCES:
        raise ValueError(f"source {source!r} of {quantity.name!r} is none of {', '.join(SOURCES)}")
    ours, low, high = _interval(np.asarray(samples, dtype=np.float64), source)
    fact = quantity.fact
    return {
        "quantity": quantity.name, "ours": ours, "low": low, "high": high, "unit": quantity.unit, "source": source,
        "paper": None if fact is None else fact.value, "tag": "" if fact is None else fact.shown_tag,
        "scale_free": quantity.scale_free, "verdict": _verdict(quantity, low, high),
        "criterion": quantity.criterion.text if quantity.criterion else "",
    }  # fmt: skip


def missing(quantity: Quantity, source: str, why: str) -> dict:
    """The row of a `quantity` that could not be had: `why`."""
    empty = row(quantity, [math.nan], source)
    return empty | {"verdict": f"{NOT_TESTABLE}: {why}"}


def _interval(samples: np.ndarray, source: str) -> tuple[float, float, float]:
    """Mean and its interval; NaN where there is none."""
    mean = float(samples.mean())
    if (samples == samples[0]).all() and (len(samples) > 1 or source == "modelled"):
        return mean, mean, mean
    if len(samples) < 2:
        return mean, math.nan, math.nan
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(samples) - 1) * stats.sem(samples)
    return mean, float(mean - half), float(mean + half)


def _verdict(quantity: Quantity, low: float, high: float) -> str:
    obstacle = _obstacle(quantity)
    if obstacle:
        return f"{NOT_TESTABLE}: {obstacle}"
    if math.isnan(low):
        return f"{INCONCLUSIVE}: one sample has no interval"
    return judge(quantity.criterion, quantity.fact.value, low, high)


def _obstacle(quantity: Quantity) -> str:
    """Why nothing can be judged, or nothing."""
    if not quantity.scale_free:
        return "it depends on the machine or the size of what runs on it"
    if quantity.fact is None:
        return "the paper's value is not known"
    if not quantity.fact.sourced:
        return "the paper's value is from memory"
    return "" if quantity.criterion else "no criterion was set"
