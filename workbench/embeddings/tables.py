"""What one embedding table is, and a seeded set of them with the spread that production tables show."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from workbench.data.features import Feature

if TYPE_CHECKING:
    from workbench.embeddings.plan import Shard

RowDtype = Literal["fp32", "fp16", "bf16", "int8"]
OptimizerName = Literal["rowwise_adagrad", "adagrad", "adam", "sgd"]
OPTIMIZERS: tuple[str, ...] = get_args(OptimizerName)

STATE_ELEMENT_BYTES = 4  # optimizer state is fp32 whatever the weights are
WEIGHT_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1}
INT8_SCALE_BYTES = 8  # an int8 row carries its own scale and smallest value, both fp32

# Spread over the tables of one model: skew s ~ N(0.9, 0.2) and Beta coverage are what studies of embedding access
# traces use to stand in for production; half of the features describe the user and repeat within a session.
ZIPF_MEAN, ZIPF_STD, ZIPF_RANGE = 0.9, 0.2, (0.3, 1.5)
COVERAGE_BETA = (8.0, 2.0)
POOLING_SIGMA = 0.5
USER_SHARE, USER_REPEAT = 0.5, 0.9


@dataclass(frozen=True, kw_only=True)
class TableConfig(Feature):
    """One table: a row of `dim` weights for each id of one feature, how rows are stored and what updates them."""

    dim: int
    row_dtype: RowDtype = "fp32"
    optimizer: OptimizerName = "rowwise_adagrad"

    @property
    def row_bytes(self) -> int:
        """Bytes of one row's weights, as stored."""
        return self.dim * WEIGHT_BYTES[self.row_dtype] + (INT8_SCALE_BYTES if self.row_dtype == "int8" else 0)

    @property
    def state_shape(self) -> tuple[int, ...]:
        """Shape of one row's optimizer state: its second moment, one for the row or one an element; Adam's first
        moment before it; nothing for SGD."""
        return {"rowwise_adagrad": (), "adagrad": (self.dim,), "adam": (2, self.dim), "sgd": (0,)}[self.optimizer]

    @property
    def state_bytes_per_row(self) -> int:
        """Bytes of optimizer state a row."""
        return math.prod(self.state_shape) * STATE_ELEMENT_BYTES


@dataclass(frozen=True, kw_only=True)
class TableShard(TableConfig):
    """Part of the table `whole`, from (`row_begin`, `column_begin`) on: a table of its own for lookups."""

    whole: TableConfig
    row_begin: int = 0
    column_begin: int = 0

    @classmethod
    def of(cls, table: TableConfig, shard: "Shard | None" = None) -> "TableShard":
        """The shard of `table`, or all of it: itself, if it is one. An empty shard still has one row, which nobody
        looks up."""
        if shard is None and isinstance(table, cls):
            return table
        fields = {field.name: getattr(table, field.name) for field in dataclasses.fields(TableConfig)}
        if shard is None:
            return cls(**fields, whole=table)
        fields |= {"rows": max(shard.rows, 1), "dim": shard.dim}
        return cls(**fields, whole=table, row_begin=shard.row_begin, column_begin=shard.column_begin)


def synthetic_tables(
    count: int, rows: tuple[int, int], dims: int | Sequence[int], pooling_factor: float, seed: int
) -> tuple[TableConfig, ...]:
    """`count` tables, of width or widths `dims`: rows log-uniform over `rows`, pooling lognormal with that mean."""
    dims = [dims] * count if isinstance(dims, int) else dims
    random = np.random.default_rng(seed)
    table_rows = np.exp(random.uniform(np.log(rows[0]), np.log(rows[1]), count)).round()
    pooling = random.lognormal(0.0, POOLING_SIGMA, count)
    pooling *= pooling_factor / pooling.mean()
    zipf = random.normal(ZIPF_MEAN, ZIPF_STD, count).clip(*ZIPF_RANGE)
    # A bag that is present holds at least one id, so the mean bounds how often it can be present.
    coverage = np.minimum(random.beta(*COVERAGE_BETA, count), pooling)
    repeat = np.where(random.random(count) < USER_SHARE, USER_REPEAT, 0.0)
    return tuple(
        TableConfig(
            name=f"table_{index}", rows=int(table_rows[index]), dim=dims[index], pooling_factor=float(pooling[index]),
            zipf_exponent=float(zipf[index]), coverage=float(coverage[index]), session_repeat=float(repeat[index]),
        )
        for index in range(count)
    )  # fmt: skip


def log_spaced(count: int, ends: tuple[int, int]) -> list[int]:
    """`count` numbers at the middle of equal steps of the logarithm between both `ends`, ascending."""
    steps = (np.arange(count) + 0.5) / count
    return np.exp(np.log(ends[0]) + steps * np.log(ends[1] / ends[0])).round().astype(int).tolist()
