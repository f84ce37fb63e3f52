"""One operator call as a profiler wrote it: operands with shape and dtype, scalars with their value.

Profilers write three lists of equal length for each call. For `aten::add_(x, y, alpha=-0.1)` on fp32 [8, 4] they are
`Input Dims` [[8, 4], [8, 4], []], `Input type` ["float", "float", "Scalar"], `Concrete Inputs` ["", "", "-0.1"].
"""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass

# The C++ names of dtypes in traces, as this package calls them. Complex numbers are left out: no model counts them.
DTYPES = {
    "double": "fp64", "float": "fp32", "c10::Half": "fp16", "c10::BFloat16": "bf16", "c10::Float8_e4m3fn": "fp8",
    "c10::Float8_e5m2": "fp8", "c10::Float8_e4m3fnuz": "fp8", "c10::Float8_e5m2fnuz": "fp8", "long int": "int64",
    "long long": "int64", "long": "int64", "int": "int32", "short int": "int16", "short": "int16", "bool": "bool",
    "signed char": "int8", "char": "int8", "unsigned char": "uint8", "c10::qint8": "int8", "c10::quint8": "uint8",
    "c10::qint32": "int32",
}  # fmt: skip
# From the lowest to the highest in type promotion.
ITEM_BYTES = {
    "bool": 1, "uint8": 1, "int8": 1, "int16": 2, "int32": 4, "int64": 8,
    "fp8": 1, "fp16": 2, "bf16": 2, "fp32": 4, "fp64": 8,
}  # fmt: skip
# Early traces name no dtypes, and no trace names those of the tensors in a list.
ASSUMED_DTYPE = "fp32"
_NOT_TENSORS = frozenset({"", "Scalar", "ScalarList", "TensorList", "GenericList", "Device"})


class Unknown(Exception):
    """The recorded inputs do not determine the cost; `cost` turns it into None."""


@dataclass(frozen=True)
class Tensor:
    """Shape and dtype (a key of ITEM_BYTES, else an unknown dtype) of one operand."""

    shape: tuple[int, ...]
    dtype: str = ASSUMED_DTYPE

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def item_bytes(self) -> int:
        """Bytes of one element."""
        if self.dtype not in ITEM_BYTES:
            raise Unknown(f"dtype {self.dtype}")
        return ITEM_BYTES[self.dtype]

    @property
    def bytes(self) -> int:
        """Bytes of all elements."""
        return self.numel * self.item_bytes


@dataclass(frozen=True)
class Call:
    """`inputs`: a Tensor, a tuple of them (a list of tensors) or None (no tensor) for each argument, in order.
    `values`: what is known of the other arguments - bool, int, float, text, a tuple of these, or None."""

    name: str
    inputs: tuple[Tensor | tuple[Tensor, ...] | None, ...]
    values: tuple[object, ...] = ()

    @property
    def operator(self) -> str:
        """The bare name: 'aten::_foreach_add_' -> 'add'."""
        return self.name.rpartition("::")[2].removeprefix("_foreach_").removesuffix("_")

    @property
    def in_place(self) -> bool:
        """Whether the first argument is overwritten (a trailing underscore, by PyTorch's convention)."""
        return self.name.endswith("_")

    def optional(self, position: int) -> Tensor | None:
        """The tensor at `position`, None where there is none."""
        found = self.inputs[position] if position < len(self.inputs) else None
        return found if isinstance(found, Tensor) else None

    def tensor(self, position: int) -> Tensor:
        """The tensor at `position`; Unknown where there is none."""
        found = self.optional(position)
        if found is None:
            raise Unknown(f"{self.name} shows no tensor at {position}")
        return found

    def optional_list(self, position: int) -> tuple[Tensor, ...]:
        """The tensors of the list at `position`; an empty list and one that was not recorded look the same."""
        found = self.inputs[position] if position < len(self.inputs) else None
        return found if isinstance(found, tuple) else ()

    def tensor_list(self, position: int) -> tuple[Tensor, ...]:
        """The tensors of the list at `position`; Unknown where they were not recorded."""
        found = self.optional_list(position)
        if not found:
            raise Unknown(f"{self.name} shows no list of tensors at {position}")
        return found

    def value(self, position: int, default: object = None) -> object:
        """The scalar, text or tuple at `position`, `default` where it was not recorded."""
        found = self.values[position] if position < len(self.values) else None
        return default if found is None else found

    def integer(self, position: int) -> int:
        """The whole number at `position`; Unknown where it was not recorded."""
        return _whole(self.value(position))

    def integers(self, position: int) -> tuple[int, ...]:
        """The whole numbers at `position` (one number is a list of one); Unknown where they were not recorded."""
        found = self.value(position)
        return tuple(map(_whole, found if isinstance(found, tuple) else (found,)))


