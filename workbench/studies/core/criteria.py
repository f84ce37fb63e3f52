"""When a quantity counts as reproduced: a range for our value, written down before anything runs."""

import math
from dataclasses import dataclass

REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE = "reproduced", "not reproduced", "inconclusive"


@dataclass(frozen=True)
class Within:
    """Ours lies within `relative` (0.05: 5 %) of the paper's value."""

    relative: float

    @property
    def text(self) -> str:
        """The criterion in words."""
        return f"within {100 * self.relative:g} % of the paper's value"

    def accepted(self, paper: float | str) -> tuple[float, float]:
        """Smallest and largest value that count as reproduced."""
        if isinstance(paper, str):
            raise TypeError(f"the paper's {paper!r} is no number: {self.text} means nothing")
        margin = abs(paper) * self.relative
        return paper - margin, paper + margin


@dataclass(frozen=True)
class AtLeast:
    """Ours is `value` or more."""

    value: float

    @property
    def text(self) -> str:
        """The criterion in words."""
        return f"at least {self.value:g}"

    def accepted(self, paper: float | str) -> tuple[float, float]:
        """Smallest and largest value that count as reproduced, whatever number the paper has."""
        return self.value, math.inf


@dataclass(frozen=True)
class Between:
    """Ours lies from `low` to `high`, ends included."""

    low: float
    high: float

    @property
    def text(self) -> str:
        """The criterion in words."""
        return f"between {self.low:g} and {self.high:g}"

    def accepted(self, paper: float | str) -> tuple[float, float]:
        """Smallest and largest value that count as reproduced, whatever number the paper has."""
        return self.low, self.high


Criterion = Within | AtLeast | Between


def judge(criterion: Criterion, paper: float | str, low: float, high: float) -> str:
    """The verdict on an interval [low, high] of ours: one that lies neither inside nor outside is inconclusive."""
    smallest, largest = criterion.accepted(paper)
    if smallest <= low and high <= largest:
        return REPRODUCED
    if high < smallest or low > largest:
        return NOT_REPRODUCED
    return INCONCLUSIVE
