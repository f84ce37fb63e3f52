"""The roofline on small traces with every number worked by hand."""

import json
import math
from pathlib import Path

import pandas as pd
import pytest
from hand_made import event, kernel, run_of, span
from hand_made_ceilings import ceilings

from workbench.analyses import analyze
from workbench.analyses.roofline import bound_by, roofline
from workbench.errors import InputError
from workbench.metrics import define
from workbench.trace.loader import load
from workbench.trace.run import Run

# One core does 1 FLOP/ns; the nearest tier gives 4 B/ns up to 4096 B, memory 2 B/ns, and 1 B/ns for gathered rows.
GIGA = 1e9
HOST_LEVELS = {"cpu": [{"tier": "l2", "capacity_bytes": 4096}, {"tier": "dram", "capacity_bytes": None}]}
HOST_CEILINGS = [
    {"kind": "compute", "precision": "fp32", "cores": 1, "unit": "FLOP/s", "value": GIGA},
    {"kind": "bandwidth", "tier": "l2", "name": "triad", "active": 1, "unit": "B/s", "value": 4 * GIGA},
    {"kind": "bandwidth", "tier": "dram", "name": "triad", "active": 1, "unit": "B/s", "value": 2 * GIGA},
    {"kind": "gather", "tier": "dram", "row_bytes": 64, "working_set_bytes": 1e5, "unit": "B/s", "value": GIGA},
    {"kind": "overhead", "name": "aten::copy_", "unit": "ns", "value": 300},
    {"kind": "overhead", "name": "aten::mul", "unit": "ns", "value": 1000},
]  # fmt: skip


def host_events(rank: int = 0) -> list[dict]:
    events = [
        event("ProfilerStep#0", "span", 0, 40_000),
        # 2 x 8 x 16 x 8 = 2048 FLOP, 4 (128 + 128 + 64) = 1280 B: fits l2
        event("aten::mm", "compute", 0, 4096, shapes="[[8, 16], [16, 8]]"),
        # a wrapper without a model and a copy of 16 floats within it: 128 B
        event("mine::wrapper", "compute", 5000, 5600, shapes="[[16]]"),
        event("aten::copy_", "memory", 5050, 5550, shapes="[[16], [16]]"),
        # 1024 FLOP, 3 x 4096 B: only memory holds it
        event("aten::mul", "compute", 6000, 16_000, shapes="[[1024], [1024]]"),
        # 256 FLOP, 3 x 1024 B: fits l2, but takes far longer
        event("aten::mul", "compute", 17_000, 26_000, shapes="[[256], [256]]"),
        # 8 rows of 64 B from a table of 64,000 B, 32 B of indices (no dtype: 4 B each), 512 B of results
        event("aten::embedding", "compute", 27_000, 28_600, shapes="[[1000, 16], [8]]"),
        event("aten::t", "compute", 29_000, 29_100, shapes="[[8, 16]]"),
        event("mine::op", "compute", 30_000, 30_304),
        # left out: communication with what it does inside, a wrapper of the runtime, a recorder's span, a warm-up step
        event("c10d::allreduce_", "communication", 31_000, 32_000, shapes="[[16]]"),
        event("aten::copy_", "memory", 31_100, 31_900, shapes="[[16], [16]]"),
        event("autograd::engine::evaluate_function: MmBackward0", "runtime", 33_000, 34_000),
        span("bottom_mlp", "compute", 0, 30_000),
        event("aten::mm", "compute", 50_000, 60_000, shapes="[[8, 16], [16, 8]]", step=1),
        span("step", "span", 50_000, 60_000, step=1, tags="warmup"),
    ]
    return [{"step": 0} | row | {"rank": rank} for row in events]


def host_run(*ranks: int, **manifest: object) -> Run:
    events = [row for rank in ranks or (0,) for row in host_events(rank)]
    return run_of(*events, manifest={"threads_per_rank": 1} | manifest, ceilings=ceilings(HOST_CEILINGS, HOST_LEVELS))


