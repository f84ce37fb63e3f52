"""Lookups of older FBGEMM, whose traces lack the row size, and their backward nodes, completed from each other.

Until 2023 a table-batched lookup recorded no scalars (its D is unknown), and its fused backward ran inside the autograd
node, which records the gradient [batch, sum of D] alone. Together they tell everything: this writes both signatures
anew, so that `costs` can read them. Newer traces have an operator for the backward pass and are left as they are.
"""

import dataclasses
import json
import re
from collections.abc import Callable
from fnmatch import fnmatchcase

import numpy as np
import pandas as pd

from workbench.analyses.core.rows import of_category
from workbench.costs.fbgemm_layouts import BACKWARD, FORWARD
from workbench.trace.run import Run

_NODE = re.compile(r"(?:torch::autograd::)?CppNode<SplitLookupFunction_(\w+?)_Op>")
_LOOKUP = re.compile(r"fbgemm::(?:split|(dense))_embedding_codegen_lookup_(?:(\w+)_)?function")

Signature = tuple[str, str, str, str]  # a row of `operators`


def with_paired_lookups(run: Run) -> Run:
    """`run`, its lookups and their backward nodes naming completed rows of `operators` where they can be paired.

    In each step of a process the lookups of one optimizer and its nodes pair in opposite order; a pair counts when the
    gradient's batch is that of the lookup's bags.
    """
    names = run.operators["name"].unique()
    if any(fnmatchcase(name, pattern) for pattern in BACKWARD for name in names):
        return run
    nodes = _of_optimizer(run.events, lambda name: (found := _NODE.fullmatch(name)) and found[1].lower())
    lookups = _of_optimizer(run.events, lambda name: (found := _LOOKUP.fullmatch(name)) and (found[1] or found[2]))
    operator_ids = run.events["operator_id"].to_numpy().copy()
    signatures = list(run.operators.itertuples(index=False, name=None))
    added: dict[Signature, int] = {}
    for (process, step, optimizer), forward in lookups.items():
        backward = nodes.get((process, step, optimizer), [])[::-1]
        for pair in zip(forward, backward, strict=True) if len(forward) == len(backward) else ():
            recorded = [signatures[operator_id] for operator_id in operator_ids[list(pair)]]
            for event, signature in zip(pair, _completed(*recorded, optimizer), strict=True):
                operator_ids[event] = added.setdefault(signature, len(signatures) + len(added))
    operators = pd.DataFrame([*signatures, *added], columns=run.operators.columns, dtype="object")
    return dataclasses.replace(run, events=run.events.assign(operator_id=operator_ids), operators=operators)


def _of_optimizer(events: pd.DataFrame, optimizer_of: Callable) -> dict[tuple, list[int]]:
    """(process, step, optimizer) -> rows of events, in time, of those whose name tells an optimizer."""
    chosen = np.flatnonzero(of_category(events["name"], lambda name: bool(optimizer_of(name))))
    found: dict[tuple, list[int]] = {}
    for event in events.iloc[chosen].assign(row=chosen).sort_values("start_ns").itertuples():
        found.setdefault((event.process, event.step, optimizer_of(event.name)), []).append(event.row)
    return found


def _completed(lookup: Signature, node: Signature, optimizer: str) -> tuple[Signature, Signature]:
    """Both signatures anew; as they are where the two do not fit together."""
    layout = next((layout.split() for pattern, layout in FORWARD.items() if fnmatchcase(lookup[0], pattern)), [])
    try:
        operands: dict[str, list] = {}  # argument -> (shape, type) of each operand of that name
        for argument, *operand in zip(layout, json.loads(lookup[1]), json.loads(lookup[2]), strict=False):
            operands.setdefault(argument, []).append(tuple(operand))
        ((batch, columns),) = json.loads(node[1])
        tables, bags = (operands[argument][0][0][0] - 1 for argument in ("D_offsets", "offsets"))
        if tables < 1 or bags != batch * tables:
            return lookup, node
        scalars = [str(columns) if argument == "total_D" else "" for argument in layout]
        backward = (
            _dense(operands, bags, columns // tables) if optimizer == "dense" else _fused(operands, node, optimizer)
        )
    except (ValueError, LookupError, TypeError, ArithmeticError):  # other arguments than this variant has
        return lookup, node
    return (*lookup[:3], json.dumps(scalars)), backward


def _fused(operands: dict[str, list], node: Signature, optimizer: str) -> Signature:
    """The backward pass that updates the tables, as newer traces record it."""
    name = f"fbgemm::split_embedding_backward_codegen_{optimizer}_unweighted_pt2_wrapper"
    wanted = next(layout.split() for pattern, layout in BACKWARD.items() if fnmatchcase(name, pattern))
    left = {argument: list(given) for argument, given in operands.items()}
    left["grad"] = [(json.loads(node[1])[0], json.loads(node[2])[0])]
    given = [left[argument].pop(0) if left.get(argument) else ([], "Scalar") for argument in wanted]
    dims, types = zip(*given, strict=True)
    return name, json.dumps(dims), json.dumps(types), "[]"


def _dense(operands: dict[str, list], bags: int, dim: int) -> Signature:
    """The backward pass that writes the whole gradient of the tables, as PyTorch's own operator for it."""
    indices, elements = operands["indices"][0][0], operands["weights"][0][0][0]
    dims = [[bags, dim], indices, indices, [bags], [bags], []]
    types = ["float", *["long int"] * 4, "Scalar"]
    scalars = [""] * 5 + [str(elements // dim)]
    return "aten::_embedding_bag_dense_backward", json.dumps(dims), json.dumps(types), json.dumps(scalars)
