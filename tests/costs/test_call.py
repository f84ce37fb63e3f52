"""Reading a call as profilers write it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.costs.call import Tensor, Unknown, broadcast, parse, promoted


def test_tensors_lists_and_values_are_told_apart() -> None:
    call = parse(
        "aten::x",
        [[4, 6], [], [], [[2], []], [], []],
        ["c10::Half", "long int", "Scalar", "TensorList", "ScalarList", ""],
        ["", "", "0.5", "", "[1, -2]", ""],
    )
    assert call.tensor(0) == Tensor((4, 6), "fp16")
    assert call.tensor(0).bytes == 48
    assert call.tensor(1) == Tensor((), "int64")
    assert call.optional(2) is None
    assert call.tensor_list(3) == (Tensor((2,)), Tensor(()))
    assert (call.value(2), call.integers(4), call.value(5), call.value(9)) == (0.5, (1, -2), None, None)
    with pytest.raises(Unknown):
        call.tensor(2)
    with pytest.raises(Unknown):
        call.tensor_list(0)
    with pytest.raises(Unknown):
        call.integer(2)


def test_without_types_shapes_are_fp32_and_scalars_cannot_be_told() -> None:
    call = parse("aten::x", "[[4], [], [[2], [3]]]", "", "")
    assert call.tensor(0) == Tensor((4,), "fp32")
    assert call.optional(1) is None
    assert call.tensor_list(2) == (Tensor((2,)), Tensor((3,)))


def test_a_dtype_that_is_not_known_has_no_size() -> None:
    call = parse("aten::x", [[4]], ["c10::complex<float>"], [""])
    with pytest.raises(Unknown):
        _ = call.tensor(0).bytes


@pytest.mark.parametrize(
    ("name", "operator"), [("aten::_foreach_add_", "add"), ("fbgemm::x_y", "x_y"), ("aten::t", "t")]
)
def test_the_bare_operator(name: str, operator: str) -> None:
    assert parse(name, [], [], []).operator == operator


SHAPE = st.lists(st.integers(1, 3), max_size=4).map(tuple)


@given(st.lists(SHAPE, min_size=1, max_size=3))
def test_broadcasting_is_numpys(shapes: list[tuple[int, ...]]) -> None:
    try:
        expected = np.broadcast_shapes(*shapes)
    except ValueError:
        with pytest.raises(Unknown):
            broadcast(shapes)
    else:
        assert broadcast(shapes) == expected


def test_promotion_is_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    kinds = {
        "fp32": torch.float32, "fp64": torch.float64, "fp16": torch.float16, "bf16": torch.bfloat16,
        "int64": torch.int64, "int32": torch.int32, "int8": torch.int8, "bool": torch.bool,
    }  # fmt: skip
    for left, left_type in kinds.items():
        for right, right_type in kinds.items():
            for left_shape, right_shape in (((2,), (2,)), ((2,), ()), ((), ())):
                expected = torch.result_type(
                    torch.ones(left_shape, dtype=left_type), torch.ones(right_shape, dtype=right_type)
                )
                assert kinds[promoted([Tensor(left_shape, left), Tensor(right_shape, right)])] == expected
