"""Requests for a model: seeded, each a function of its number, with the skew and pooling of its features.

A feature of the user is the same for all items of a request with its `session_repeat`; features of the item are drawn
for each. Rows follow Zipf's law and bag lengths a lognormal one, as in the click log (`data/sessions.py`).
"""

import functools
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from scipy.special import ndtri

from workbench.data.hashing import derive, uniform
from workbench.data.sessions import draw_bags
from workbench.errors import InputError
from workbench.workloads.inference.bags import Bags
from workbench.workloads.inference.config import Config
from workbench.workloads.inference.models.config import ModelConfig
from workbench.workloads.inference.protocol.messages import MAX_ITEMS, Request

_CHUNK = 16  # requests that are drawn together: a feature costs the same for one or for all of them
_COUNTED = 64  # requests from which the planner takes mean lookups
_DENSE, _REPEATS, _FEATURES = range(3)
_SIZES, _SIZES_SIGMA = 1 << 40, 1.0


def make_requests(model: ModelConfig, sizes: Sequence[int], seed: int) -> Iterator[Request]:
    """Request i has sizes[i] items."""
    first = 0
    for items, group in itertools.groupby(sizes):
        count = len(list(group))
        # Whole chunks, though the last may be wanted in part: whoever asks for more or fewer asks for the same.
        size = min(count, _CHUNK)
        chunks = (_drawn(model, items, range(start, start + size), seed) for start in range(first, first + count, size))
        yield from itertools.islice(itertools.chain.from_iterable(chunks), count)
        first += count


def request_sizes(config: Config, count: int) -> list[int]:
    """Items of `count` requests: all the same, lognormal with that mean and the long tail of production queries (the
    shape is DeepRecSys's, Gupta et al., ISCA 2020; the spread is ours), or those in a file, over and over."""
    if config.sizes_file is not None:
        return list(itertools.islice(itertools.cycle(_sizes_in(Path(config.sizes_file))), count))
    if config.sizes == "fixed":
        return [config.items] * count
    normal = ndtri(uniform(derive(derive(np.uint64(config.seed), _SIZES), np.arange(count))))
    sizes = config.items * np.exp(_SIZES_SIGMA * normal - _SIZES_SIGMA**2 / 2)
    return np.clip(np.rint(sizes), 1, MAX_ITEMS).astype(int).tolist()


def _sizes_in(path: Path) -> list[int]:
    """InputError unless the file holds one whole number from 1 to MAX_ITEMS a line."""
    try:
        lines = path.read_text().split()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read sizes_file={path}: {error}") from None
    wrong = [line for line in lines if not (line.isdecimal() and 1 <= int(line) <= MAX_ITEMS)]
    if wrong or not lines:
        what = f"{wrong[0]!r} is no size" if wrong else "it is empty"
        raise InputError(f"sizes_file={path}: {what}; give a whole number from 1 to {MAX_ITEMS} a line")
    return [int(line) for line in lines]


def expected_lookups(model: ModelConfig, items: int, seed: int, count: int = _COUNTED) -> np.ndarray:
    """Mean ids a request of every table [tables], over `count` requests."""
    totals = sum(request.bags.lengths.sum(axis=1) for request in make_requests(model, [items] * count, seed))
    return totals / count


# A study asks many deployments the same: what the planner counts, warm-up and run begin with the same requests. As many
# chunks are kept as the planner counts, and no more, since requests of many items are large.
@functools.lru_cache(maxsize=_COUNTED // _CHUNK)
def _drawn(model: ModelConfig, items: int, numbers: range, seed: int) -> list[Request]:
    keys = derive(np.uint64(seed), np.array(numbers))
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
