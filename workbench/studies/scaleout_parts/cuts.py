"""Ways to cut a model's tables over servers, by the paper's names."""

from collections.abc import Sequence
from dataclasses import dataclass

_SHORT = {"capacity_balanced": "cap-bal", "load_balanced": "load-bal", "net_specific": "NSBP"}


@dataclass(frozen=True)
class Cut:
    """A strategy over a number of sparse shards."""

    strategy: str
    shards: int

    def __str__(self) -> str:
        if self.strategy in ("singular", "one_shard"):
            return self.strategy.replace("one_shard", "1 shard")
        return f"{_SHORT[self.strategy]} {self.shards}"

    @property
    def settings(self) -> dict[str, str | int]:
        """Of the inference workload."""
        return {"strategy": self.strategy, "shards": self.shards}


SINGULAR, ONE_SHARD = Cut("singular", 1), Cut("one_shard", 1)


def cap_bal(shards: int) -> Cut:
    """Equal bytes on every shard."""
    return Cut("capacity_balanced", shards)


def load_bal(shards: int) -> Cut:
    """Equal lookups on every shard."""
    return Cut("load_balanced", shards)


def nsbp(shards: int) -> Cut:
    """Net-specific bin packing: a shard serves one net."""
    return Cut("net_specific", shards)


def cuts_of(model: str, shards: Sequence[int]) -> list[Cut]:
    """All that the paper compares with singular: DRM3's giant table must be cut by rows, which only NSBP does."""
    strategies = (nsbp,) if model == "drm3-mini" else (cap_bal, load_bal, nsbp)
    return [ONE_SHARD, *(cut(count) for cut in strategies for count in shards)]
