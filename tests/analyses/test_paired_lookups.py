"""Lookups of older FBGEMM, completed from their backward node: one table group of two tables by hand."""

import pandas as pd
from hand_made import event, run_of

from workbench.analyses.core.paired_lookups import with_paired_lookups
from workbench.costs import cost

# 2 tables of together 640 elements; 30 indices in 2 x 4 bags; D is nowhere.
LOOKUP = (
    "fbgemm::split_embedding_codegen_lookup_sgd_function",
    "[[0],[640],[0],[0,0],[2],[2],[3],[],[],[3],[],[30],[9],[],[]]",
    '["float","float","float","float","int","long int","int","Scalar","Scalar","long int","Scalar","long int",'
    '"long int","Scalar",""]',
)
DENSE_LOOKUP = (
    "fbgemm::dense_embedding_codegen_lookup_function",
    "[[640],[2],[3],[],[],[3],[],[30],[9],[],[]]",
    '["float","long int","int","Scalar","Scalar","long int","Scalar","long int","long int","Scalar",""]',
)


def paired(lookup: tuple[str, str, str], optimizer: str, grad: str) -> pd.DataFrame:
    """Signatures of a lookup and its node, in that order, after pairing."""
    node = f"torch::autograd::CppNode<SplitLookupFunction_{optimizer}_Op>"
    run = run_of(
        event(lookup[0], "compute", 0, 10, step=3),
        event(f"autograd::engine::evaluate_function: {node}", "runtime", 20, 60, step=3),
        event(node, "runtime", 21, 59, step=3),
    )
    run.operators.loc[run.events["operator_id"].iloc[0], ["input_dims", "input_types"]] = lookup[1:]
    run.operators.loc[run.events["operator_id"].iloc[2], ["input_dims", "input_types"]] = [grad, '["float"]']
    assert cost(*run.operators.iloc[run.events["operator_id"].iloc[0]]) is None
    done = with_paired_lookups(run)
    return done.operators.iloc[done.events["operator_id"].iloc[[0, 2]]]


def test_a_gradient_tells_the_row_size_and_a_lookup_the_rows():
    forward, backward = (cost(*signature) for signature in paired(LOOKUP, "sgd", "[[4,32]]").itertuples(index=False))
    # D = 32 / 2: (30 - 8) x 16 additions; rows, 8 B an index and a bag; results
    assert (forward.flops, forward.read_bytes, forward.write_bytes) == (22 * 16, 30 * 64 + 38 * 8, 8 * 64)
    # each row once (at most 640 / 16 = 40 of them), 2 operations an element; gradients, positions, rows
    assert (backward.flops, backward.write_bytes) == (30 * 16 * 2, 30 * 64)
    assert backward.read_bytes == 8 * 64 + 38 * 8 + 30 * 64
    assert backward.model == "table_batched_embedding_backward"


def test_dense_tables_get_a_whole_gradient():
    forward, backward = (cost(*row) for row in paired(DENSE_LOOKUP, "Dense", "[[4,32]]").itertuples(index=False))
    assert forward.gather.row_bytes == 64
    assert (backward.model, backward.flops, backward.write_bytes) == ("embedding_dense_backward", 30 * 16, 640 * 4)


def test_what_does_not_fit_together_stays_unknown():
    for signature in paired(LOOKUP, "sgd", "[[5,32]]").itertuples(index=False):  # 5 x 2 bags are not 8
        assert cost(*signature) is None
    for signature in paired(LOOKUP, "sgd", "[[],[4]]").itertuples(index=False):  # no gradient
        assert cost(*signature) is None
    for signature in paired(LOOKUP, "adam", "[[4,32]]").itertuples(index=False):  # another optimizer's node
        assert cost(*signature) is None