def test_host_trace_by_hand():
    result = roofline(host_run())
    rows = {(row.name, row.shapes): row for row in result.table.itertuples()}
    busy_ns = 4096 + 600 + 10_000 + 9000 + 1600 + 100 + 304

    product = rows["aten::mm", "[[8, 16], [16, 8]]"]
    assert (product.calls, product.flops, product.bytes, product.tier) == (1, 2048, 1280, "l2")
    achieved = (product.intensity, product.flops_per_s, product.bytes_per_s)
    assert achieved == pytest.approx((1.6, 0.5 * GIGA, 1280 / 4096 * GIGA))
    assert (product.roof_flops_per_s, product.roof_bytes_per_s) == pytest.approx((GIGA, 0.625 * GIGA))
    assert (product.bound_ns, product.bound, product.headroom_ns) == (2048, "compute", 2048)
    assert product.time_share == 4096 / busy_ns and product.headroom_share == 2048 / busy_ns
    assert (product.precision, product.bytes_basis, product.ceiling_source) == ("fp32", "compulsory", "measured")

    large = rows["aten::mul", "[[1024], [1024]]"]
    assert (large.flops, large.bytes, large.tier, large.bound_ns, large.bound) == (1024, 12_288, "dram", 6144, "memory")
    assert large.roof_flops_per_s == pytest.approx(GIGA / 6)
    small = rows["aten::mul", "[[256], [256]]"]  # 9000 ns against 768, and a near-empty call takes 1000
    assert (small.tier, small.bound_ns, small.bound, small.headroom_ns) == ("l2", 768, "inefficient", 8232)
    copy = rows["aten::copy_", "[[16], [16]]"]  # 500 ns against 32, and a near-empty call takes 300
    assert (copy.duration_ns, copy.bound_ns, copy.bound) == (500, 32, "overhead")
    assert copy.flops == 0 and math.isnan(copy.roof_flops_per_s)
    assert copy.roof_bytes_per_s == pytest.approx(4 * GIGA)
    lookup = rows["aten::embedding", "[[1000, 16], [8]]"]  # 512 B gathered at 1 B/ns, 544 B streamed at 2
    assert (lookup.bytes, lookup.tier, lookup.bound_ns, lookup.bound) == (1056, "dram", pytest.approx(784), "memory")
    assert rows["aten::t", ""].bound == "overhead"
    for name, self_ns in (("mine::wrapper", 100), ("mine::op", 304)):
        unknown = rows[name, ""]
        assert unknown.duration_ns == self_ns and unknown.bound == "unknown" and math.isnan(unknown.flops)
    assert len(result.table) == 8
    assert result.table["time_share"].sum() == pytest.approx(1)
    assert result.table["headroom_ns"].iloc[0] == 8232  # the most to gain first, the unknown last

    summary = result.summary
    assert summary["covered_time_share"] == pytest.approx(1 - 404 / busy_ns)
    assert summary["steps"] == 1 and summary["busy_per_step_ns"] == busy_ns
    assert summary["step_bound_ns"] == pytest.approx(2048 + 6144 + 768 + 32 + 784)
    assert summary["headroom_per_step_ns"] == pytest.approx(busy_ns - 404 - summary["step_bound_ns"])
    roofs = {roof["name"]: roof["value"] for roof in summary["roofs"]}
    expected = {"fp32 peak": GIGA, "l2 triad": 4 * GIGA, "dram triad": 2 * GIGA, "dram gather of 64 B rows": GIGA}
    assert roofs == pytest.approx(expected)


