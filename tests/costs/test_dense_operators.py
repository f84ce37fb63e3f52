"""Dense operators against figures worked by hand: FLOPs, bytes read, bytes written, precision."""

import math

import pytest
from signatures import NONE, Argument, cost_of, index, tensor, tensors, value

ONE = value(1)
BF16, INT8 = "c10::BFloat16", "signed char"
IMAGE = (tensor(2, 4, 9, 9), tensor(6, 4, 3, 3), tensor(6))
STRIDE_2 = (value([2, 2]), value([1, 1]), value([1, 1]))
SAME = (value([1]), value([0]), value([1]))

WORKED: list[tuple[str, tuple[Argument, ...], tuple[float, float, float, str]]] = [
    # matrix products: 2 m n k; both factors and the added matrix read, the result written
    ("aten::mm", (tensor(3, 4), tensor(4, 5)), (120, 4 * 32, 4 * 15, "fp32")),
    ("aten::addmm", (tensor(5), tensor(3, 4), tensor(4, 5), ONE, ONE), (120, 4 * 37, 4 * 15, "fp32")),
    ("aten::addmm_", (tensor(3, 5), tensor(3, 4), tensor(4, 5), ONE, ONE), (120, 4 * 47, 4 * 15, "fp32")),
    ("aten::linear", (tensor(2, 3, 4), tensor(5, 4), tensor(5)), (240, 4 * 49, 4 * 30, "fp32")),
    ("aten::linear", (tensor(3, 4), tensor(5, 4), NONE), (120, 4 * 32, 4 * 15, "fp32")),
    (
        "mkldnn::_linear_pointwise",  # with the bias and the activation behind it
        (tensor(3, 4), tensor(5, 4), tensor(5), NONE, value([]), NONE),
        (120, 4 * 37, 4 * 15, "fp32"),
    ),
    ("aten::bmm", (tensor(2, 3, 4), tensor(2, 4, 5)), (240, 4 * 64, 4 * 30, "fp32")),
    # dot interaction of the dense vector and 3 embeddings of 4 elements: 6 pairs of 4 multiply-adds a sample; joined
    # they are 4 + 6 wide
    (
        "workbench::dot_interaction",
        (tensor(5, 4), tensors((5, 8), (5, 4)), index(3)),
        (5 * 6 * 8, 4 * 5 * 16, 4 * 5 * 10, "fp32"),
    ),
    (
        "workbench::dot_interaction_backward",  # each pair's gradient into both its vectors
        (tensor(5, 10), tensor(5, 4), tensors((5, 8), (5, 4)), index(3)),
        (5 * 6 * 16, 4 * 5 * (10 + 16), 4 * 5 * 16, "fp32"),
    ),
    ("aten::matmul", (tensor(2, 1, 3, 4), tensor(7, 4, 5)), (14 * 120, 4 * (24 + 140), 4 * 14 * 15, "fp32")),
    ("aten::addbmm", (tensor(3, 5), tensor(2, 3, 4), tensor(2, 4, 5), ONE, ONE), (240, 4 * 79, 4 * 15, "fp32")),
    ("aten::mv", (tensor(3, 4), tensor(4)), (24, 4 * 16, 4 * 3, "fp32")),
    ("aten::dot", (tensor(9), tensor(9)), (18, 4 * 18, 4, "fp32")),
    ("aten::mm", (tensor(3, 4, dtype=BF16), tensor(4, 5, dtype=BF16)), (120, 2 * 32, 2 * 15, "bf16")),
    ("aten::_int_mm", (tensor(3, 4, dtype=INT8), tensor(4, 5, dtype=INT8)), (120, 32, 4 * 15, "int8")),
    # convolutions: 9 x 9 input, 3 x 3 kernel, stride 2, padding 1 -> 5 x 5; transposed back from 5 x 5 -> 9 x 9
    (
        "aten::convolution",
        (*IMAGE, *STRIDE_2, value(False), value([0, 0]), value(1)),
        (2 * 2 * 25 * 6 * 4 * 9, 4 * (648 + 216 + 6), 4 * 2 * 6 * 25, "fp32"),
    ),
    (
        "aten::convolution",  # grouped: each filter sees half of the channels
        (tensor(2, 8, 9), tensor(6, 4, 3), NONE, *SAME, value(False), value([0]), value(2)),
        (2 * 2 * 7 * 6 * 4 * 3, 4 * (144 + 72), 4 * 2 * 6 * 7, "fp32"),
    ),
    (
        "aten::convolution",  # transposed: weight is [in, out, kernel]
        (tensor(2, 6, 5, 5), tensor(6, 4, 3, 3), NONE, *STRIDE_2, value(True), value([0, 0]), value(1)),
        (2 * 2 * 25 * 6 * 4 * 9, 4 * (300 + 216), 4 * 2 * 4 * 81, "fp32"),
    ),
    (
        "aten::convolution_backward",  # of the weight and bias only: the image needs no gradient
        (
            tensor(2, 6, 5, 5), *IMAGE[:2], value([6]), *STRIDE_2, value(False), value([0, 0]), ONE,
            value([False, True, True]),
        ),
        (2 * 2 * 25 * 6 * 4 * 9, 4 * (300 + 648), 4 * (216 + 6), "fp32"),
    ),
    (
        "aten::cudnn_convolution",  # padding before stride, no bias
        (*IMAGE[:2], value([1, 1]), value([2, 2]), value([1, 1]), ONE, value(False), value(False), value(True)),
        (2 * 2 * 25 * 6 * 4 * 9, 4 * (648 + 216), 4 * 2 * 6 * 25, "fp32"),
    ),
    (
        "aten::miopen_convolution",
        (*IMAGE, value([1, 1]), value([2, 2]), value([1, 1]), ONE, value(False), value(False)),
        (2 * 2 * 25 * 6 * 4 * 9, 4 * (648 + 216 + 6), 4 * 2 * 6 * 25, "fp32"),
    ),
    # pooling: 9 x 9, windows of 3 x 3 at every second place, padding 1 -> 5 x 5; without a stride windows touch: 3 x 3
    (
        "aten::max_pool2d_with_indices",
        (tensor(2, 4, 9, 9), value([3, 3]), value([2, 2]), value([1, 1]), value([1, 1]), value(False)),
        (2 * 4 * 25 * 9, 4 * 648, (4 + 8) * 200, "fp32"),
    ),
    (
        "aten::max_pool2d_with_indices_backward",
        (tensor(2, 4, 5, 5), tensor(2, 4, 9, 9), *[NONE] * 5, index(2, 4, 5, 5)),
        (200, (4 + 8) * 200, 4 * 648, "fp32"),
    ),
    (
        "aten::avg_pool2d",
        (tensor(2, 4, 9, 9), value([3, 3]), value([]), value([0, 0]), value(False), value(True), NONE),
        (2 * 4 * 9 * 9, 4 * 648, 4 * 72, "fp32"),
    ),
    ("aten::_adaptive_avg_pool2d", (tensor(2, 4, 9, 9), value([3, 3])), (648, 4 * 648, 4 * 72, "fp32")),
    ("aten::_adaptive_avg_pool2d_backward", (tensor(2, 4, 3, 3), tensor(2, 4, 9, 9)), (720, 4 * 72, 4 * 648, "fp32")),
    # normalisation: 8 FLOPs an element forward with weight and bias, 13 backward
    ("aten::native_layer_norm", (tensor(4, 6), value([6]), tensor(6), tensor(6), ONE), (192, 144, 96 + 32, "fp32")),
    ("aten::native_layer_norm", (tensor(4, 6), value([6]), NONE, NONE, ONE), (144, 96, 96 + 32, "fp32")),
    (
        "aten::native_layer_norm_backward",
        (tensor(4, 6), tensor(4, 6), value([6]), tensor(4, 1), tensor(4, 1), tensor(6), tensor(6), NONE),
        (13 * 24, 96 + 96 + 24 + 32, 96 + 48, "fp32"),
    ),
    (
        "aten::native_batch_norm",  # training
        (tensor(2, 3, 5), tensor(3), tensor(3), tensor(3), tensor(3), value(True), value(0.1), value(1e-05)),
        (8 * 30, 120 + 24, 120 + 24, "fp32"),
    ),
    (
        "aten::native_batch_norm",  # inference
        (tensor(2, 3, 5), tensor(3), tensor(3), tensor(3), tensor(3), value(False), value(0.1), value(1e-05)),
        (2 * 30, 120 + 24 + 24, 120, "fp32"),
    ),
    (
        "aten::native_batch_norm_backward",
        (tensor(2, 3, 5), tensor(2, 3, 5), tensor(3), tensor(3), tensor(3), tensor(3), tensor(3), value(True)),
        (13 * 30, 120 + 120 + 12 + 24, 120 + 24, "fp32"),
    ),
    (
        "aten::native_group_norm",  # 2 examples x 2 groups of statistics
        (tensor(2, 4, 6), tensor(4), tensor(4), value(2), value(4), value(6), value(2), value(1e-05)),
        (8 * 48, 192 + 32, 192 + 32, "fp32"),
    ),
    (
        "aten::native_group_norm_backward",
        (tensor(2, 4, 6), tensor(2, 4, 6), tensor(2, 2), tensor(2, 2), tensor(4)),
        (13 * 48, 192 + 192 + 16 + 32, 192 + 32, "fp32"),
    ),
    ("aten::_fused_rms_norm", (tensor(4, 6), value([6]), tensor(6), NONE), (96, 96 + 24, 96 + 16, "fp32")),
    (
        "aten::_fused_rms_norm_backward",
        (tensor(4, 6), tensor(4, 6), value([6]), tensor(4, 1), tensor(6), value([True, True])),
        (9 * 24, 96 + 96 + 16 + 24, 96 + 24, "fp32"),
    ),
    ("aten::_softmax", (tensor(4, 6), ONE, value(False)), (120, 96, 96, "fp32")),
    ("aten::_log_softmax_backward_data", (tensor(4, 6), tensor(4, 6), ONE, value(6)), (96, 192, 96, "fp32")),
    # elementwise: operands read, result written; broadcasting, promotion, in place, out=
    ("aten::add", (tensor(4, 6), tensor(6), ONE), (24, 96 + 24, 96, "fp32")),
    ("aten::add", (tensor(4, 1), tensor(1, 6), ONE), (24, 40, 96, "fp32")),
    ("aten::add_", (tensor(4, 6), tensor(4, 6), value(-0.1)), (48, 192, 96, "fp32")),
    ("aten::add", (tensor(4), tensor(4), ONE, tensor(4)), (4, 32, 16, "fp32")),
    ("aten::mul", (tensor(4, 6), value(0.5)), (24, 96, 96, "fp32")),
    ("aten::mul", (tensor(4, 6), tensor(dtype="double")), (24, 96 + 8, 96, "fp32")),
    ("aten::mul", (index(4), tensor(4)), (4, 48, 16, "fp32")),
    ("aten::mul", (tensor(4, dtype=BF16), tensor(4, dtype="c10::Half")), (4, 16, 16, "fp32")),
    ("aten::remainder", (index(5), value(3)), (5, 40, 40, "int64")),
    ("aten::gt", (tensor(4, 6), value(0)), (24, 96, 24, "fp32")),
    ("aten::eq", (index(4), index(4)), (4, 64, 4, "int64")),
    ("aten::where", (tensor(4, dtype="bool"), tensor(4), tensor()), (4, 4 + 16 + 4, 16, "fp32")),
    ("aten::masked_fill_", (tensor(4), tensor(4, dtype="bool"), value(0)), (4, 20, 16, "fp32")),
    ("aten::clamp", (tensor(4, 6), value(0), value(1)), (48, 96, 96, "fp32")),
    ("aten::relu_", (tensor(4, 6),), (24, 96, 96, "fp32")),
    ("aten::threshold_backward", (tensor(4, 6), tensor(4, 6), value(0)), (24, 192, 96, "fp32")),
    ("aten::sigmoid", (tensor(4, 6),), (96, 96, 96, "fp32")),
    ("aten::gelu_backward", (tensor(4), tensor(4), value("none")), (44, 32, 16, "fp32")),
    ("aten::elu_backward", (tensor(4), ONE, ONE, ONE, value(False), tensor(4)), (12, 32, 16, "fp32")),
    ("aten::addcmul_", (tensor(4), tensor(4), tensor(4), value(0.1)), (12, 48, 16, "fp32")),
    ("aten::_foreach_add_", (tensors((4, 6), (3,)), tensors((4, 6), (3,)), value(-0.1)), (54, 216, 108, "fp32")),
    ("aten::_foreach_mul_", (tensors((4, 6), (3,)), value(0.9)), (27, 108, 108, "fp32")),
    ("aten::_foreach_sqrt", (tensors((4, 6), (3,)),), (27, 108, 108, "fp32")),
    # reductions: N - M combinations leave M results
    ("aten::sum", (tensor(4, 6), NONE), (23, 96, 4, "fp32")),
    ("aten::sum", (tensor(4, 6), value(7)), (23, 96, 4, "fp32")),  # the 7 is a dtype
    ("aten::sum", (tensor(4, 6), value([0]), value(True), NONE), (18, 96, 24, "fp32")),
    ("aten::sum", (tensor(4, 6), value([-1]), value(True), NONE), (20, 96, 16, "fp32")),
    ("aten::sum", (tensor(4, 6), value([]), value(True), NONE), (23, 96, 4, "fp32")),
    ("aten::mean", (tensor(4, 6), value([0, 1]), value(False), NONE), (24, 96, 4, "fp32")),
    ("aten::max", (tensor(4, 6),), (23, 96, 4, "fp32")),
    ("aten::max", (tensor(4, 6), ONE, value(False)), (20, 96, 4 * 12, "fp32")),
    ("aten::max", (index(4), index(4)), (4, 64, 32, "int64")),  # of two tensors: elementwise
    ("aten::argmax", (tensor(4, 6), ONE, value(False)), (20, 96, 32, "fp32")),
    ("aten::all", (tensor(4, 6, dtype="bool"),), (23, 24, 1, "bool")),
    ("aten::linalg_vector_norm", (tensor(4, 6), value(2), NONE, value(False), NONE), (47, 96, 4, "fp32")),
    ("aten::linalg_vector_norm", (tensor(4, 6), value(2), value([1]), value(False), NONE), (44, 96, 16, "fp32")),
    ("aten::var_mean", (tensor(4, 6), value([0]), value(1), value(False)), (72 + 12, 96, 48, "fp32")),
    ("aten::_foreach_norm", (tensors((4, 6), (3,)), value(2)), (54, 108, 8, "fp32")),
    ("aten::cumsum", (index(10), value(0), NONE), (10, 80, 80, "int64")),
    # copies
    ("aten::copy_", (tensor(4, 6), tensor(4, 6, dtype="double"), value(False)), (0, 192, 96, "fp32")),
    ("aten::clone", (tensor(4, 6), NONE), (0, 96, 96, "fp32")),
    ("aten::zero_", (tensor(4, 6),), (0, 0, 96, "fp32")),
    ("aten::fill_", (tensor(dtype="long int"), value(0)), (0, 0, 8, "int64")),
    ("aten::_foreach_zero_", (tensors((4, 6), (3,)),), (0, 0, 108, "fp32")),
    ("aten::_foreach_copy_", (tensors((4, 6)), tensors((4, 6)), value(False)), (0, 96, 96, "fp32")),
    ("aten::normal_", (tensor(4, 6), ONE, ONE, NONE), (0, 0, 96, "fp32")),
    ("aten::cat", (tensors((4, 6), (4, 2)), ONE), (0, 128, 128, "fp32")),
    ("aten::cat", (tensors((4,), (2,)), value(0), index(6)), (0, 48, 48, "int64")),
    ("aten::_local_scalar_dense", (tensor(),), (0, 4, 0, "fp32")),
    ("aten::native_dropout", (tensor(4, 6), value(0.5), value(True)), (48, 96, 96 + 24, "fp32")),
    ("aten::native_dropout_backward", (tensor(4, 6), tensor(4, 6, dtype="bool"), value(2)), (48, 96 + 24, 96, "fp32")),
    # sorting
    ("aten::sort", (tensor(4, 8), value(1), value(False)), (32 * 3, 128, 128 + 256, "fp32")),
    ("aten::sort", (tensor(4, 8), value(False), value(0), value(False)), (32 * 2, 128, 128 + 256, "fp32")),
    ("aten::topk", (tensor(4, 8), value(2), value(-1), value(True), value(True)), (32, 128, 8 * 12, "fp32")),
    ("aten::_unique2", (index(16), value(True), value(True), value(False)), (64, 128, 256, "int64")),
    ("aten::searchsorted", (tensor(8), tensor(10), value(False)), (30, 72, 80, "fp32")),
    ("aten::bucketize", (tensor(10), tensor(8), value(False)), (30, 72, 80, "fp32")),
    # losses
    ("aten::binary_cross_entropy_with_logits", (tensor(8), tensor(8), NONE, NONE, value(1)), (72, 64, 4, "fp32")),
    ("aten::mse_loss", (tensor(8), tensor(8), value(0)), (16, 64, 32, "fp32")),
    ("aten::binary_cross_entropy_backward", (tensor(), tensor(8), tensor(8), NONE, ONE), (48, 68, 32, "fp32")),
    ("aten::nll_loss_forward", (tensor(4, 6), index(4), NONE, ONE, ONE), (8, 32 + 16, 4, "fp32")),
    ("aten::nll_loss_backward", (tensor(), tensor(4, 6), index(4), NONE, ONE, ONE, tensor()), (8, 32, 96, "fp32")),
    # fused optimizers: (parameters, gradients, states...); 10 parameters
    (
        "aten::_fused_adam_",
        (tensors((10,)), tensors((10,)), tensors((10,)), tensors((10,)), tensors(), tensors(())),
        (130, 4 * 40, 4 * 30, "fp32"),
    ),
    ("aten::_fused_sgd_", (tensors((10,)), tensors((10,)), tensors(), value(0.0)), (20, 80, 40, "fp32")),
    ("aten::_fused_sgd_", (tensors((10,)), tensors((10,)), tensors((10,)), value(0.9)), (40, 120, 80, "fp32")),
    ("aten::_fused_adagrad_", (tensors((10,)), tensors((10,)), tensors((10,)), tensors(())), (70, 120, 80, "fp32")),
    # quantisation
    ("aten::quantize_per_tensor", (tensor(4, 6), value(0.1), value(0), value(12)), (96, 96, 24, "fp32")),
    ("aten::dequantize", (tensor(4, 6, dtype="c10::qint8"),), (48, 24, 96, "fp32")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments", "expected"), WORKED)
def test_worked_by_hand(name: str, arguments: tuple[Argument, ...], expected: tuple[float, float, float, str]) -> None:
    cost = cost_of(name, *arguments)
    assert cost is not None
    assert (cost.flops, cost.read_bytes, cost.write_bytes, cost.precision) == expected
    assert cost.bytes == expected[1] + expected[2]


def test_attention_by_hand() -> None:
    heads = (tensor(2, 4, 8, 16), tensor(2, 4, 10, 16), tensor(2, 4, 10, 12))
    forward = cost_of("aten::_scaled_dot_product_efficient_attention", *heads)
    assert forward.flops == 2 * (2 * 4) * 8 * 10 * (16 + 12)
    assert forward.write_bytes == 4 * 2 * 4 * 8 * 12 + 4 * 2 * 4 * 8
    grad = tensor(2, 4, 8, 12)
    backward = cost_of("aten::_scaled_dot_product_efficient_attention_backward", grad, *heads)
    assert backward.flops == 2 * (2 * 4) * 8 * 10 * (3 * 16 + 2 * 12)
    assert backward.write_bytes == 4 * 8 * (8 * 16 + 10 * 16 + 10 * 12)


def test_the_intensity_of_a_square_product_grows_with_its_size() -> None:
    """2 n^3 FLOPs over 12 n^2 bytes: n / 6."""
    for n in (6, 60, 600):
        cost = cost_of("aten::mm", tensor(n, n), tensor(n, n))
        assert math.isclose(cost.flops / cost.bytes, n / 6)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("aten::mm", (tensor(0, 4), tensor(4, 5))),
        ("aten::add", (tensor(0, 6), tensor(0, 6), ONE)),
        ("aten::copy_", (tensor(0), tensor(0), value(False))),
        ("aten::sort", (tensor(0), value(0), value(False))),
        ("aten::zero_", (tensor(0),)),
    ],
)
def test_results_of_no_elements_cost_no_work(name: str, arguments: tuple[Argument, ...]) -> None:
    cost = cost_of(name, *arguments)
    assert cost.flops == 0
    assert cost.write_bytes == 0


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("aten::mm", (tensor(3, 4), tensor(5, 6))),  # do not multiply
        ("aten::mm", (tensor(3, 4),)),
        ("aten::mm", (tensor(3, 4, dtype="c10::complex<float>"), tensor(4, 5, dtype="c10::complex<float>"))),
        ("aten::add", (tensor(3), tensor(4), ONE)),  # do not broadcast
        ("aten::where", (tensor(4, dtype="bool"), NONE, NONE)),  # as many positions as are true
        ("aten::cat", (([], "TensorList", ""), value(0))),  # an older trace: the list was not recorded
        ("aten::convolution", (*IMAGE, NONE, NONE, NONE, NONE, NONE, NONE)),  # stride and padding unknown
        ("aten::sort", (tensor(4, 8), NONE, NONE)),  # along which dimension?
        ("aten::index_put_", (tensor(8), NONE, tensor(), value(False))),  # how often is one number written?
    ],
)
def test_what_the_inputs_do_not_determine_is_unknown(name: str, arguments: tuple[Argument, ...]) -> None:
    assert cost_of(name, *arguments) is None
