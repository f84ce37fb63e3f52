"""Ten-event traces whose tables are worked out by hand: a GPU step, a CPU step, gloo, other devices and old formats."""

import json
import math

import pandas as pd
import pytest

from workbench.trace.readers import kineto
from workbench.trace.readers.kinds import meaning
from workbench.trace.schema import validate_events

BASE_NS = 1_700_000_000_000_000_000


def event(cat, name, ts, dur, pid=10, tid=10, **args):
    return {"ph": "X", "cat": cat, "name": name, "pid": pid, "tid": tid, "ts": ts, "dur": dur, "args": args}


def shapes(dims, types, concrete=None):
    given = {"Input Dims": dims, "Input type": types}
    return given | ({"Concrete Inputs": concrete} if concrete else {})


def read(tmp_path, events, **top):
    path = tmp_path / "trace.json"
    path.write_text(json.dumps({"baseTimeNanoseconds": BASE_NS, **top, "traceEvents": events}))
    part = kineto.read(path)
    validate_events(part.events)
    return part


GPU_STEP = [
    event("user_annotation", "ProfilerStep#7", 0, 100),
    event("cpu_op", "aten::mm", 10, 20, **shapes([[2, 3], [3, 4]], ["float", "float"])),
    event("cuda_runtime", "cudaLaunchKernel", 15, 5, correlation=501),
    event("cpu_op", "c10d::alltoall_base_", 40, 20, **shapes([[6], [8]], ["float", "float"])),
    event("user_annotation", "nccl:all_to_all", 42, 16, **shapes([[8]], ["float"])),
    event("cuda_runtime", "cudaLaunchKernel", 45, 5, correlation=502),
    event("kernel", "volta_sgemm_128x64_nn", 30, 40, pid=0, tid=7, device=0, stream=7, correlation=501),
    event("kernel", "ncclKernel_SendRecv_RING_SIMPLE_Sum_int8_t(ncclWorkElem)", 95, 30, pid=0, tid=20, correlation=502),
    event("gpu_memcpy", "Memcpy HtoD (Pinned -> Device)", 5, 3, pid=0, tid=7, bytes=1000, correlation=99),
    event("gpu_user_annotation", "nccl:all_to_all", 95, 30, pid=0, tid=20),
    {"ph": "s", "id": 501, "pid": 10, "tid": 10, "ts": 15, "cat": "ac2g", "name": "ac2g"},
]


def test_a_gpu_step(tmp_path):
    top = {
        "distributedInfo": {"backend": "nccl", "rank": 3, "world_size": 8},
        "deviceProperties": [{"id": 0, "name": "Tesla V100", "totalGlobalMem": 2**35}],
        "record_shapes": 1,
    }
    part = read(tmp_path, GPU_STEP, **top)
    nan = math.nan
    # event: parent, launch, lane, device, step, kind, start, duration, collective, group, message, operator
    expected = pd.DataFrame(
        [
            (-1, -1, "thread 10", "cpu", 7, "span", 0, 100_000, "", -1, nan, -1),
            (0, -1, "thread 10", "cpu", 7, "compute", 10_000, 20_000, "", -1, nan, 0),
            (1, -1, "thread 10", "cpu", 7, "runtime", 15_000, 5_000, "", -1, nan, -1),
            (0, -1, "thread 10", "cpu", 7, "communication", 40_000, 20_000, "all_to_all", 8, 32.0, 1),
            (3, -1, "thread 10", "cpu", 7, "communication", 42_000, 16_000, "all_to_all", 8, 32.0, 2),
            (4, -1, "thread 10", "cpu", 7, "runtime", 45_000, 5_000, "", -1, nan, -1),
            (-1, 2, "stream 7", "cuda:0", 7, "compute", 30_000, 40_000, "", -1, nan, -1),
            (-1, 5, "stream 20", "cuda:0", 7, "communication", 95_000, 30_000, "all_to_all", 8, 32.0, -1),
            (-1, -1, "stream 7", "cuda:0", 7, "memory", 5_000, 3_000, "", -1, nan, -1),
            (7, -1, "stream 20", "cuda:0", 7, "span", 95_000, 30_000, "", -1, nan, -1),
        ],
        columns=[
            "parent_id", "launch_id", "lane", "device", "step", "kind", "start_ns", "duration_ns", "collective",
            "group_size", "message_bytes", "operator_id",
        ],
    )  # fmt: skip
    expected["start_ns"] += BASE_NS
    pd.testing.assert_frame_equal(_plain(part.events[list(expected.columns)]), expected, check_dtype=False)
    assert list(part.events["rank"]) == [3] * 10
    assert _plain(part.traffic).values.tolist() == [[8, "pcie", 1000, 0], [8, "hbm", 0, 1000]]
    assert part.operators.values.tolist()[:2] == [
        ["aten::mm", "[[2,3],[3,4]]", '["float","float"]', ""],
        ["c10d::alltoall_base_", "[[6],[8]]", '["float","float"]', ""],
    ]
    assert part.info["devices"] == [{"name": "cuda:0", "model": "Tesla V100", "memory_bytes": 2**35}]
    assert (part.info["rank"], part.info["world_size"], part.info["backend"]) == (3, 8, "nccl")
    assert part.info["profiler"]["record_shapes"] and not part.info["profiler"]["with_stack"]
    assert part.notes == []