def parse(name: str, input_dims: object, input_types: object, concrete_inputs: object) -> Call:
    """A Call from the profiler's three lists, or from their JSON text; what cannot be read counts as not recorded."""
    dims, types, concrete = map(_as_list, (input_dims, input_types, concrete_inputs))
    padded = [*types, *[""] * len(dims)]
    inputs = tuple(_input(shape, kind if types else None) for shape, kind in zip(dims, padded, strict=False))
    return Call(name, inputs, tuple(map(_concrete, concrete)))


def broadcast(shapes: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    """The common shape of `shapes` by NumPy's rule; Unknown where there is none."""
    result: list[int] = []
    for shape in shapes:
        result = [1] * (len(shape) - len(result)) + result
        for axis in range(1, len(shape) + 1):
            if 1 not in (result[-axis], shape[-axis]) and result[-axis] != shape[-axis]:
                raise Unknown(f"shapes {tuple(result)} and {shape} do not broadcast")
            if result[-axis] == 1:
                result[-axis] = shape[-axis]
    return tuple(result)


def promoted(tensors: Iterable[Tensor]) -> str:
    """The dtype that these operands have together, by PyTorch's rule: a tensor without dimensions counts only where
    its category (bool, integer, float) is higher."""
    ranked = [((_category(tensor.dtype), bool(tensor.shape)), tensor.dtype) for tensor in tensors]
    if not ranked:
        raise Unknown("no operand is a tensor")
    highest = max(ranked)[0]
    deciding = {dtype for rank, dtype in ranked if rank == highest}
    return "fp32" if deciding == {"fp16", "bf16"} else max(deciding, key=list(ITEM_BYTES).index)


def _category(dtype: str) -> int:
    if dtype not in ITEM_BYTES:
        raise Unknown(f"dtype {dtype}")
    return 0 if dtype == "bool" else 2 if dtype.startswith(("fp", "bf")) else 1


def _as_list(value: object) -> list:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return []
    return list(value) if isinstance(value, (list, tuple)) else []


def _input(dims: object, kind: object) -> Tensor | tuple[Tensor, ...] | None:
    """`kind` is the dtype's name in the trace; None where the trace has none at all."""
    if not isinstance(dims, (list, tuple)):
        return None
    if dims and all(isinstance(shape, (list, tuple)) for shape in dims):
        members = [_shape(shape) for shape in dims]
        return None if None in members else tuple(Tensor(shape) for shape in members)
    shape = _shape(dims)
    if shape is None or not isinstance(kind, str | None) or kind in _NOT_TENSORS:
        return None
    if kind is None:  # without dtypes a tensor without dimensions cannot be told from a scalar
        return Tensor(shape) if shape else None
    return Tensor(shape, DTYPES.get(kind, kind))


def _shape(dims: list) -> tuple[int, ...] | None:
    whole = all(isinstance(size, int) and not isinstance(size, bool) and size >= 0 for size in dims)
    return tuple(dims) if whole else None


def _concrete(text: object) -> object:
    """'[1, 2]' -> (1, 2), '0.5' -> 0.5, 'False' -> False, '' -> None; anything else stays text."""
    if not isinstance(text, str) or not text:
        return None
    if text.startswith("[") and text.endswith("]"):
        return tuple(_concrete(part.strip()) for part in text[1:-1].split(",") if part.strip())
    if text in ("True", "False"):
        return text == "True"
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise Unknown(f"{value!r} is no whole number")
    return value
