"""FLOPs and bytes of operators from their shapes and dtypes: no measurement, and no framework needed.

    cost("aten::addmm", [[64], [8, 13], [13, 64], [], []], ["float", "float", "float", "Scalar", "Scalar"])
    -> Cost(flops=13312.0, read_bytes=4000, write_bytes=2048, precision="fp32", model="matrix_product", gather=None)

MODELS holds every model's formula, symbols, source and limits. Where operators nest, count the outermost that has a
cost with a model other than "view": views and wrappers cost nothing themselves, but a copy may be inside them.
"""

from workbench.costs.model import BYTES_BASIS, MODELS, Cost, CostModel, Gather, cost, model_of
from workbench.costs.operators.embedding import embedding_backward_cost, embedding_forward_cost
from workbench.costs.recommendation import dlrm_flops_per_sample, interaction_flops, mlp_flops, pooling_flops

__all__ = [
    "BYTES_BASIS", "MODELS", "Cost", "CostModel", "Gather", "cost", "dlrm_flops_per_sample", "embedding_backward_cost",
    "embedding_forward_cost", "interaction_flops", "mlp_flops", "model_of", "pooling_flops",
]  # fmt: skip
