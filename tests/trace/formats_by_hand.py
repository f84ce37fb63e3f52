"""A small trace of every format that can be loaded, and a profile that has a bit of everything in it."""

import json

from execution_nodes_by_hand import document

TRACE = "ab" * 16
START_US = 1_700_000_000_000_000


def event(name="aten::mm", ts=0, dur=9, cat="cpu_op", tid=1, **args):
    """A profiler event, `ts` microseconds after START_US."""
    fields = {"ph": "X", "cat": cat, "name": name, "pid": 1, "tid": tid, "ts": START_US + ts, "dur": dur}
    return fields | {"args": args}


def _kernel(name, ts, dur, stream, correlation, **args):
    place = {"pid": 0, "tid": stream}
    return event(name, ts, dur, "kernel", device=0, stream=stream, correlation=correlation, **args) | place


def _shapes(dims, kinds, concrete=()):
    return {"Input Dims": dims, "Input type": kinds, "Concrete Inputs": list(concrete)}


_NCCL = {"Collective name": "all_to_allv", "In msg nelems": 40, "Out msg nelems": 40, "Group size": 2, "dtype": "Float",
         "In split size": "[30, 10]", "Out split size": "[20, 20]", "Process Group Name": "0", "Seq": 1}  # fmt: skip


def profile(rank=0):
    """One step of a rank of two: an operator with shapes, its kernel, a copy, an all-to-all, memory, an annotation."""
    events = [
        event("ProfilerStep#3", 0, 200, "user_annotation"),
        event("aten::mm", 5, 20, **_shapes([[64, 32], [32, 16]], ["float", "float"], ["", ""]), **{"External id": 2}),
        event("cudaLaunchKernel", 8, 4, "cuda_runtime", correlation=1),
        event("aten::embedding_bag", 30, 30, **_shapes([[100, 8], [20], [5]], ["float", "long int", "long int"])),
        event("cudaLaunchKernel", 35, 4, "cuda_runtime", correlation=2),
        event("record_param_comms", 70, 20, **_NCCL),
        event("cudaLaunchKernel", 75, 4, "cuda_runtime", correlation=3),
        event("nn.Module: Linear_0", 4, 60, "python_function"),
        _kernel("sgemm_32x32", 14, 18, 7, 1),
        _kernel("embedding_bag_kernel", 41, 25, 7, 2),
        _kernel("ncclKernel_SendRecv", 80 + rank, 40 - rank, 9, 3),
        _kernel("Memcpy HtoD (Pinned -> Device)", 130, 6, 7, -1, bytes=4096) | {"cat": "gpu_memcpy"},
        {"ph": "i", "cat": "cpu_instant_event", "name": "[memory]", "pid": 1, "tid": 1, "ts": START_US + 9, "s": "t",
         "args": {"Addr": 77, "Bytes": 512, "Device Type": 1, "Device Id": 0, "Total Allocated": 512,
                  "Total Reserved": 2048}},
    ]  # fmt: skip
    groups = [{"pg_name": "0", "pg_desc": "default_pg", "backend_config": "cuda:nccl", "pg_size": 2, "ranks": [0, 1]}]
    return {
        "schemaVersion": 1, "deviceProperties": [{"id": 0, "name": "Tesla V100-SXM2-32GB", "totalGlobalMem": 2**35}],
        "distributedInfo": {"backend": "nccl", "rank": rank, "world_size": 2, "pg_config": groups},
        "traceEvents": events, "host_name": "node", "with_modules": 1,
    }  # fmt: skip


def otlp(service, *spans):
    """OTLP spans of one service: (trace, id, parent, name, start, end), in ns from 10^18."""
    written = [
        {"traceId": trace, "spanId": own, "parentSpanId": parent, "name": name, "kind": 3,
         "startTimeUnixNano": str(10**18 + start), "endTimeUnixNano": str(10**18 + end),
         "attributes": [{"key": "rpc.system", "value": {"stringValue": "grpc"}}]}
        for trace, own, parent, name, start, end in spans
    ]  # fmt: skip
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": written}]}]}


def jaeger():
    """A request and what it causes."""
    span = {"traceID": "5", "processID": "p", "startTime": 10**15}
    rank = span | {"spanID": "a", "operationName": "rank", "duration": 20}
    lookup = span | {"spanID": "b", "operationName": "lookup", "duration": 9, "tags": [{"key": "error", "value": True}]}
    lookup["references"] = [{"refType": "CHILD_OF", "traceID": "5", "spanID": "a"}]
    return {"data": [{"traceID": "5", "spans": [rank, lookup], "processes": {"p": {"serviceName": "main"}}}]}


def chakra():
    """A product and the all-reduce that waits for it."""
    graph = [
        {"Id": 0, "Name": "aten::mm", "NodeType": 4, "runtime": 5},
        {"Id": 1, "Name": "ncclKernel_AllReduce", "NodeType": 7, "runtime": 4, "data_deps": [0], "is_cpu_op": False,
         "comm_type": 0, "comm_size": 512},
    ]  # fmt: skip
    return {"workload_graph": graph}


def speedscope():
    """A thread that was sampled twice."""
    sampled = {"type": "sampled", "unit": "seconds", "samples": [[0], [0, 1]], "weights": [2, 1]}
    return {
        "shared": {"frames": [{"name": "main", "file": "a.py", "line": 3}, {"name": "step"}]},
        "profiles": [sampled],
    }


def snapshot():
    """A block in use, and how it came to be."""
    frames = [{"filename": "/src/model.py", "line": 35, "name": "forward"}]
    block = {"address": 1100, "size": 300, "state": "active_allocated", "frames": frames}
    alloc = {"action": "alloc", "addr": 1100, "size": 300, "time_us": 20, "frames": frames}
    segment = {"device": 0, "address": 1000, "total_size": 400, "blocks": [block]}
    return {"segments": [segment], "device_traces": [[{"action": "segment_alloc", "size": 400, "time_us": 9}, alloc]]}


COLLAPSED = "main (a.py:3);step 12\nmain (a.py:3) 3\n"

# Content, its processes and the number of its events. Text is text, all else JSON.
EXAMPLES = {
    "kineto": (profile(), ["rank-0"], 12),
    "execution_trace": (document("1.0.1"), ["rank-0"], 7),
    "chakra": (chakra(), ["rank-0"], 2),
    "otlp": (otlp("ranker", (TRACE, "0a", "", "rank", 0, 50), (TRACE, "0b", "0a", "lookup", 9, 30)), ["ranker"], 2),
    "jaeger": (jaeger(), ["main"], 2),
    "speedscope": (speedscope(), [], 0),
    "collapsed": (COLLAPSED, [], 0),
    "snapshot": (snapshot(), [], 0),
}


def as_bytes(content):
    """An example as it stands in a file."""
    return (content if isinstance(content, str) else json.dumps(content)).encode()
