"""Which collective an event belongs to, in which process group, the size of its message and how it is split.

Three sources, in this order: the arguments that newer profilers give ("Collective name", "In msg nelems"...), the
shapes, dtypes and values of the call, and for a kernel the calls around its launch. Sizes follow the conventions of
`costs/collectives.py`.
"""

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from workbench.costs.call import Call, Tensor, Unknown, parse
from workbench.costs.collectives import COLLECTIVES, SEND_RECV, collective_of, message_bytes, uneven_bytes
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


# The call that shows its splits: (output, input, group, output splits, input splits...), in rows of dimension 0.
_SPLIT_CALL, _OUT_SPLIT, _IN_SPLIT = "c10d::alltoall_base_", 3, 4
# The splits of a larger group are not spelled out, rank by rank.
_MOST_RANKS = 1024


class Splits(NamedTuple):
    """Bytes that an all-to-all sends to, and receives from, each rank of its group."""

    sent_bytes: tuple[float, ...]
    received_bytes: tuple[float, ...]

    @property
    def uneven(self) -> bool:
        """Whether some rank gets or gives more than another."""
        return len(set(self.sent_bytes)) > 1 or len(set(self.received_bytes)) > 1


class Message(NamedTuple):
    """`collective` and `process_group` "", `group_size` and `sequence` -1, `size_bytes` NaN where unknown."""

    collective: str
    group_size: int = -1
    size_bytes: float = math.nan
    process_group: str = ""
    sequence: int = -1
    splits: Splits | None = None


def described(args: CollectiveArgs) -> Message:
    """What the arguments of an event say. The profiler shortens long lists of splits, which are then unknown."""
    collective = collective_of(str(args.name)) or ""
    item_bytes = _SCALAR_BYTES.get(str(args.dtype), math.nan)
    in_bytes, out_bytes = integer(args.in_elements) * item_bytes, integer(args.out_elements) * item_bytes
    group_size = integer(args.group_size, bits=32)
    size_bytes = _size(collective, in_bytes, out_bytes, group_size)
    splits = None
    if collective == "all_to_all":
        rows = whole_numbers(args.in_split), whole_numbers(args.out_split)
        splits = splits_of(*rows, in_bytes, out_bytes, group_size)
    process_group = "" if args.process_group is None else str(args.process_group)
    sequence = max(integer(args.sequence), -1)
    return Message(collective, group_size, size_bytes, process_group, sequence, splits)


def called(collective: str, signature: tuple[str, str, str, str], group_size: int) -> Message:
    """What the shapes, dtypes and values of a call (a row of the operators table) say.

    c10d operators show (output, input), annotations only the input, lists of tensors no dtype and hence no size.
    """
    name, dims, types, concrete_inputs = signature
    call = parse(name, dims, types, concrete_inputs) if types else Call(name, ())
    try:
        sizes = [tensor.bytes for tensor in call.inputs if isinstance(tensor, Tensor)]
    except Unknown:
        sizes = []
    if not sizes and collective != "barrier":
        return Message(collective, group_size)
    in_bytes = sizes[-1] if sizes else 0
    out_bytes = sizes[0] if len(sizes) > 1 else 0
    if not out_bytes and group_size < 1 and collective in ("all_gather", "gather"):
        return Message(collective, group_size)
    splits = None
    if name == _SPLIT_CALL and len(sizes) == 2:
        rows = (whole_numbers(call.value(position)) for position in (_IN_SPLIT, _OUT_SPLIT))
        splits = splits_of(*rows, in_bytes, out_bytes, group_size)
    return Message(collective, group_size, _size(collective, in_bytes, out_bytes, group_size), splits=splits)


def in_context(own: Message, around: Iterable[Message]) -> Message:
    """`own`, with what it lacks taken from the messages of the calls around it, innermost first."""
    around = list(around)
    collective, group_size, size_bytes, process_group, sequence, splits = own
    if collective in _VAGUE:
        collective = next((message.collective for message in around if message.collective), collective)
    if group_size < 0:
        group_size = next((message.group_size for message in around if message.group_size >= 0), -1)
    if math.isnan(size_bytes):
        # Of nested calls one may see only the input, another both sides: the convention takes the larger.
        size_bytes = max((m.size_bytes for m in around if not math.isnan(m.size_bytes)), default=math.nan)
    process_group = process_group or next((m.process_group for m in around if m.process_group), "")
    if sequence < 0:
        sequence = next((message.sequence for message in around if message.sequence >= 0), -1)
    splits = splits or next((message.splits for message in around if message.splits), None)
    return Message(collective, group_size, size_bytes, process_group, sequence, splits)


def resolve(own: dict[int, Message], launch: np.ndarray, parents: np.ndarray) -> dict[int, Message]:
    """All messages by row, each completed from its context: for a kernel the calls around its launch."""
    resolved = {}
    for row, message in own.items():
        outer = int(launch[row]) if launch[row] >= 0 else int(parents[row])
        resolved[row] = in_context(message, (own[other] for other in ancestors(outer, parents) if other in own))
    return resolved


def of_calls(calls: Sequence[Message], transfers: Sequence[Message]) -> list[Message]:
    """`transfers` of gloo's own thread, in order, with the splits of the calls that asked for them, in order.

    Nothing but the order connects them: where there are not as many of both, or a size differs, nothing is said.
    """
    if len(calls) != len(transfers) or any(
        not math.isclose(sum(call.splits.sent_bytes), transfer.size_bytes)
        for call, transfer in zip(calls, transfers, strict=True)
    ):
        return list(transfers)
    return [
        transfer._replace(splits=call.splits, size_bytes=call.size_bytes)
        for call, transfer in zip(calls, transfers, strict=True)
    ]


def sized(message: Message, position: int) -> Message:
    """`message` with the size of an uneven all-to-all, for the rank at `position` of its group (-1: unknown)."""
    if message.splits is None or not message.splits.uneven:
        return message
    known = 0 <= position < len(message.splits.sent_bytes)
    return message._replace(size_bytes=uneven_bytes(*message.splits, position) if known else math.nan)


def whole_numbers(value: Any) -> tuple[int, ...] | None:
    """The numbers of a list, or of its text in an argument: '[1, 2]' -> (1, 2); None where it is none."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    whole = isinstance(value, (list, tuple)) and all(type(number) is int and 0 <= number < 2**63 for number in value)
    return tuple(value) if whole else None


def splits_of(
    in_split: tuple[int, ...] | None,
    out_split: tuple[int, ...] | None,
    in_bytes: float,
    out_bytes: float,
    group_size: int,
) -> Splits | None:
    """From rows for each rank and the bytes of both buffers; None where one is not known; an empty split is even."""
    if in_split is None or out_split is None or not (in_bytes >= 0 and out_bytes >= 0):
        return None
    ranks = group_size if group_size > 0 else max(len(in_split), len(out_split))
    if not 1 <= ranks <= _MOST_RANKS or {len(in_split), len(out_split)} - {0, ranks}:
        return None
    return Splits(_parts(in_split or (1,) * ranks, in_bytes), _parts(out_split or (1,) * ranks, out_bytes))


def _parts(split: tuple[int, ...], size_bytes: float) -> tuple[float, ...]:
    """Bytes for each rank."""
    rows = max(sum(split), 1)
    return tuple(size_bytes * part / rows for part in split)


def _size(collective: str, in_bytes: float, out_bytes: float, group_size: int) -> float:
    if collective not in COLLECTIVES or not (in_bytes >= 0 and out_bytes >= 0):
        return math.nan
    return message_bytes(collective, in_bytes, out_bytes, group_size)
