"""Operands of execution-trace nodes: the tensors in them, and their call signature in the profiler's words."""

import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from workbench.trace.readers.execution_nodes import Node, Operand

_DTYPE = re.compile(r"Tensor\(([^()]*)\)")  # not of Tensor(nullptr (uninitialized))
_SCALARS = ("Int", "Double", "Bool", "SymInt", "SymFloat", "SymBool", "ComplexDouble")


class TensorUse(NamedTuple):
    """A tensor as a call saw it: ids count the tensor objects and storages of one trace; `offset` is in elements."""

    tensor_id: int
    storage_id: int
    offset: int
    numel: int
    item_bytes: int
    device: str
    dtype: str


def tensors(operands: Iterable[Operand]) -> Iterator[TensorUse]:
    """All tensors in the operands, those in lists included."""
    for operand in operands:
        found = _DTYPE.search(operand.kind)
        pending = [operand.value] if found else []
        while pending:
            value = pending.pop()
            if _is_tensor(value):
                yield TensorUse(*value, found[1])
            elif isinstance(value, list):
                pending.extend(reversed(value))


def total_bytes(operands: Iterable[Operand]) -> int:
    """Bytes of all tensors in the operands."""
    return sum(tensor.numel * tensor.item_bytes for tensor in tensors(operands))


def _is_tensor(value: Any) -> bool:
    """[tensor id, storage id, offset, elements, bytes an element, device]."""
    return (
        isinstance(value, list)
        and len(value) == 6
        and isinstance(value[5], str)
        and all(type(number) is int and 0 <= number < 2**63 for number in value[:5])
    )


def signature(node: Node) -> tuple[str, str, str, str]:
    """A row of the operators table, as the profiler would have written it; the three lists empty without inputs."""
    if not node.inputs:
        return node.name, "", "", ""
    dims, kinds, concrete = zip(*map(_profiled, node.inputs), strict=True)
    return node.name, _json(dims), _json(kinds), _json(concrete)


def _profiled(operand: Operand) -> tuple[list, str, str]:
    """Shape, dtype and concrete value of one input, as the profiler writes them."""
    kind, shape, value = operand
    if kind.startswith("Tensor("):
        found = _DTYPE.match(kind)
        return (_dims(shape), found[1], "") if found else ([], "", "")
    if kind.startswith("GenericList[Tensor("):
        return [_dims(member) for member in shape] if isinstance(shape, list) else [], "TensorList", ""
    if kind.startswith("GenericList["):
        return [], "ScalarList", _list_text(value)
    return ([], "Scalar", _text(value)) if kind in _SCALARS else ([], "", "")


def _dims(shape: Any) -> list[int]:
    whole = isinstance(shape, list) and all(type(size) is int and 0 <= size < 2**63 for size in shape)
    return shape if whole else []


def _list_text(value: Any) -> str:
    members = [_text(member) for member in value] if isinstance(value, list) else [""]
    return f"[{', '.join(members)}]" if all(members) else ""


def _text(value: Any) -> str:
    return str(value) if isinstance(value, (bool, int, float, str)) else ""


def _json(values: tuple) -> str:
    return msgspec.json.encode(values).decode()
