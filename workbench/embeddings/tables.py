"""What one embedding table is, and a seeded set of them with the spread that production tables show."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from workbench.data.features import Feature

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


def synthetic_tables(
    count: int, rows: tuple[int, int], dim: int, pooling_factor: float, seed: int
) -> tuple[TableConfig, ...]:
    """`count` tables: rows log-uniform between `rows`, pooling factors lognormal with mean `pooling_factor`."""
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
            name=f"table_{index}", rows=int(table_rows[index]), dim=dim, pooling_factor=float(pooling[index]),
            zipf_exponent=float(zipf[index]), coverage=float(coverage[index]), session_repeat=float(repeat[index]),
        )
        for index in range(count)
    )  # fmt: skip
