"""The registry: every model explains itself, odd input is answered with None, wrappers have no cost of their own."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.costs import BYTES_BASIS, MODELS, Cost, CostModel, cost, model_of
from workbench.costs.model import model

NAMES = [name.replace("*", "x") for entry in MODELS.values() for name in entry.operators]


@pytest.mark.parametrize("entry", MODELS.values(), ids=lambda entry: entry.key)
def test_every_model_has_formula_symbols_and_source(entry: CostModel) -> None:
    assert entry.title and entry.operators
    assert entry.formula.startswith("F = ") and "; Q = " in entry.formula
    assert entry.symbols and entry.source
    assert "fp32 is assumed" in entry.limits
    assert MODELS[entry.key] is entry
    assert all(model_of(name.replace("*", "x")) is entry for name in entry.operators)


def test_an_operator_has_one_model() -> None:
    with pytest.raises(ValueError, match="aten::mm"):

        @model("another", title="", operators=("aten::mm",), formula="", symbols="", source="")
        def another(call: object) -> Cost:
            raise NotImplementedError


def test_the_basis_of_bytes_is_said() -> None:
    assert BYTES_BASIS == "compulsory"


@pytest.mark.parametrize(
    "name",
    [
        "autograd::engine::evaluate_function: AddmmBackward0",
        "AddmmBackward0",
        "torch::autograd::AccumulateGrad",
        "torch::autograd::CppNode<SplitLookupFunction_sgd_Op_pt2>",
        "Optimizer.step#SGD.step",
        "## forward ##",
        "CompiledFunction",
        "record_param_comms",
        "c10d::allreduce_",
        "gather",
        "",
    ],
)
def test_wrappers_and_others_have_no_model(name: str) -> None:
    assert model_of(name) is None
    assert cost(name, [[4, 4]], ["float"], [""]) is None


def test_views_and_wrappers_cost_nothing_whatever_was_recorded() -> None:
    lookup = "fbgemm::split_embedding_codegen_lookup_sgd_function_pt2"
    for name in ("aten::view", "aten::transpose", "aten::empty_strided", "aten::to", "aten::reshape", "detach", lookup):
        assert cost(name, [], [], []) == Cost(0.0, 0.0, 0.0, "fp32", "view")


def test_overloads_and_in_place_forms_share_a_model() -> None:
    for name in ("aten::add", "aten::add_", "aten::add.Tensor", "aten::add_.Scalar"):
        assert model_of(name) is MODELS["elementwise"]


def test_lists_and_their_json_text_are_the_same() -> None:
    dims, types, concrete = [[4, 6], [4, 6], []], ["float", "float", "Scalar"], ["", "", "-0.1"]
    known = cost("aten::add_", dims, types, concrete)
    assert known == cost("aten::add_", json.dumps(dims), json.dumps(types), json.dumps(concrete))
    assert known == Cost(48.0, 192, 96, "fp32", "elementwise")


def test_older_traces_lack_types_or_values_or_shapes() -> None:
    assert cost("aten::mm", [[3, 4], [4, 5]]) == Cost(120.0, 128, 60, "fp32", "matrix_product")  # fp32 is assumed
    assert cost("aten::mm", [[3, 4], [4, 5]], ["double", "double"], None).precision == "fp64"
    assert cost("aten::mm", None, None, None) is None
    assert cost("aten::mm", "[[3, 4], [4, 5", "", "") is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=6),
    max_leaves=20,
)
SHAPES = st.lists(st.integers(0, 6), max_size=5)
INPUTS = st.lists(SHAPES | st.lists(SHAPES, max_size=3), max_size=16)
TYPES = st.lists(
    st.sampled_from(["float", "long int", "bool", "c10::Half", "Scalar", "ScalarList", "TensorList", "", "odd"]),
    max_size=16,
)
VALUES = st.lists(
    st.sampled_from(
        ["", "0", "1", "-1", "2", "7", "0.5", "inf", "-inf", "nan", "True", "False", "[1]", "[2, 0]", "[]", "odd"]
    ),
    max_size=16,
)


def check(found: Cost | None) -> None:
    """A cost that can be calculated with, or none."""
    if found is not None:
        assert found.model in MODELS
        assert 0 <= found.flops < float("inf") and 0 <= found.bytes < float("inf")


@settings(max_examples=300)
@given(st.sampled_from(NAMES), INPUTS, TYPES, VALUES)
def test_plausible_calls_never_raise(name: str, dims: list, types: list, concrete: list) -> None:
    check(cost(name, dims, types, concrete))


@settings(max_examples=200)
@given(st.sampled_from(NAMES) | st.text(), JSON | st.text(), JSON | st.text(), JSON | st.text())
def test_junk_never_raises(name: str, dims: object, types: object, concrete: object) -> None:
    check(cost(name, dims, types, concrete))


@given(st.none() | st.integers() | st.lists(st.text()))
def test_a_name_that_is_no_text_has_no_cost(name: object) -> None:
    assert cost(name, [], [], []) is None
