"""A categorical feature as a model sees it: how many ids it has, and how samples use them."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Feature:
    """Ids 0 to `rows` - 1, and how a sample's bag of them is made.

    `pooling_factor` is the mean number of ids a sample, absent samples included; `coverage` the share of samples that
    have the feature; `zipf_exponent` the skew of ids; `session_repeat` the probability that the feature keeps its
    value from one sample of a session to the next (0 for features of the item).
    """

    name: str
    rows: int
    pooling_factor: float = 1.0
    zipf_exponent: float = 0.9
    coverage: float = 1.0
    session_repeat: float = 0.0
