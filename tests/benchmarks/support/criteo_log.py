"""A click log in Criteo's format whose labels a known teacher drew, so that what can be learned of it is known."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv

from workbench.data.criteo import CATEGORIES, COLUMNS, DENSE, HELD_OUT_SHARE
from workbench.data.features import Feature
from workbench.data.hashing import derive, uniform
from workbench.data.sessions import Sessions

PRESENT_SHARE = 0.9  # of the fields of a category; the others are empty
# A count is round(exp(MEAN + SPREAD x normal)): the reader's logarithm gives the teacher's own value back, to rounding.
COUNT_MEAN, COUNT_SPREAD = 5.0, 0.8


@dataclass(frozen=True)
class TeachersLog:
    """The file at `path`: `labels` [rows] and the `probability` [rows] by which the teacher drew each."""

    path: Path
    labels: np.ndarray
    probability: np.ndarray

    @classmethod
    def write(cls, path: Path, rows: int, ids: int, seed: int) -> "TeachersLog":
        """`rows` rows whose categories have `ids` values each, skewed as Zipf's law has them."""
        features = tuple(
            Feature(name=name, rows=ids, pooling_factor=PRESENT_SHARE, coverage=PRESENT_SHARE) for name in CATEGORIES
        )
        [drawn] = Sessions(features, len(DENSE), rows, 1.0, seed).held_out(0, 1, batches=1)
        counts = np.exp(COUNT_MEAN + COUNT_SPREAD * drawn.dense).round().astype(np.int64)
        columns = [pa.array(drawn.labels.astype(np.int64)), *map(pa.array, counts.T)]
        bags = np.split(drawn.indices, np.cumsum(drawn.lengths.sum(axis=1))[:-1])
        for number, (present, own) in enumerate(zip(drawn.lengths > 0, bags, strict=True)):
            names = np.array([f"{bits:08x}" for bits in derive(number, np.arange(ids)) >> np.uint64(32)], dtype=object)
            values = np.full(rows, None, dtype=object)
            values[present] = names[own]
            columns.append(pa.array(values, pa.string()))
        options = csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
        csv.write_csv(pa.table(columns, names=COLUMNS), path, options)
        return cls(path, drawn.labels, drawn.probability)

    def floor(self, seed: int) -> float:
        """Normalized entropy of the teacher itself on the rows that training under `seed` holds out."""
        held_out = uniform(derive(derive(seed, 0), np.arange(len(self.labels)))) < HELD_OUT_SHARE
        labels, probability = self.labels[held_out] == 1, self.probability[held_out].astype(np.float64)
        losses = -np.log(np.where(labels, probability, 1 - probability))
        rate = labels.mean()
        return float(losses.mean() / -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate)))
