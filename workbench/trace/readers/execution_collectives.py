"""Collectives and process groups of an execution trace: who talks to whom, how much, and how an all-to-all is split.

`record_param_comms` is the node that PyTorch adds for this: (tensors, sequence number, process group, rank, name, input
split, output split, first rank, stride, group size), without tensors where the collective has none, with fewer values
in older schemas, and with the same as attributes in newer ones. Backends without it show only `c10d::` operators.
"""

import json
import math
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from workbench.costs.collectives import collective_of, message_bytes, uneven_bytes
from workbench.trace.readers.columns import integer
from workbench.trace.readers.execution_nodes import Node, Operand
from workbench.trace.readers.execution_operands import total_bytes
from workbench.trace.readers.messages import Splits, splits_of, whole_numbers

_INIT = "process_group:init"
_ARGUMENTS = re.compile(r"[^(]*\((.*?)\) ?->", re.DOTALL)


class Collective(NamedTuple):
    """What a node says: `process_group` as the trace names it, `rank` in it (of an all-to-all the own one, else of the
    root or peer), splits in rows of dimension 0.

    "" or -1 where unknown; a split is empty where it is even, and None where it was not given, or shortened.
    """

    collective: str
    process_group: str
    group_size: int
    rank: int
    in_bytes: int
    out_bytes: int
    in_split: tuple[int, ...] | None = None
    out_split: tuple[int, ...] | None = None

    @property
    def uneven(self) -> bool:
        """Whether it sends or receives more to or from some ranks than others."""
        return any(len(set(split)) > 1 for split in (self.in_split, self.out_split) if split)

    @property
    def even_bytes(self) -> float:
        """Message size where every rank is taken to get as much as the others; NaN where unknown."""
        multiplied = self.collective in ("all_gather", "gather", "reduce_scatter", "scatter")
        if multiplied and self.group_size < 1 and not (self.in_bytes and self.out_bytes):
            return math.nan
        return message_bytes(self.collective, self.in_bytes, self.out_bytes, max(self.group_size, 1))

    @property
    def splits(self) -> Splits | None:
        """What an all-to-all sends to and receives from each rank; None where that is not known."""
        if self.collective != "all_to_all":
            return None
        return splits_of(self.in_split, self.out_split, self.in_bytes, self.out_bytes, self.group_size)

    def size_bytes(self, own_rank: int = -1) -> float:
        """Message size by SIZE_MEANING, that of uneven splits included; `own_rank` stands in for an unknown rank."""
        if not self.uneven:
            return self.even_bytes
        splits, rank = self.splits, self.rank if self.rank >= 0 else own_rank
        known = splits is not None and 0 <= rank < len(splits.sent_bytes)
        return uneven_bytes(*splits, rank) if known else math.nan


def process_groups(nodes: Iterable[Node]) -> list[dict[str, Any]]:
    """The groups that the init node lists: name, description, backend, size, ranks (empty: all of them), uid."""
    for node in nodes:
        if _INIT in node.name and node.inputs and isinstance(node.inputs[0].value, str):
            try:
                listed = json.loads(node.inputs[0].value)
            except (ValueError, RecursionError):  # the writer shortens long texts
                return []
            entries = listed if isinstance(listed, list) else []
            return [_process_group(entry) for entry in entries if isinstance(entry, dict)]
    return []


def collectives(calls: list[Node], groups: list[dict[str, Any]]) -> dict[int, Collective]:
    """The collectives among `calls`, by row. A size that one call tells holds for all of its process group."""
    found = {row: known for row, call in enumerate(calls) if (known := _collective(call, groups))}
    named = [known for known in found.values() if known.process_group and known.group_size > 0]
    sizes = {known.process_group: known.group_size for known in named}
    return {
        row: known._replace(group_size=sizes.get(known.process_group, known.group_size)) for row, known in found.items()
    }


def _collective(node: Node, groups: list[dict[str, Any]]) -> Collective | None:
    """The collective that a node is, None for any other node."""
    if node.name == "record_param_comms":
        return _recorded(node, groups)
    return _called(node) if node.name.startswith("c10d::") else None


def _recorded(node: Node, groups: list[dict[str, Any]]) -> Collective | None:
    inputs, attributes = node.inputs, node.attributes
    tensors_first = bool(inputs) and inputs[0].kind.startswith(("Tensor", "GenericList"))
    operands, rest = (inputs[:1], inputs[1:]) if tensors_first else ([], inputs)
    arguments = [argument.value for argument in rest] + [None] * 9
    _, group, rank, name, in_split, out_split, _, _, size = arguments[:9]
    found = collective_of(str(attributes.get("collective_name") or name))
    if found is None:  # a wait, the start or end of a coalesced group...
        return None
    group = str(attributes.get("pg_name", group[0] if isinstance(group, list) and group else group))
    in_split = whole_numbers(attributes.get("in_split_size", in_split))
    out_split = whole_numbers(attributes.get("out_split_size", out_split))
    sizes = (attributes.get("pg_size"), _listed_size(group, groups), size, len(in_split or out_split or ()))
    return Collective(
        found, group, next((n for n in map(integer, sizes) if n > 0), -1), integer(rank),
        total_bytes(operands), total_bytes(node.outputs), in_split, out_split,
    )  # fmt: skip


def _called(node: Node) -> Collective | None:
    found = collective_of(node.name)
    if found is None:
        return None
    named = dict(zip(_argument_names(node.op_schema), node.inputs, strict=False))
    outputs = [operand for name, operand in named.items() if name.startswith("output") and "split" not in name]
    inputs = [
        operand for name, operand in named.items() if name.startswith(("input", "tensor")) and "split" not in name
    ]
    in_split, out_split = (whole_numbers(_value(named.get(f"{side}_split_sizes"))) for side in ("input", "output"))
    size = len(in_split or out_split or ()) or -1
    return Collective(found, "", size, -1, total_bytes(inputs), total_bytes(outputs), in_split, out_split)


def _argument_names(op_schema: str) -> list[str]:
    """'c10d::x(Tensor output, int[] output_split_sizes, int t=-1) -> ...' -> ['output', 'output_split_sizes', 't']."""
    arguments = _ARGUMENTS.match(op_schema)
    words = [argument.split("=")[0].split() for argument in arguments[1].split(", ")] if arguments else []
    return [word[-1] if word else "" for word in words]


def _process_group(entry: dict[str, Any]) -> dict[str, Any]:
    ranks = list(whole_numbers(entry.get("ranks")) or ())
    return {
        "name": str(entry.get("pg_name", "")),
        "description": str(entry.get("pg_desc", "")),
        "backend": str(entry.get("backend_config", "")),
        "size": max(integer(entry.get("group_size")), len(ranks)),
        "ranks": ranks,
        "uid": str(entry.get("uid", entry.get("backend_id", ""))),
    }


def _listed_size(group: str, groups: list[dict[str, Any]]) -> int:
    return next((listed["size"] for listed in groups if group in (listed["name"], listed["uid"])), -1)


def _value(operand: Operand | None) -> Any:
    return None if operand is None else operand.value
