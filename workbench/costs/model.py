"""What a cost is, and the registry of cost models: each is one function with its formula, symbols and source.

    @model("copy", title="Copy", operators=aten("copy_"), formula="F = 0; Q = ...", symbols="...", source="...")
    def copy(call: Call) -> Cost: ...

Importing the module of a family (workbench/costs/operators) registers its models.
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache

from workbench.costs.call import ASSUMED_DTYPE, Call, Unknown, parse

# Each operand read once, each result written once, whatever the caches hold. The reading of a line that an ordinary
# CPU store causes before it (write-allocate) is not in it: it adds up to `write_bytes` of reads.
BYTES_BASIS = "compulsory"


@dataclass(frozen=True)
class Gather:
    """Random access to rows, whose roof is the gather bandwidth at this row size and footprint, not the triad's.

    `rows` x `row_bytes` is part of the cost's `read_bytes`; `footprint_bytes` is what the rows are spread over, None
    where it is not known.
    """

    rows: float
    row_bytes: float
    footprint_bytes: float | None = None


@dataclass(frozen=True)
class Cost:
    """FLOPs and bytes (BYTES_BASIS) of one call; `model` is a key of MODELS.

    `flops` counts operations of `precision`: integer ones too, under the name of their dtype ("int64"), so that sums
    of floating-point work are over floating-point precisions. A multiply-add is 2, a division or exponential 1.
    """

    flops: float
    read_bytes: float
    write_bytes: float
    precision: str
    model: str = ""
    gather: Gather | None = None

    @property
    def bytes(self) -> float:
        """Bytes read and written."""
        return self.read_bytes + self.write_bytes


@dataclass(frozen=True)
class CostModel:
    """One model as text for people, and the function behind it. `operators` are names or patterns with `*`."""

    key: str
    title: str
    operators: tuple[str, ...]
    formula: str
    symbols: str
    source: str
    limits: str
    compute: Callable[[Call], Cost] = field(repr=False, compare=False)


# Said by every model.
_ASSUMED = f"Where a trace names no dtype (older PyTorch, tensors in a list), {ASSUMED_DTYPE} is assumed."

MODELS: dict[str, CostModel] = {}
_BY_NAME: dict[str, CostModel] = {}
_BY_PATTERN: dict[str, CostModel] = {}


def model(key: str, **text: str | tuple[str, ...]) -> Callable[[Callable[[Call], Cost]], Callable[[Call], Cost]]:
    """Register the decorated function as model `key`; `text` holds CostModel's other fields (`limits` may lack)."""

    def register(compute: Callable[[Call], Cost]) -> Callable[[Call], Cost]:
        limits = f"{text.pop('limits', '')} {_ASSUMED}".strip()
        entry = CostModel(key=key, compute=compute, limits=limits, **text)
        for operator in entry.operators:
            known = _BY_PATTERN if "*" in operator else _BY_NAME
            if operator in known or key in MODELS:
                raise ValueError(f"model {key!r}, operator {operator!r}: registered twice")
            known[operator] = entry
        MODELS[key] = entry
        return compute

    return register


def aten(*names: str) -> tuple[str, ...]:
    """Names of PyTorch's own operators."""
    return tuple(f"aten::{name}" for name in names)


@cache
def model_of(name: str) -> CostModel | None:
    """The model for operators called `name` (in-place and overload forms included), None where there is none, as for
    autograd's nodes, annotations and compiled regions."""
    base = name.partition(".")[0]
    for form in (base, base.removesuffix("_")):
        if form in _BY_NAME:
            return _BY_NAME[form]
    return next((entry for pattern, entry in _BY_PATTERN.items() if fnmatchcase(base, pattern)), None)


def cost(name: str, input_dims: object, input_types: object = (), concrete_inputs: object = ()) -> Cost | None:
    """FLOPs and bytes of one call of operator `name`.

    The others are the profiler's `Input Dims`, `Input type` and `Concrete Inputs`, as lists or as their JSON text.
    None where no model covers the operator or the inputs do not determine its cost; never raises on odd input.
    """
    found = model_of(name) if isinstance(name, str) else None
    if found is None:
        return None
    try:
        result = found.compute(parse(name.partition(".")[0], input_dims, input_types, concrete_inputs))
        sane = all(0 <= float(n) < math.inf for n in (result.flops, result.read_bytes, result.write_bytes))
    except (Unknown, ArithmeticError, LookupError, TypeError, ValueError):
        return None  # arguments of another number, rank or type than the model reads
    return dataclasses.replace(result, model=found.key) if sane else None
