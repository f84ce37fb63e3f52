"""What a ranking model is, as data: dense features, and nets that run one after the other."""

import importlib.util
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from workbench.embeddings.tables import TableConfig
from workbench.errors import InputError

Architecture = Literal["dlrm", "multitask", "ncf", "din", "dien"]
TableType = Literal["fp32", "int8", "int4"]  # how servers keep rows: lookup.py
HAS_FBGEMM = importlib.util.find_spec("fbgemm_gpu") is not None
# With a compressed row: the width of its steps and its smallest value, both fp16; fp32 in torch's int8.
STEP_BYTES, TORCH_INT8_STEP_BYTES = 4, 8


@dataclass(frozen=True, kw_only=True)
class NetConfig:
    """One net: its tables, in the order of their embeddings, and its layers (`nets.py` says what each means).

    Layers are given by their widths after the input. Only a dlrm net may follow another one.
    """

    name: str
    architecture: Architecture
    tables: tuple[TableConfig, ...]
    bottom_mlp: tuple[int, ...] = ()
    top_mlp: tuple[int, ...]
    interaction: Literal["concat", "dot"] = "concat"  # dlrm
    head_mlp: tuple[int, ...] = ()  # multitask: what follows the shared layers, for each task; ncf: both branches
    tasks: int = 1
    hidden: int = 0  # din: width inside the attention; dien: of the recurrent state

    @property
    def outputs(self) -> int:
        """Width of what the net hands on, or of the model's scores."""
        return self.tasks * (self.head_mlp or self.top_mlp)[-1]

    @property
    def embeddings_width(self) -> int:
        """Width of all its tables' embeddings side by side."""
        return sum(table.dim for table in self.tables)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A model. A request's features are the tables of all nets, in order; every net sees all dense features."""

    name: str
    dense_features: int
    nets: tuple[NetConfig, ...]
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.nets:
            raise InputError(f"model {self.name}: it has no net")
        for net in self.nets[1:]:
            if net.architecture != "dlrm":
                raise InputError(f"model {self.name}: net {net.name} ({net.architecture}) cannot follow another net")
        for what, names in (("net", [net.name for net in self.nets]), ("table", [t.name for t in self.tables])):
            twice = [name for name, times in Counter(names).items() if times > 1]
            if twice:
                raise InputError(f"model {self.name}: two {what}s are called {twice[0]}")

    @cached_property
    def tables(self) -> tuple[TableConfig, ...]:
        """Tables of all nets, in the order of a request's features."""
        return tuple(table for net in self.nets for table in net.tables)

    @cached_property
    def table_ranges(self) -> tuple[range, ...]:
        """For each net, the positions of its tables in `tables`."""
        ends = [sum(len(net.tables) for net in self.nets[: count + 1]) for count in range(len(self.nets))]
        return tuple(range(end - len(net.tables), end) for net, end in zip(self.nets, ends, strict=True))

    @property
    def outputs(self) -> int:
        """Scores an item."""
        return self.nets[-1].outputs


def table_bytes(table: TableConfig, table_type: TableType = "fp32") -> int:
    """Bytes of one table's rows, as servers keep them."""
    return table.rows * row_bytes(table, table_type)


def row_bytes(table: TableConfig, table_type: TableType = "fp32") -> int:
    """Bytes of one row, as servers keep it."""
    if table_type == "fp32":
        return table.row_bytes
    bits = {"int8": 8, "int4": 4}[table_type]
    return table.dim * bits // 8 + (STEP_BYTES if HAS_FBGEMM or bits == 4 else TORCH_INT8_STEP_BYTES)
