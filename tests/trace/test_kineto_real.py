"""Real traces of many writers and devices, against an independent reading with the standard library."""

import gzip
import json
from pathlib import Path

import pytest

from workbench.trace.readers import kineto
from workbench.trace.schema import validate_events

TRACES = (
    "alexnet_a100", "bert_h100", "bert_mi300", "cpu_ops_no_rank", "ddp_a100_rank0of2_nccl_args", "gloo_cpu_rank34of300",
    "linear_rtx2080", "minitoy_mi250", "mtia_inference", "torchrec_v100_rank1of2", "triton_a100", "vit_h100",
    *(f"dlrm_8x_v100/rank-{rank}" for rank in range(8)),
)  # fmt: skip


def load(folder: Path, name: str):
    path = folder / "traces" / f"{name}.json.gz"
    with gzip.open(path) as file:
        return kineto.read(path), json.load(file)


@pytest.mark.parametrize("name", TRACES)
def test_every_complete_event_is_in_the_table(real_data, name):
    part, trace = load(real_data, name)
    complete = [event for event in trace["traceEvents"] if event.get("ph") == "X"]
    validate_events(part.events)
    assert list(part.events["name"].astype(str)) == [event["name"] for event in complete]
    total_us = sum(event["dur"] for event in complete)
    assert part.events["duration_ns"].sum() == pytest.approx(1000 * total_us, rel=1e-9)
    with_shapes = sum("Input type" in event.get("args", {}) for event in complete)
    assert (part.events["operator_id"] >= 0).sum() == with_shapes
    assert part.events["operator_id"].max() < len(part.operators) or with_shapes == 0
    assert part.info["clock"] == "unix"


@pytest.mark.parametrize("rank", range(8))
def test_dlrm_collectives(real_data, rank):
    """Old NCCL kernels name no collective: the calls around their launches tell the all-to-alls."""
    part, _ = load(real_data, f"dlrm_8x_v100/rank-{rank}")
    events = part.events
    kernels = events[(events["device"] != "cpu") & (events["kind"] == "communication")]
    assert kernels["collective"].astype(str).value_counts().to_dict() == {"all_to_all": 5, "all_reduce": 3}
    assert (kernels["group_size"] == 8).all()
    assert kernels["message_bytes"].notna().all()
    assert (kernels["step"] == 10).all()
    assert part.info["rank"] == rank and part.info["world_size"] == 8


def test_message_sizes_from_nccl_arguments(real_data):
    part, trace = load(real_data, "ddp_a100_rank0of2_nccl_args")
    described = [e["args"]["In msg nelems"] for e in trace["traceEvents"]
                 if e.get("cat") == "kernel" and e["args"].get("Collective name") == "allreduce"]  # fmt: skip
    kernels = part.events[(part.events["device"] == "cuda:0") & (part.events["collective"] == "all_reduce")]
    assert kernels["message_bytes"].tolist() == [4 * elements for elements in described]  # fp32
    assert part.info["process_groups"][0]["ranks"] == [0, 1]


def test_launches_follow_correlation_ids(real_data):
    part, trace = load(real_data, "bert_h100")
    complete = [event for event in trace["traceEvents"] if event.get("ph") == "X"]
    kernels = part.events[part.events["launch_id"] >= 0]
    assert len(kernels) == 61
    for row, launch in zip(kernels["event_id"], kernels["launch_id"], strict=True):
        assert complete[row]["args"]["correlation"] == complete[launch]["args"]["correlation"]
        assert complete[launch]["cat"] in ("cuda_runtime", "cuda_driver")


def test_devices_of_every_vendor(real_data):
    expected = {"bert_mi300": "cuda:2", "minitoy_mi250": "cuda:2", "mtia_inference": "mtia:17", "vit_h100": "cuda:0"}
    for name, device in expected.items():
        part, _ = load(real_data, name)
        assert set(part.events["device"]) == {"cpu", device}


def test_gloo_transfers(real_data):
    part, _ = load(real_data, "gloo_cpu_rank34of300")
    transfers = part.events[part.events["collective"] == "all_reduce"]
    assert set(transfers["message_bytes"]) == {4.0 * 321271, 4.0 * 2082411}
    assert (transfers["group_size"] == 300).all()
    assert set(transfers["lane"].astype(str)) == {"thread 3553", "thread 3554"}
