"""Bags of ids as two flat numpy arrays: what requests hold, and what is cut for batches and shards."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Bags:
    """Bags of T tables and B items: `lengths` [T, B] int64 and `ids` [sum of lengths] int64, table 0's bags first."""

    lengths: np.ndarray
    ids: np.ndarray

    @cached_property
    def bounds(self) -> np.ndarray:
        """Where item b's bag in table t begins, and at [t, B] where the table ends: [T, B + 1]."""
        bounds = np.zeros((self.lengths.shape[0], self.lengths.shape[1] + 1), dtype=np.int64)
        np.cumsum(self.lengths, axis=1, out=bounds[:, 1:])
        bounds[1:] += np.cumsum(bounds[:-1, -1])[:, None]
        return bounds

    def items(self, start: int, stop: int) -> "Bags":
        """The bags of items start to stop - 1, of all tables."""
        if (start, stop) == (0, self.lengths.shape[1]):
            return self
        return Bags(self.lengths[:, start:stop], self._joined(self.bounds[:, [start, stop]]))

    def tables(self, positions: Sequence[int]) -> "Bags":
        """The bags of these tables, in this order."""
        return Bags(self.lengths[positions], self._joined(self.bounds[positions][:, [0, -1]]))

    def piece(self, piece: int, pieces: int) -> "Bags":
        """Of one table (T = 1) the ids that are `piece` modulo `pieces`, as rows of that piece."""
        mine = self.ids % pieces == piece
        item_of_id = np.repeat(np.arange(self.lengths.shape[1]), self.lengths[0])
        lengths = np.bincount(item_of_id[mine], minlength=self.lengths.shape[1])
        return Bags(lengths[None], self.ids[mine] // pieces)

    def tensors(self) -> tuple[Tensor, Tensor]:
        """lengths and ids for the lookup kernels; they may share this memory."""
        return torch.from_numpy(np.ascontiguousarray(self.lengths)), torch.from_numpy(self.ids)

    def _joined(self, slices: np.ndarray) -> np.ndarray:
        """The ids of slices [n, 2] one after the other."""
        return np.concatenate([self.ids[start:stop] for start, stop in slices.tolist()] or [self.ids[:0]])


def stacked(parts: Sequence[Bags]) -> Bags:
    """Tables of all parts, one after the other."""
    return Bags(np.concatenate([part.lengths for part in parts]), np.concatenate([part.ids for part in parts]))