CPU_STEP = [
    event("user_annotation", "ProfilerStep#1", 0, 50),
    event("user_annotation", "ProfilerStep#2", 50, 50),
    event("cpu_op", "aten::linear", 2, 10, **shapes([[4, 8], [16, 8], [16]], ["float"] * 3)),
    event("cpu_op", "aten::copy_", 4, 2),
    event("cpu_op", "autograd::engine::evaluate_function: AddmmBackward0", 20, 20, tid=11),
    event("cpu_op", "AddmmBackward0", 21, 10, tid=11),
    event("cpu_op", "aten::mm", 22, 5, tid=11, **shapes([[8, 4], [4, 16]], ["float"] * 2, ["", ""])),
    event("user_annotation", "Optimizer.step#SGD.step", 60, 10),
    event("cpu_op", "aten::mm", 61, 5, **shapes([[8, 4], [4, 16]], ["float"] * 2, ["", ""])),
    event("python_function", "train.py(3): main", 1, 98),
    event("Trace", "PyTorch Profiler (0)", -5, 110, pid="Spans", tid="PyTorch Profiler"),
]


def test_a_cpu_step(tmp_path):
    part = read(tmp_path, CPU_STEP)
    rows = part.events[["parent_id", "lane", "step", "kind", "phase", "operator_id"]]
    assert _plain(rows).values.tolist() == [
        [-1, "thread 10", 1, "span", "", -1],
        [-1, "thread 10", 2, "span", "", -1],
        [0, "thread 10", 1, "compute", "", 0],
        [2, "thread 10", 1, "memory", "", -1],
        [-1, "thread 11", 1, "runtime", "backward", -1],
        [4, "thread 11", 1, "runtime", "backward", -1],
        [5, "thread 11", 1, "compute", "backward", 1],
        [1, "thread 10", 2, "span", "optimizer", -1],
        [7, "thread 10", 2, "compute", "optimizer", 1],  # the same call signature: the same operator
        [-1, "thread 10/python", 1, "span", "", -1],
        [-1, "profiler", -1, "span", "", -1],
    ]
    assert set(part.events["device"]) == {"cpu"}
    assert part.info["rank"] == -1


def test_gloo_appears_as_call_and_as_transfer(tmp_path):
    groups = [{"pg_name": "0", "pg_desc": "default_pg", "pg_size": 4, "ranks": [0, 1, 2, 3]}]
    events = [
        event("cpu_op", "c10d::allreduce_", 0, 3, **shapes([[[5, 2]], []], ["TensorList", ""])),
        event("user_annotation", "gloo:all_reduce", 1, 40, tid=77, **shapes([[5, 2]], ["double"])),
        event("cpu_op", "c10d::_allgather_base_", 50, 3, **shapes([[8], [2]], ["float", "float"])),
        event("user_annotation", "gloo:all_gather", 51, 40, tid=77, **shapes([[2]], ["float"])),
        event("cpu_op", "c10d::_reduce_scatter_base_", 95, 3, **shapes([[2], [8]], ["float", "float"])),
        event("user_annotation", "gloo:barrier", 99, 1, tid=77),
    ]
    part = read(tmp_path, events, distributedInfo={"backend": "gloo", "rank": 0, "pg_config": groups})
    rows = part.events[["lane", "kind", "collective", "group_size", "message_bytes"]]
    assert _plain(rows).fillna(-1).values.tolist() == [
        ["thread 10", "communication", "all_reduce", 4, -1],  # a list of tensors shows no dtype
        ["thread 77", "communication", "all_reduce", 4, 80],
        ["thread 10", "communication", "all_gather", 4, 32],
        ["thread 77", "communication", "all_gather", 4, 32],  # 2 floats from each of 4 ranks
        ["thread 10", "communication", "reduce_scatter", 4, 32],
        ["thread 77", "communication", "barrier", 4, 0],
    ]
    assert part.info["process_groups"][0]["ranks"] == [0, 1, 2, 3]


