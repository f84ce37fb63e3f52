"""A small execution trace as each schema of PyTorch writes it: the same calls in four shapes."""

import json

SCHEMAS = ("1.0.1", "1.0.3-chakra.0.0.4", "1.1.0-chakra.0.0.4", "1.1.1-chakra.0.0.4")
_ATTRIBUTES = {"rf_id": 0, "fw_parent": 0, "seq_id": -1, "scope": 0, "tid": 1, "fw_tid": 0, "op_schema": ""}
ALL_TO_ALL = (
    "c10d::alltoall_base_(Tensor output, Tensor input, __torch__.torch.classes.c10d.ProcessGroup process_group, "
    "int[] output_split_sizes, int[] input_split_sizes, int timeout=-1) -> __torch__.torch.classes.c10d.Work"
)


def tensor(number, shape, kind="float", item_bytes=4, device="cuda:1"):
    """An operand: kind, shape, value; the storage is numbered like the tensor, a hundred higher."""
    numel = 1
    for size in shape:
        numel *= size
    return f"Tensor({kind})", shape, [number, 100 + number, 0, numel, item_bytes, device]


def tensors(*members):
    """A list of tensors as one operand."""
    kinds, shapes, values = zip(*members, strict=True)
    return f"GenericList[{','.join(kinds)}]", list(shapes), list(values)


def integers(*values):
    """A list of whole numbers as one operand."""
    return f"GenericList[{','.join(['Int'] * len(values))}]", [[] for _ in values], list(values)


def call(number, parent, name, inputs=(), outputs=(), **attributes):
    """A node, alike for all schemas."""
    return {"id": number, "parent": parent, "name": name, "inputs": list(inputs), "outputs": list(outputs)} | {
        "attributes": _ATTRIBUTES | attributes
    }


def communicated(group):
    """Operands of a `record_param_comms` of rank 1 of 2: it sends 4 and 2 rows of 8 floats, and receives 1 and 2."""
    sent, received = tensor(6, [6, 8]), tensor(7, [3, 8])
    return [
        sent,
        ("Int", [], 12),
        group,
        ("Int", [], 1),
        ("String", [], "all_to_allv"),
        integers(4, 2),
        integers(1, 2),
    ], [received]


def calls(group):
    """A step: a matrix product, an all-to-all around its own record, and an optimizer's annotation."""
    inputs, outputs = communicated(group)
    splits = [
        tensor(7, [3, 8]),
        tensor(6, [6, 8]),
        ("Object", [], "<Object>"),
        integers(1, 2),
        integers(4, 2),
        ("Int", [], -1),
    ]
    root = "[pytorch|profiler|execution_trace|process]"
    return [
        call(5, 4, "aten::mm", [tensor(1, [2, 3]), tensor(2, [3, 4])], [tensor(3, [2, 4])], rf_id=3),
        call(4, 2, "ProfilerStep#7", scope=7, rf_id=2),
        call(8, 4, "c10d::alltoall_base_", splits, [("Object", [], "<Object>")], rf_id=4, op_schema=ALL_TO_ALL),
        call(9, 8, "record_param_comms", inputs, outputs, rf_id=5),
        call(10, 9, "nccl:all_to_all", [tensor(6, [6, 8])], rf_id=6, scope=7),
        call(13, 12, "aten::add_", [tensor(1, [2, 3]), ("Double", [], 0.5)], rf_id=8, tid=2),
        call(12, 2, "Optimizer.step#SGD.step", scope=7, rf_id=7, tid=2),
        call(2, 1, "[pytorch|profiler|execution_trace|thread]", scope=7),
        call(1, 1, root, scope=7),
    ]


def written(nodes, schema):
    """The document of `nodes` in `schema`."""
    shape = _flat if schema == "1.0.1" else _nested
    return {"schema": schema, "pid": 1, "time": "2026-01-01", "start_ts": 5, "nodes": [shape(n, schema) for n in nodes]}


def document(schema):
    """`calls` as `schema` writes them: old ones name the process group by a pointer, later ones by name."""
    group = ("Int", [], 945) if schema == "1.0.1" else ("Tuple[String,String]", [[], []], ["0", "default_pg"])
    nodes = calls(group)
    if schema != "1.0.1":
        listed = [
            {"pg_name": "0", "pg_desc": "default_pg", "backend_config": "cuda:nccl", "ranks": [], "group_size": 2}
        ]
        nodes.append(call(3, 2, "## process_group:init ##", [("String", [], json.dumps(listed))], scope=7, rf_id=1))
    return written(nodes, schema)


def _flat(node, _):
    fields = {"name": node["name"], "id": node["id"], "parent": node["parent"]} | node["attributes"]
    for side in ("input", "output"):
        kinds, shapes, values = _columns(node[f"{side}s"])
        fields |= {f"{side}s": values, f"{side}_shapes": shapes, f"{side}_types": kinds}
    return fields


def _nested(node, schema):
    fields = {"id": node["id"], "name": node["name"], "ctrl_deps": node["parent"]}
    for side in ("inputs", "outputs"):
        kinds, shapes, values = _columns(node[side])
        fields[side] = {"values": values, "shapes": shapes, "types": kinds}
        if schema.startswith("1.1.1"):
            fields[side]["strides"] = [[] for _ in kinds]
    attributes = node["attributes"].items()
    return fields | {"attrs": [{"name": name, "type": "any", "value": value} for name, value in attributes]}


def _columns(operands):
    return [list(column) for column in zip(*operands, strict=True)] or [[], [], []]
