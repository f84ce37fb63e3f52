"""Requests for a model: seeded, each a function of its number, with the skew and pooling of its features.

A feature of the user is the same for all items of a request with its `session_repeat`; features of the item are drawn
for each. Rows follow Zipf's law and bag lengths a lognormal one, as in the click log (`data/sessions.py`).
"""

from collections.abc import Iterator

import numpy as np
from scipy.special import ndtri

from workbench.data.hashing import derive, uniform
from workbench.data.sessions import draw_bags
from workbench.workloads.inference.bags import Bags
from workbench.workloads.inference.models.config import ModelConfig
from workbench.workloads.inference.protocol.messages import Request

_CHUNK = 16  # requests that are drawn together: a feature costs the same for one or for all of them
_DENSE, _REPEATS, _FEATURES = range(3)


def make_requests(model: ModelConfig, items: int, count: int, seed: int) -> Iterator[Request]:
    """Requests 0 to count - 1, of `items` items each."""
    for first in range(0, count, _CHUNK):
        yield from _drawn(model, items, np.arange(first, min(first + _CHUNK, count)), seed)


def expected_lookups(model: ModelConfig, items: int, seed: int, count: int = 64) -> np.ndarray:
    """Mean ids a request of every table [tables], over `count` requests."""
    totals = sum(request.bags.lengths.sum(axis=1) for request in make_requests(model, items, count, seed))
    return totals / count


def _drawn(model: ModelConfig, items: int, numbers: np.ndarray, seed: int) -> list[Request]:
    keys = derive(np.uint64(seed), numbers)
    item = np.arange(items)
    dense_bits = derive(derive(derive(keys, _DENSE)[:, None], item)[:, :, None], np.arange(model.dense_features))
    dense = ndtri(uniform(dense_bits)).astype(np.float32)
    lengths, ids = [], []  # a feature each: [requests, items], and a list of one array a request
    for number, feature in enumerate(model.tables):
        feature_keys = derive(keys, _FEATURES + number)
        repeats = uniform(derive(derive(feature_keys, _REPEATS)[:, None], item)) < feature.session_repeat
        bag_keys = derive(feature_keys[:, None], np.where(repeats, 0, 1 + item))
        bag_lengths, bag_ids = draw_bags(feature, bag_keys.ravel())
        lengths.append(bag_lengths.reshape(len(numbers), items))
        ids.append(np.split(bag_ids, np.cumsum(lengths[-1].sum(axis=1))[:-1]))
    return [
        Request(
            dense[place],
            Bags(
                np.stack([of_feature[place] for of_feature in lengths]).astype(np.int64),
                np.concatenate([of_feature[place] for of_feature in ids]),
            ),
        )
        for place in range(len(numbers))
    ]
