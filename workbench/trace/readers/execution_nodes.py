"""Nodes of PyTorch execution traces as every schema writes them, made alike.

Schema 1.0.1 puts all fields beside one another (`inputs`, `input_shapes`, `input_types`, `parent`); later ones nest the
operands (`inputs`: values, shapes, types), call the parent `ctrl_deps` and list the rest as `attrs`. The file that
Chakra's linker writes (an execution trace with the profile's times) adds `ts`, `inclusive_dur`, `cat` and `stream`.
"""

from typing import Any, NamedTuple

import msgspec

from workbench.trace.readers.columns import integer
from workbench.trace.readers.documents import Int64

_NONE = msgspec.Raw()


class Attribute(msgspec.Struct, frozen=True):
    """One entry of `attrs`; `value` may be of any type."""

    name: str
    value: Any = None


class WrittenOperands(msgspec.Struct, frozen=True):
    """Inputs or outputs from schema 1.0.2 on."""

    values: list[Any] = []
    shapes: list[Any] = []
    types: list[str] = []


class WrittenNode(msgspec.Struct, frozen=True):
    """A node of any schema."""

    id: Int64
    name: str = ""
    inputs: list[Any] | WrittenOperands = []
    outputs: list[Any] | WrittenOperands = []
    # 1.0.1
    input_shapes: list[Any] = []
    input_types: list[str] = []
    output_shapes: list[Any] = []
    output_types: list[str] = []
    parent: Any = None
    rf_id: Any = None
    tid: Any = None
    scope: Any = None
    op_schema: Any = None
    # 1.0.2 and later
    ctrl_deps: Any = None
    attrs: list[Attribute] = []
    # with the times of a profile
    ts: msgspec.Raw = _NONE
    inclusive_dur: msgspec.Raw = _NONE
    cat: Any = None
    stream: Any = None


class Document(msgspec.Struct, frozen=True):
    """A whole execution trace."""

    nodes: list[WrittenNode]
    schema: str = ""


class Operand(NamedTuple):
    """An input or output: `kind` as in "Tensor(float)", "Int" or "GenericList[Tensor(float)]"; tensors have a shape."""

    kind: str
    shape: Any
    value: Any


class Node(NamedTuple):
    """One call, alike for all schemas. -1 where a number is not known.

    `record_function_id` is the id that the profiler gives the same call; `start_us`, `duration_us` are JSON numbers,
    empty without times; `attributes` are the other `attrs`, as written.
    """

    id: int
    parent_id: int
    name: str
    thread: int
    scope: int
    record_function_id: int
    op_schema: str
    inputs: list[Operand]
    outputs: list[Operand]
    attributes: dict[str, Any]
    category: str
    stream: int
    start_us: msgspec.Raw
    duration_us: msgspec.Raw


def node(written: WrittenNode) -> Node:
    """A node without its schema's peculiarities."""
    attributes = {attribute.name: attribute.value for attribute in written.attrs}
    parent = written.parent if written.ctrl_deps is None else written.ctrl_deps
    if isinstance(parent, list):  # Chakra allows several control dependencies: the first is the enclosing call
        parent = parent[0] if parent else None

    def field(name: str, own: Any) -> Any:
        return attributes.get(name) if own is None else own

    return Node(
        id=written.id,
        parent_id=integer(parent),
        name=written.name,
        thread=integer(field("tid", written.tid)),
        scope=integer(field("scope", written.scope)),
        record_function_id=integer(field("rf_id", written.rf_id)),
        op_schema=str(field("op_schema", written.op_schema) or ""),
        inputs=_operands(written.inputs, written.input_shapes, written.input_types),
        outputs=_operands(written.outputs, written.output_shapes, written.output_types),
        attributes=attributes,
        category=str(written.cat or ""),
        stream=integer(written.stream),
        start_us=written.ts,
        duration_us=written.inclusive_dur,
    )


def _operands(operands: list[Any] | WrittenOperands, shapes: list[Any], kinds: list[str]) -> list[Operand]:
    """Zipped; what lacks its type or shape was cut by the writer, which shortens long lists."""
    if isinstance(operands, WrittenOperands):
        operands, shapes, kinds = operands.values, operands.shapes, operands.types
    return [Operand(*parts) for parts in zip(kinds, shapes, operands, strict=False)]
