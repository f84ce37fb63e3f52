"""What a paper says, with where that was read: only a value whose source can be named is judged against."""

import re
from dataclasses import dataclass

_SOURCED = re.compile(r"(src|code|derived)(: \S.*)?")
_RECALLED = ("recalled H", "recalled M")


@dataclass(frozen=True)
class Fact:
    """A paper's value (a number in the unit of its quantity, or a claim in words) and its tag.

    Tags: `src: where` read in the paper, `code: where` in its public code, `derived: from what` arithmetic on such
    facts; `recalled H` and `recalled M` are from memory with high and medium confidence, and are shown as unverified.
    Nothing less sure is taken: ValueError.
    """

    value: float | str
    tag: str

    def __post_init__(self) -> None:
        if not (_SOURCED.fullmatch(self.tag) or self.tag in _RECALLED):
            allowed = "src, code or derived (': where' may follow), recalled H, recalled M"
            raise ValueError(f"tag {self.tag!r} of the fact {self.value!r} is none of {allowed}")

    @property
    def sourced(self) -> bool:
        """Whether its source can be named."""
        return self.tag not in _RECALLED

    @property
    def shown_tag(self) -> str:
        """The tag as tables show it."""
        return self.tag if self.sourced else f"unverified ({self.tag})"