def test_two_ranks_share_memory_and_count_as_two_steps():
    run = host_run(0, 1, processes={f"rank-{rank}": {"rank": rank, "host": "a"} for rank in (0, 1)})
    both, one = roofline(run), roofline(run, rank=1)
    assert both.summary["steps"] == 2 and both.summary["active_ranks"] == 2
    large = both.table[both.table["shapes"] == "[[1024], [1024]]"].iloc[0]
    assert large["calls"] == 2 and large["bound_ns"] == 2 * 2 * 6144  # each call at half the memory's bandwidth
    assert one.summary["busy_per_step_ns"] == both.summary["busy_per_step_ns"]
    assert one.table["calls"].sum() == 8
    with pytest.raises(InputError, match="rank 7 is not in this run: it has 0, 1"):
        roofline(run, rank=7)


def test_without_ceilings_there_is_no_roof():
    run = host_run()
    run.ceilings = None
    result = roofline(run)
    assert set(result.table["bound"]) == {"unknown"} and result.table["bound_ns"].isna().all()
    assert result.table["bytes_per_s"].notna().sum() == 6 and result.summary["roofs"] == []
    assert any("no ceilings are known" in note for note in result.notes)


def test_uncovered_time_is_said_first():
    product = event("aten::mm", "compute", 500, 1000, shapes="[[8, 16], [16, 8]]")
    result = roofline(run_of(event("mine::op", "compute", 0, 500), product))
    assert result.summary["covered_time_share"] == 0.5 and result.summary["steps"] == 1
    assert result.notes[0].startswith("only 50.0 % of the busy time has a cost model") and "mine::op" in result.notes[0]


def test_a_wrapper_around_a_wait_does_not_work_meanwhile():
    """1000 ns: 300 in a product, 500 waiting for an exchange, 200 its own."""
    result = roofline(
        run_of(
            event("MyExchange", "compute", 0, 1000),
            event("aten::mm", "compute", 100, 400, shapes="[[8, 16], [16, 8]]"),
            span("embedding_exchange", "wait", 450, 950),
        )
    )
    assert result.table.set_index("name")["duration_ns"].to_dict() == {"aten::mm": 300, "MyExchange": 200}


def test_nothing_to_say_without_operators():
    assert not roofline(Run(Path("empty"))).applies
    assert not roofline(run_of(span("bottom_mlp", "compute", 0, 1000))).applies


def device_run() -> Run:
    """A product in one kernel, a kernel of an unknown operator, a copy from the host, a collective, a lost kernel."""
    events = [
        event("aten::linear", "compute", 0, 50, shapes="[[512, 512], [512, 512]]"),
        event("aten::mm", "compute", 10, 40, shapes="[[512, 512], [512, 512]]"),
        event("cudaLaunchKernel", "runtime", 20, 25),
        kernel("gemm", "compute", 100, 40_100, launch_id=2),
        event("mine::op", "compute", 60, 90),
        event("cudaLaunchKernel", "runtime", 70, 75),
        kernel("mine_kernel", "compute", 40_100, 42_100, launch_id=5),
        event("aten::copy_", "memory", 100, 130, shapes="[[1000], [1000]]"),
        event("cudaMemcpyAsync", "runtime", 110, 115),
        kernel("Memcpy HtoD", "memory", 42_100, 44_100, launch_id=8),
        event("c10d::allreduce_", "communication", 140, 170, shapes="[[16]]"),
        event("cudaLaunchKernel", "runtime", 150, 155),
        kernel("ncclKernel_AllReduce", "communication", 44_100, 99_000, launch_id=11),
        kernel("lost", "compute", 99_000, 100_000),
        event("aten::mm", "compute", 99_000, 99_040, shapes="[[4, 4], [4, 4]]"),  # of host tensors: launches nothing
    ]
    traffic = pd.DataFrame(
        {"event_id": [9, 9], "tier": ["pcie", "hbm"], "read_bytes": [4000.0, 0], "write_bytes": [0, 4000.0]}
    ).astype({"tier": "category"})
    levels = {"cuda:0": [{"tier": "l2", "capacity_bytes": 6e6}, {"tier": "hbm", "capacity_bytes": None}]}
    promised = [
        {"kind": "compute", "device": "cuda:0", "precision": "fp32", "unit": "FLOP/s", "value": 1e13},
        {"kind": "bandwidth", "device": "cuda:0", "tier": "hbm", "unit": "B/s", "value": 1e12},
    ]
    events = [row | ({"device": "cuda:3"} if "device" in row else {}) for row in events]
    return run_of(*events, traffic=traffic, ceilings=ceilings(promised, levels, source="promised"))


