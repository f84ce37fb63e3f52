"""Rows of a table as they are stored: fp32, fp16, bf16, or int8 with a scale and a smallest value for each row.

Arithmetic is in fp32 always: rows are widened when read and rounded when written. Rounding is stochastic, up with the
probability of the part that is cut off: it has no bias, where rounding to nearest would lose every update below half a
step for ever (Gupta et al., ICML 2015). Its random numbers are a hash of (table, step, row, column), so that they
depend neither on threads, nor on which other rows are written, nor on how the table is cut into shards.
"""

import zlib
from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from workbench.embeddings.tables import TableConfig, TableShard

# Bits of the fraction, and the exponent below which steps get no smaller: fp16's least normal number; for bf16 one
# whose step is still normal in fp32.
_FLOATS = {"fp16": (torch.float16, 10, -14), "bf16": (torch.bfloat16, 7, -119)}
_INT8_STEPS = 255


class Rows:
    """The rows of `tables`, one table after the other, fp32 [rows, dim] to whoever reads or writes them.

    The tables, or shards, are of one width and format, and begin at the same column.
    """

    def __init__(self, tables: Sequence[TableConfig], device: torch.device, seed: int) -> None:
        shards = [TableShard.of(table) for table in tables]
        self.format, self._column_begin = shards[0].row_dtype, shards[0].column_begin
        counts = [shard.rows for shard in shards]
        dtype = {"fp32": torch.float32, "int8": torch.uint8}.get(self.format) or _FLOATS[self.format][0]
        self.stored = torch.zeros(sum(counts), shards[0].dim, dtype=dtype, device=device)
        if self.format == "int8":
            self.scales = torch.zeros(sum(counts), 2, device=device)  # a step, and what 0 stands for
        # A row's number in its whole table, and that table's seed of 32 bits: what it is rounded by.
        self._firsts = torch.tensor([0, *accumulate(counts)][:-1], device=device)
        self._shifts = torch.tensor([shard.row_begin for shard in shards], device=device) - self._firsts
        self._seeds = torch.tensor([zlib.crc32(f"{seed} {shard.name}".encode()) for shard in shards], device=device)

    def read(self, rows: Tensor) -> Tensor:
        """Rows [n] as fp32 [n, dim]."""
        found = self.stored[rows].float()
        if self.format != "int8":
            return found
        step, least = self.scales[rows].split(1, dim=1)
        return found * step + least

    def pool(self, rows: Tensor, starts: Tensor) -> Tensor:
        """Sum of each bag's rows, fp32 [bags, dim]: bag b is `rows[starts[b] : starts[b + 1]]`."""
        weight = self.stored
        if self.format != "fp32":  # widened once a row, not once a lookup
            unique, rows = torch.unique(rows, return_inverse=True)
            weight = self.read(unique)
        return embedding_bag(rows, weight, starts, mode="sum", include_last_offset=True)

    def write(self, rows: Tensor, values: Tensor, step: int) -> None:
        """Round `values` fp32 [n, dim] into the distinct rows [n]. Each of a table's writes is of another `step`."""
        if self.format == "fp32":
            self.stored[rows] = values
            return
        threshold = self._uniform(rows, step)
        if self.format == "int8":
            least, most = values.aminmax(dim=1, keepdim=True)
            step = (most - least) / _INT8_STEPS
            self.scales[rows] = torch.cat([step, least], dim=1)
            steps = ((values - least) / step.clamp_min(torch.finfo(step.dtype).tiny)).clamp(0, _INT8_STEPS)
            self.stored[rows] = _round(steps, threshold).to(torch.uint8)
            return
        dtype, fraction_bits, least_exponent = _FLOATS[self.format]
        exponent = (values.view(torch.int32) >> 23 & 0xFF).clamp_min(least_exponent + 127)
        step = (exponent - fraction_bits << 23).view(torch.float32)  # a power of two, so that dividing by it is exact
        most = torch.finfo(dtype).max
        self.stored[rows] = (_round(values / step, threshold) * step).clamp(-most, most).to(dtype)

    @property
    def columns(self) -> dict[str, Tensor]:
        """What is stored, [rows, ...] each: writing into it changes the rows."""
        if self.format != "int8":
            return {"weight": self.stored}
        return {"weight": self.stored, "scale": self.scales[:, 0], "least": self.scales[:, 1]}

    def dense(self) -> Tensor:
        """All rows, fp32 [rows, dim]: the stored tensor itself if that is fp32, else a copy."""
        return (
            self.stored
            if self.format == "fp32"
            else self.read(torch.arange(len(self.stored), device=self.stored.device))
        )

    def _uniform(self, rows: Tensor, step: int) -> Tensor:
        """Numbers in [0, 1) of 24 bits for each element: fp32 [n, dim]. Each is MurmurHash3's 32-bit finaliser of its
        element's number under a key of seed and step; int64, since torch has no unsigned shifts everywhere."""
        table = torch.bucketize(rows, self._firsts, right=True) - 1
        keys = _mix(_mix(self._seeds) ^ (step & 0xFFFFFFFF))
        columns = torch.arange(self.stored.shape[1], device=rows.device) + self._column_begin
        bits = _mix(_mix((rows + self._shifts[table]) ^ keys[table])[:, None] ^ _mix(columns + 1))
        return (bits >> 8).float() * 2.0**-24


def _round(steps: Tensor, threshold: Tensor) -> Tensor:
    """Up where the part after the point exceeds the threshold, which is uniform in [0, 1)."""
    whole = steps.floor()
    return whole + (steps - whole > threshold)


def _mix(bits: Tensor) -> Tensor:
    bits = bits & 0xFFFFFFFF
    bits = ((bits ^ (bits >> 16)) * 0x85EBCA6B) & 0xFFFFFFFF
    bits = ((bits ^ (bits >> 13)) * 0xC2B2AE35) & 0xFFFFFFFF
    return bits ^ (bits >> 16)