def test_arguments_of_nccl_kernels_win(tmp_path):
    args = {
        "Collective name": "_allgather_base", "In msg nelems": 5, "Out msg nelems": 20, "Group size": 4,
        "dtype": "BFloat16",
    }  # fmt: skip
    part = read(tmp_path, [event("kernel", "ncclDevKernel_Generic(ncclDevKernelArgs)", 0, 9, pid=1, tid=3, **args)])
    row = part.events.iloc[0]
    assert (row["collective"], row["group_size"], row["message_bytes"]) == ("all_gather", 4, 40)


def test_groups_of_different_sizes_leave_the_size_unknown(tmp_path):
    groups = [{"pg_name": "0", "pg_size": 4}, {"pg_name": "1", "pg_size": 2}]
    events = [event("user_annotation", "gloo:all_gather", 0, 1, **shapes([[2]], ["float"]))]
    row = read(tmp_path, events, distributedInfo={"rank": 0, "pg_config": groups}).events.iloc[0]
    assert row["group_size"] == -1 and math.isnan(row["message_bytes"])


def test_a_kernel_gets_step_and_phase_of_its_launch(tmp_path):
    events = [
        event("user_annotation", "ProfilerStep#1", 0, 10),
        event("user_annotation", "ProfilerStep#2", 10, 10),
        event("cpu_op", "autograd::engine::evaluate_function: MulBackward0", 5, 4),
        event("cuda_runtime", "cudaLaunchKernel", 6, 1, correlation=8),
        event("kernel", "late_kernel", 12, 3, pid=0, tid=7, correlation=8),
        event("kernel", "unlaunched_kernel", 16, 3, pid=0, tid=7, correlation=9),
    ]
    part = read(tmp_path, events)
    assert _plain(part.events[["launch_id", "step", "phase"]]).values.tolist()[4:] == [[3, 1, "backward"], [-1, 2, ""]]
    assert part.notes == ["trace.json: kernels without a launching call in the trace: 1 of 2 (50.0 %)"]


def test_integrity_notes(tmp_path):
    events = [
        event("cuda_runtime", "cudaGraphLaunch", 0, 2, correlation=5),
        event("kernel", "one", 1, 3, pid=0, tid=7, correlation=5),
        event("kernel", "two", 5, 3, pid=0, tid=7, correlation=5),
        event("cpu_op", "aten::add", 10, 10),
        event("cpu_op", "aten::mul", 15, 10),
        event("cpu_op", "aten::sub", 40, -1),
    ]
    assert read(tmp_path, events).notes == [
        "trace.json: events left out, which have a negative duration: 1",
        "trace.json: kernels launched outside any recorded operator: 2 of 2 (100.0 %)",
        "trace.json: graph launches: 1; the operators of their 2 kernels cannot be told",
        "trace.json: events that overlap the one before on the same thread or stream: 1",
    ]


def test_old_category_names(tmp_path):
    events = [
        event("Operator", "aten::add", 0, 10, **{"Input dims": [[2]], "Input type": ["float"]}),
        event("Runtime", "cudaLaunchKernel", 2, 3, correlation=4),
        event("Kernel", "add_kernel", 8, 3, pid=0, tid="stream 7", correlation=4),
        event("Memcpy", "Memcpy DtoD (Device -> Device)", 12, 1, pid=0, tid="stream 7", bytes=8),
        {"ph": "X", "name": "aten::mul", "pid": "CPU functions", "tid": 1, "ts": 20, "dur": 2, "args": {}},
        {"ph": "X", "name": "mul_kernel", "pid": "CUDA functions", "tid": 0, "ts": 21, "dur": 2, "args": {}},
    ]
    part = read(tmp_path, events)
    assert _plain(part.events[["kind", "device", "lane", "launch_id"]]).values.tolist() == [
        ["compute", "cpu", "thread 10", -1],
        ["runtime", "cpu", "thread 10", -1],
        ["compute", "cuda:0", "stream 7", 1],
        ["memory", "cuda:0", "stream 7", -1],
        ["compute", "cpu", "thread 1", -1],
        ["compute", "cuda:0", "stream 0", -1],
    ]
    assert part.operators["input_dims"][0] == "[[2]]"
    assert _plain(part.traffic).values.tolist() == [[3, "hbm", 8, 8]]


