"""Where the arguments of FBGEMM's table-batched embedding operators stand, by variant.

Tables show as one flat tensor of all weights, in up to three places (host, device, unified memory) of which one or more
are in use. `D_offsets` [tables + 1] bounds each table's columns of the output, `offsets` [bags + 1] each bag's indices;
operators without pooling (nobag) name the row size D itself.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase

from workbench.costs.call import Call, Tensor, Unknown

_PLACES = "weights weights weights cache placements weights_offsets"
_HOST = "weights placements weights_offsets"
_BAGS = "indices offsets pooling sample_weights"

FORWARD = {
    "fbgemm::split_embedding_codegen_lookup_*_function":
        f"{_PLACES} D_offsets total_D max_D hash_sizes hash_bits {_BAGS}",
    "fbgemm::split_embedding_codegen_lookup_*_function_cpu":
        f"{_HOST} D_offsets total_D max_D hash_sizes hash_bits {_BAGS}",
    "fbgemm::split_embedding_codegen_forward_*_pt2_wrapper":
        f"{_PLACES} D_offsets total_D max_D hash_sizes {_BAGS}",
    "fbgemm::split_embedding_codegen_forward_cpu":
        f"weights weights_offsets D_offsets total_D hash_sizes {_BAGS}",
    "fbgemm::split_embedding_nobag_codegen_forward_*_pt2_wrapper":
        f"{_PLACES} D hash_sizes indices offsets",
    "fbgemm::split_embedding_nobag_codegen_forward_cpu":
        "weights weights_offsets D hash_sizes indices offsets",
    "fbgemm::dense_embedding_codegen_lookup_function":
        f"weights weights_offsets D_offsets total_D max_D hash_sizes hash_bits {_BAGS}",
}  # fmt: skip
BACKWARD = {
    "fbgemm::split_embedding_backward_codegen_*_pt2_wrapper":
        f"grad {_PLACES} D_offsets max_D mixed_D hash_sizes hash_bits {_BAGS}",
    "fbgemm::split_embedding_backward_codegen_*_cpu":
        f"grad {_HOST} D_offsets max_D hash_sizes hash_bits {_BAGS}",
    "fbgemm::split_embedding_nobag_backward_codegen_*_pt2_wrapper":
        f"grad {_PLACES} D hash_sizes hash_bits indices offsets",
    "fbgemm::split_embedding_nobag_backward_codegen_*_cpu":
        f"grad {_HOST} D hash_sizes hash_bits indices offsets",
}  # fmt: skip
SAMPLE_WEIGHTS_BACKWARD = {
    "fbgemm::split_embedding_codegen_grad_indice_weights_*pt2_wrapper":
        f"grad {_PLACES} D_offsets max_D indices offsets",
    "fbgemm::split_embedding_codegen_grad_indice_weights_cpu":
        "grad weights weights_offsets D_offsets indices offsets",
}  # fmt: skip
QUANTIZED = {
    "fbgemm::int_nbit_split_embedding_codegen_lookup_function":
        "weights weights placements weights_offsets weight_types D_offsets total_D "
        f"int2 int4 int8 fp16 fp32 {_BAGS} output_dtype",
}  # fmt: skip

_MEAN, _NO_POOLING = 1, 2  # FBGEMM's pooling modes


@dataclass(frozen=True)
class Lookup:
    """What these operators have in common. `weights`: all tables' together; `bags`: None without pooling; `dim`: mean
    elements of a row over tables; `values`: the recorded arguments by name."""

    weights: Tensor
    indices: Tensor
    bags: int | None
    dim: float
    weighted: bool
    mean: bool
    values: dict[str, object]


def read(call: Call, layouts: dict[str, str]) -> Lookup:
    """The arguments of `call` by the layout of its variant; Unknown where one that is needed was not recorded."""
    names = next(layout.split() for pattern, layout in layouts.items() if fnmatchcase(call.name, pattern))
    named = [(name, tensor) for position, name in enumerate(names) if (tensor := call.optional(position)) is not None]
    tensors = dict(named)
    values = {name: call.value(position) for position, name in enumerate(names)}
    placed = [tensor for name, tensor in named if name == "weights" and tensor.numel]
    if not placed:
        raise Unknown(f"{call.name} shows no weights")
    weights = Tensor((sum(tensor.numel for tensor in placed),), placed[0].dtype)
    pooled = "D" not in names and values.get("pooling") != _NO_POOLING
    bags = tensors["offsets"].numel - 1 if pooled else None
    sample_weights = tensors.get("sample_weights")
    return Lookup(
        weights=weights,
        indices=tensors["indices"],
        bags=bags,
        dim=_dim(call, names, tensors, values, weights),
        weighted=sample_weights is not None and sample_weights.numel > 0,
        mean=values.get("pooling") == _MEAN,
        values=values,
    )


def _dim(call: Call, names: list[str], tensors: dict[str, Tensor], values: dict[str, object], weights: Tensor) -> float:
    if "D" in names:
        return call.integer(names.index("D"))
    if "grad" in names:  # [batch, sum of D], or flat where the batch differs by table
        return tensors["grad"].numel / (tensors["offsets"].numel - 1)
    if values["total_D"] is not None:
        return call.integer(names.index("total_D")) / (tensors["D_offsets"].numel - 1)
    # Older traces record no scalars. Row-wise optimizers keep one value a row, so their state tells how many rows.
    states = [t.numel for t in call.inputs[len(names) :] if isinstance(t, Tensor) and t.dtype == "fp32"]
    if "_rowwise" not in call.name or "partial" in call.name or not any(states):
        raise Unknown(f"row size of {call.name}")
    return weights.numel / max(states)
