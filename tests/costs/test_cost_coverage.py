"""How much of real traces has a cost: the host time of operators that launch kernels themselves."""

import gzip
import json
from collections import defaultdict
from pathlib import Path

import pytest

from workbench.costs import cost

LAUNCHES = ("cudaLaunchKernel", "cudaMemcpyAsync", "cudaMemsetAsync")
OPERATORS = ("aten::", "fbgemm::", "fb::")
# What these two traces, of PyTorch 1.13 or so, do not record: which positions an index has, what a list of tensors
# holds, and the scalars that tell the row size of tables.
NOT_RECORDED = frozenset(
    (
        "aten::index",
        "aten::cat",
        "fbgemm::split_embedding_codegen_lookup_adagrad_function",
        "fbgemm::dense_embedding_codegen_lookup_function",
    )
)


def launching_operators(path: Path) -> list[dict]:
    """Operator events inside which, and inside no smaller one, a kernel or copy is launched."""
    with gzip.open(path) as file:
        events = json.load(file)["traceEvents"]
    lanes = defaultdict(list)
    for event in events:
        if event.get("ph") == "X" and event.get("cat") in ("cpu_op", "cuda_runtime"):
            lanes[event["tid"]].append(event)
    found = {}
    for lane in lanes.values():
        around: list[dict] = []
        for event in sorted(lane, key=lambda e: (e["ts"], -e["dur"])):
            while around and around[-1]["ts"] + around[-1]["dur"] <= event["ts"]:
                around.pop()
            if event["cat"] == "cpu_op":
                around.append(event)
            elif event["name"] in LAUNCHES and around and around[-1]["name"].startswith(OPERATORS):
                found[id(around[-1])] = around[-1]
    return list(found.values())


def covered_time(operators: list[dict]) -> tuple[float, float]:
    """Time of operators with a cost, and of all, in us."""
    times = [0.0, 0.0]
    for event in operators:
        arguments = event["args"]
        known = cost(event["name"], arguments.get("Input Dims"), arguments.get("Input type"))
        times[known is None] += event["dur"]
    return times[0], sum(times)


@pytest.mark.parametrize(
    ("pattern", "of_all"), [("dlrm_8x_v100/rank-*.json.gz", 0.7), ("torchrec_v100_rank1of2.json.gz", 0.98)]
)
def test_share_of_launching_operators_with_a_cost(pattern: str, of_all: float, real_data: Path) -> None:
    operators = [event for path in real_data.glob(f"traces/{pattern}") for event in launching_operators(path)]
    covered_us, all_us = covered_time(operators)
    recorded_us = covered_time([event for event in operators if event["name"] not in NOT_RECORDED])[1]
    print(f"{pattern}: {covered_us / all_us:.3f} of all, {covered_us / recorded_us:.3f} of what shows its inputs")
    assert covered_us / all_us > of_all
    assert covered_us / recorded_us > 0.95
