"""Sampled call stacks as frames: whose function and file each one names; rows by frame; the tree of calls."""

import re
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

UNKNOWN_MODULE = "(unknown)"
ROOT = "all"
WHO = ["rank", "process"]
# As samplers write a frame: 'step (train.py:12)'. The line is where a sample fell, not what tells functions apart.
_PLACED = re.compile(r"(.+) \((.+?)(?::\d+)?\)")
# More boxes than this are slivers in a figure.
_MOST_NODES = 500


def frame_table(stacks: pd.DataFrame) -> pd.DataFrame:
    """One row a frame of each stack, outermost first: the stack's columns, `stack_id` (its row), function, module (the
    file that the sampler names, UNKNOWN_MODULE without one), and whether it is the innermost one."""
    texts = stacks["stack"].str.split(";")
    row = np.repeat(np.arange(len(stacks)), texts.map(len))
    codes, distinct = pd.factorize(np.array([text for stack in texts for text in stack], dtype=object))
    places = [_PLACED.fullmatch(text) for text in distinct]
    functions = [place[1] if place else text for place, text in zip(places, distinct, strict=True)]
    modules = [place[2] if place else UNKNOWN_MODULE for place in places]
    return stacks.iloc[row].assign(
        stack_id=row, function=np.array(functions, dtype=object)[codes], module=np.array(modules, dtype=object)[codes],
        innermost=np.append(row[1:] != row[:-1], True),
    )  # fmt: skip


def self_and_total(frames: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Sums over stacks by process and `keys`, the largest self first: `self_` where it is the innermost frame, `total_`
    where it is anywhere in the stack, which counts once however often it recurs."""
    keys, weights = [*WHO, *keys], ["samples", "ns"]
    once = frames.drop_duplicates(["stack_id", *keys])
    total = once.groupby(keys)[weights].sum(min_count=1).add_prefix("total_")
    own = frames[frames["innermost"]].groupby(keys)[weights].sum(min_count=1).add_prefix("self_")
    # Where nobody counted, the sum of nothing is unknown too.
    own = own.reindex(total.index).fillna(dict.fromkeys(own, 0)).where(total.notna().to_numpy())
    table = own.join(total).reset_index()
    by_size = table.sort_values([*own, *total], ascending=False, ignore_index=True)
    return by_size.assign(**{column: whole_numbers(by_size[column]) for column in ("self_samples", "total_samples")})


def whole_numbers(counts: pd.Series) -> pd.Series:
    """Counts as integers, unless some tool has averaged them or they are not known."""
    return counts.astype("int64") if (counts % 1 == 0).all() else counts


def call_tree(paths: Iterable[Sequence[str]], weights: Iterable[float]) -> list[dict]:
    """The calling contexts of stacks [n], each a path of names, outermost first: node (its number), parent (-1 for the
    root, which holds everything), name, total and self (sums of weights [n]). The heaviest ones, parents before
    children."""
    numbers: dict[tuple[int, str], int] = {}
    parents, names, totals, selves = [-1], [ROOT], [0.0], [0.0]
    for path, weight in zip(paths, weights, strict=True):
        node = 0
        totals[node] += weight
        for name in path:
            above, node = node, numbers.setdefault((node, name), len(parents))
            if node == len(parents):
                parents.append(above)
                names.append(name)
                totals.append(0.0)
                selves.append(0.0)
            totals[node] += weight
        selves[node] += weight
    # A parent weighs at least what its child does, and has the lower number.
    heaviest = sorted(range(len(parents)), key=lambda node: -totals[node])[:_MOST_NODES]
    return [{"node": node, "parent": parents[node], "name": names[node], "total": totals[node], "self": selves[node]}
            for node in heaviest]  # fmt: skip
