"""Which collective an event belongs to, among how many ranks, and the size of its message.

Three sources, in this order: the arguments that newer profilers give ("Collective name", "In msg nelems"...), the
shapes and dtypes of the call, and for a kernel the calls around its launch. Sizes follow the conventions of
`costs/collectives.py`.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from workbench.costs.call import Tensor, Unknown, parse
from workbench.costs.collectives import COLLECTIVES, SEND_RECV, collective_of, message_bytes
from workbench.trace.readers.columns import CollectiveArgs, integer
from workbench.trace.readers.links import ancestors

# Where the own name does not tell more than this, the calls around may.
_VAGUE = ("", SEND_RECV)

# at::ScalarType as NCCL arguments name it -> bytes an element.
_SCALAR_BYTES = {
    "Byte": 1, "Char": 1, "Bool": 1, "Short": 2, "Int": 4, "Long": 8, "Half": 2, "BFloat16": 2, "Float": 4, "Double": 8,
    "ComplexHalf": 4, "ComplexFloat": 8, "ComplexDouble": 16, "Float8_e4m3fn": 1, "Float8_e5m2": 1,
    "Float8_e4m3fnuz": 1, "Float8_e5m2fnuz": 1,
}  # fmt: skip


class Message(NamedTuple):
    """`collective` "" , `group_size` -1 and `size_bytes` NaN where unknown."""

    collective: str
    group_size: int = -1
    size_bytes: float = math.nan


def described(args: CollectiveArgs) -> Message:
    """What the arguments of an event say."""
    collective = collective_of(str(args.name)) or ""
    item_bytes = _SCALAR_BYTES.get(str(args.dtype), math.nan)
    in_bytes, out_bytes = integer(args.in_elements) * item_bytes, integer(args.out_elements) * item_bytes
    group_size = integer(args.group_size, bits=32)
    return Message(collective, group_size, _size(collective, in_bytes, out_bytes, group_size))


def called(collective: str, signature: tuple[str, str, str, str], group_size: int) -> Message:
    """What the shapes and dtypes of a call (a row of the operators table) say.

    c10d operators show (output, input), annotations only the input, lists of tensors no dtype and hence no size.
    """
    name, dims, types, concrete_inputs = signature
    inputs = parse(name, dims, types, concrete_inputs).inputs if types else ()
    try:
        sizes = [tensor.bytes for tensor in inputs if isinstance(tensor, Tensor)]
    except Unknown:
        sizes = []
    if not sizes and collective != "barrier":
        return Message(collective, group_size)
    in_bytes = sizes[-1] if sizes else 0
    out_bytes = sizes[0] if len(sizes) > 1 else 0
    if not out_bytes and group_size < 1 and collective in ("all_gather", "gather"):
        return Message(collective, group_size)
    return Message(collective, group_size, _size(collective, in_bytes, out_bytes, group_size))


def in_context(own: Message, around: Iterable[Message]) -> Message:
    """`own`, with what it lacks taken from the messages of the calls around it, innermost first."""
    collective, group_size, size_bytes = own
    around = list(around)
    if collective in _VAGUE:
        collective = next((message.collective for message in around if message.collective), collective)
    if group_size < 0:
        group_size = next((message.group_size for message in around if message.group_size >= 0), -1)
    if math.isnan(size_bytes):
        # Of nested calls one may see only the input, another both sides: the convention takes the larger.
        size_bytes = max((m.size_bytes for m in around if not math.isnan(m.size_bytes)), default=math.nan)
    return Message(collective, group_size, size_bytes)


def resolve(own: dict[int, Message], launch: np.ndarray, parents: np.ndarray) -> dict[int, Message]:
    """All messages by row, each completed from its context: for a kernel the calls around its launch."""
    resolved = {}
    for row, message in own.items():
        outer = int(launch[row]) if launch[row] >= 0 else int(parents[row])
        resolved[row] = in_context(message, (own[other] for other in ancestors(outer, parents) if other in own))
    return resolved


def _size(collective: str, in_bytes: float, out_bytes: float, group_size: int) -> float:
    if collective not in COLLECTIVES or not (in_bytes >= 0 and out_bytes >= 0):
        return math.nan
    return message_bytes(collective, in_bytes, out_bytes, group_size)