def test_device_trace_by_hand():
    result = roofline(device_run())
    rows = {row.name: row for row in result.table.itertuples()}
    assert set(rows) == {"aten::linear", "mine::op", "aten::copy_", "lost"}
    product = rows["aten::linear"]  # 2 x 512^3 FLOP, 3 MiB: 26.8 us of arithmetic in 40 us
    assert product.flops == 2 * 512**3 and product.bytes == 3 * 2**20
    assert product.tier == "hbm"  # it fits L2, but only the next tier's bandwidth is known
    assert product.bound_ns == pytest.approx(2 * 512**3 / 1e4) and product.bound == "compute"
    assert product.ceiling_source == "promised" and product.duration_ns == 40_000
    copy = rows["aten::copy_"]
    assert (copy.tier, copy.bytes, copy.bytes_basis, copy.bound) == ("pcie", 4000, "copied", "unknown")
    assert rows["mine::op"].duration_ns == 2000 and rows["lost"].duration_ns == 1000
    summary = result.summary
    assert summary["covered_time_share"] == pytest.approx(42_000 / 45_000)
    assert summary["other_kernel_time_pct"] == pytest.approx(100 * 2000 / 42_000)  # of linked compute kernels
    assert summary["device"] == "cuda:0" and summary["active_ranks"] == 1


def test_rows_by_kernel():
    """The product's FLOPs are its kernel's; the lost kernel stands for itself."""
    table = roofline(device_run(), by="kernel").table.set_index("name")
    assert table["duration_ns"].to_dict() == {"gemm": 40_000, "mine_kernel": 2000, "Memcpy HtoD": 2000, "lost": 1000}
    assert table.loc["gemm", "flops"] == 2 * 512**3 and (table["shapes"] == "").all()
    assert not roofline(host_run(), by="kernel").applies


@pytest.mark.parametrize(
    ("duration_ns", "compute_ns", "memory_ns", "near_empty_ns", "expected"),
    [
        (20, 10, 5, None, "compute"),
        (20, 5, 10, None, "memory"),
        (30, 5, 10, 20, "memory"),  # exactly 3 times the limit is still near it
        (31, 5, 10, 16, "overhead"),  # beyond 3 times, within twice a near-empty call
        (31, 5, 10, 15, "inefficient"),
        (31, 5, 10, None, "inefficient"),
        (31, 0, 0, None, "overhead"),  # no work at all
        (31, math.nan, 10, 16, "unknown"),
    ],
)
def test_bound_rules(duration_ns, compute_ns, memory_ns, near_empty_ns, expected):
    assert bound_by(duration_ns, compute_ns, memory_ns, near_empty_ns) == expected


@pytest.mark.parametrize("run", [host_run, device_run])
def test_every_key_is_defined_and_the_result_turns_into_json(run):
    result = analyze(run(), "roofline")
    for key in [*result.table.columns, *result.summary]:
        assert define("roofline", key) is not None, key
    assert json.loads(json.dumps(result.to_dict()))["analysis"] == "roofline"


def test_public_dlrm_trace(real_data):
    result = roofline(load(real_data / "traces" / "dlrm_8x_v100"))
    table = result.table
    assert table["time_share"].sum() == pytest.approx(1)
    assert result.summary["device"] == "cuda:0" and result.summary["steps"] == 8
    assert result.summary["covered_time_share"] > 0.9 and result.summary["other_kernel_time_pct"] < 5
    assert set(table["ceiling_source"]) <= {"promised", ""}
    assert (table["flops"] > 0).any() and set(table["bound"]) >= {"memory", "overhead"}