def test_mtia_and_synchronisation(tmp_path):
    events = [
        event("mtia_runtime", "enqueueCommand memcpyHtoDAsync", 0, 1, correlation=6, **{"mem size": "64 bytes"}),
        event("mtia_ccp_events", "dma_request", 1, 4, pid=17, tid=3774, stream=108, correlation=6, size=64,
              direction="HOST_TO_DEVICE"),
        event("mtia_ccp_events", "pe_exe", 6, 4, pid=17, tid=3774, stream=108),
        event("mtia_ccp_events", "event_wait", 11, 4, pid=17, tid=3774, stream=108),
        event("cuda_sync", "Stream Sync", 2, 20, pid=17, tid=108),
    ]  # fmt: skip
    part = read(tmp_path, events)
    assert _plain(part.events[["kind", "device", "lane", "launch_id", "parent_id"]]).values.tolist()[1:] == [
        ["memory", "mtia:17", "stream 108", 0, -1],
        ["compute", "mtia:17", "stream 108", -1, -1],
        ["wait", "mtia:17", "stream 108", -1, -1],
        ["wait", "mtia:17", "stream 108/sync", -1, -1],
    ]
    assert _plain(part.traffic).values.tolist() == [[1, "pcie", 64, 0]]


def test_begin_and_end_pairs(tmp_path):
    def edge(phase, name, ts, tid=1):
        return {"ph": phase, "name": name, "pid": 1, "tid": tid, "ts": ts}

    events = [
        edge("B", "outer", 0), edge("B", "inner", 2), edge("B", "elsewhere", 3, tid=2), edge("E", "inner", 5),
        edge("E", "outer", 9), edge("E", "stray", 10), edge("E", "elsewhere", 11, tid=2), edge("B", "open", 12),
    ]  # fmt: skip
    part = read(tmp_path, events)
    found = part.events.assign(start_ns=part.events["start_ns"] - BASE_NS)
    assert _plain(found[["name", "start_ns", "duration_ns", "parent_id"]]).values.tolist() == [
        ["inner", 2000, 3000, 1],
        ["outer", 0, 9000, -1],
        ["elsewhere", 3000, 8000, -1],
    ]
    assert part.notes == ["trace.json: events left out, which begin without an end or end without a begin: 2"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("aten::_to_copy", "memory"),
        ("aten::zeros_like", "memory"),
        ("aten::topk", "compute"),
        ("fbgemm::split_embedding_backward_codegen_rowwise_adagrad_unweighted_exact_cpu", "compute"),
        ("torch::autograd::AccumulateGrad", "runtime"),
        ("_AllToAllBackward", "runtime"),
        ("ProfilerStep#3", "span"),
        ("## forward ##", "span"),
        ("record_param_comms", "communication"),
        ("_c10d_functional::wait_tensor", "communication"),
    ],
)
def test_kinds_of_operators(tmp_path, name, kind):
    assert list(read(tmp_path, [event("cpu_op", name, 0, 1)]).events["kind"]) == [kind]


def _plain(frame):
    """Categoricals as plain values."""
    return frame.astype({c: "object" for c in frame if isinstance(frame[c].dtype, pd.CategoricalDtype)})


def test_a_python_autograd_function_is_runtime():
    """Its own time is Python's, or a wait inside it; what it calls is counted by itself."""
    names = frozenset({"_Exchange", "_ExchangeBackward", "aten::mm"})
    assert meaning("cpu_op", "_Exchange", names).kind == "runtime"
    assert meaning("cpu_op", "_ExchangeBackward", names).kind == "runtime"
    assert meaning("cpu_op", "aten::mm", names).kind == "compute"
    assert meaning("user_annotation", "_Exchange", names).kind == "span"
