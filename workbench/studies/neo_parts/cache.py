"""Hit rates of a software cache of rows by its size, 32-way LRU and LFU, on reuse as production traces show it.

The published statistics of Meta's embedding traces (facebookresearch/dlrm_datasets, 2022) say how lookups of one batch
of 131,072 samples spread over rows by how often each row is used. Rows are drawn here with those frequencies, one after
the other and independently: what repeats over time beyond that, in users' sessions, is not in the file.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from workbench.analyses.core.caches import simulate
from workbench.errors import InputError
from workbench.studies.core.curves import Curve
from workbench.studies.core.parts import Part, Say
from workbench.studies.core.quantities import Quantity, missing, row

FILE = Path("datasets") / "dlrm_datasets_2022_locality.txt"
POLICIES = ("lru", "lfu")
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4)  # of all rows; FBGEMM's cache takes 0.2 where nothing else is said
JUDGED_SHARES = (0.1, 0.2)
ROWS = {"tiny": 10_000, "small": 200_000, "full": 1_000_000}
LOOKUPS_A_ROW = 12.7  # mean in the file's batches
BATCHES = 64  # of 2,048 samples: the file's batch in equal parts
_BIN = re.compile(r"\((\d+)(?:, (\d+)\]|\+): (\d\.\d+)")


def run(scale: str, seeds: Sequence[int], say: Say) -> Part:
    """Hits among the distinct rows of each batch, as a cache sees them that looks a batch's rows up once."""
    quantities = {
        (policy, share): Quantity(
            name=f"hits of unique rows, cache of {100 * share:g} % of rows, 32-way {policy.upper()}", unit="1",
            scale_free=True,
        )
        for policy in POLICIES for share in SHARES
    }  # fmt: skip
    judged = {key: quantity for key, quantity in quantities.items() if key[1] in JUDGED_SHARES}
    path = Path(os.environ.get("WORKBENCH_DATA", "")) / FILE
    if not path.is_file():
        why = f"WORKBENCH_DATA names no folder with {FILE}"
        return Part([missing(quantity, "simulated", why) for quantity in judged.values()], notes=[f"cache: {why}"])
    uses, shares = read_reuse(path.read_text())
    found: dict[tuple[str, float], list[float]] = {key: [] for key in quantities}
    for number, seed in enumerate(seeds):
        say(f"stream {number + 1} of {len(seeds)}", number / len(seeds))
        stream, counted = unique_row_stream(row_frequencies(uses, shares, ROWS[scale]), seed)
        for policy, share in quantities:
            hits = simulate(stream, round(share * ROWS[scale]), policy)
            found[policy, share].append(float(hits[counted].mean()))
    made = {key: row(quantity, found[key], "simulated") for key, quantity in quantities.items()}
    points = [
        {"share of rows cached": share, "hits / accesses": each["ours"], "policy": policy.upper(), "low": each["low"],
         "high": each["high"]}
        for (policy, share), each in made.items()
    ]  # fmt: skip
    curve = Curve(
        title="Hits of a row cache by its size, unique rows of batches of 2,048 samples", table=points,
        x="share of rows cached", y="hits / accesses", colour="policy", log_x=True, source="simulated",
    )  # fmt: skip
    return Part([made[key] for key in judged], [curve])


def read_reuse(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Of the first batch in the file: uses of a row in each bin [bins], the middle on a logarithmic scale, and the
    share of lookups that go to rows of that bin [bins]. InputError where the table is not there."""
    _, found, table = text.partition("Ratio of index distribution")
    bins = _BIN.findall(table.partition("[0, ")[0])
    if not (found and bins):
        raise InputError(f"{FILE} has no table 'Ratio of index distribution at different column sizes'")
    # Bins hold (low, high] uses; the last is open, and taken as twice as wide as its low end.
    uses = [np.sqrt((int(low) + 1) * (int(high) if high else 2 * int(low))) for low, high, _ in bins]
    shares = np.array([float(share) for *_, share in bins])
    return np.array(uses), shares / shares.sum()


def row_frequencies(uses: np.ndarray, shares: np.ndarray, rows: int) -> np.ndarray:
    """Probability of each row [about `rows`] so that bins have their share of rows and of lookups."""
    of_bin = shares / uses
    counts = np.maximum(np.rint(rows * of_bin / of_bin.sum()), 1).astype(int)
    return np.repeat(shares / counts, counts)


def unique_row_stream(frequencies: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Distinct rows batch after batch [n], and which of them count [n]: those of the second half of the batches."""
    random = np.random.default_rng(seed)
    lookups = random.choice(len(frequencies), size=(BATCHES, round(LOOKUPS_A_ROW * len(frequencies) / BATCHES)),
                            p=frequencies)  # fmt: skip
    batches = [random.permutation(np.unique(batch)) for batch in lookups]
    counted = np.repeat(np.arange(BATCHES) >= BATCHES // 2, [len(batch) for batch in batches])
    return np.concatenate(batches), counted
