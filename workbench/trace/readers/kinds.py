"""What an event is: from its category and name to the words of the events table (kind, collective, phase).

Category names drifted over the years and differ by device; names follow the conventions of PyTorch's dispatcher,
profiler and collective libraries.
"""

import re
from typing import NamedTuple

from workbench.costs.collectives import collective_of

# As Kineto wrote them before 2022, and as its predecessors did.
_ALIASES = {
    "operator": "cpu_op", "runtime": "cuda_runtime", "memcpy": "gpu_memcpy", "memset": "gpu_memset",
    "python": "python_function",
}  # fmt: skip

# Autograd's own profiler (without Kineto) names no category, but two processes.
_PROCESS_CATEGORIES = {"CPU functions": "cpu_op", "CUDA functions": "kernel"}

# Rows that lie on a device's track: their pid is the device, their tid the stream.
DEVICE_CATEGORIES = frozenset(
    {"kernel", "gpu_memcpy", "gpu_memset", "gpu_user_annotation", "cuda_sync", "cuda_profiler_range", "mtia_ccp_events"}
)
# Device work that a host call launches.
LAUNCHED_CATEGORIES = frozenset({"kernel", "gpu_memcpy", "gpu_memset", "mtia_ccp_events", "cuda_sync"})

# Words of the device queues of MTIA that are not jobs.
_MTIA_KINDS = {"dma_request": "memory", "event_wait": "wait", "event_record": "runtime"}
_KINDS = {
    "gpu_memcpy": "memory", "gpu_memset": "memory", "cuda_sync": "wait", "overhead": "runtime",
    "kernel": "compute", "cpu_op": "compute",
}  # fmt: skip

# Operators that only move or set bytes.
_MOVES = re.compile(
    r"aten::(_?copy|_to_copy|to|type_as|clone|contiguous|fill|zero|zeros|ones|full"
    r"|(zeros|ones|full)_like|new_(zeros|ones|full)|_?pin_memory|_copy_from(_and_resize)?)_?"
)
_COLLECTIVE_CALL = re.compile(r"record_param_comms$|(c10d|_?c10d_functional)::|(gloo|nccl|hccl|xccl|ucc|mpi):")
_COLLECTIVE_KERNEL = re.compile(r"(void )?(nccl|rccl|msccl|hccl)", re.IGNORECASE)
# The engine around an operator's backward: "autograd::engine::evaluate_function: X", "XBackward0".
_AUTOGRAD = re.compile(r"(torch::)?autograd::|\w+Backward\d*$")
# Annotations that older profilers file under operators.
_ANNOTATION = re.compile(r"ProfilerStep#|Optimizer\.|enumerate\(DataLoader\)|DistributedDataParallel\.|## |\[param\|")


class Meaning(NamedTuple):
    """Words of the events table for one (category, name); `collective` is "" where the name does not tell."""

    kind: str
    collective: str = ""
    phase: str = ""


def canonical(category: str, pid: object) -> str:
    """Today's word for the category of a process's events: 'Runtime' -> 'cuda_runtime'."""
    lowered = category.lower() or _PROCESS_CATEGORIES.get(pid, "")
    return _ALIASES.get(lowered, lowered)


def meaning(category: str, name: str, names: frozenset[str] = frozenset()) -> Meaning:
    """The meaning of an event of the (canonical) `category` called `name`; anything unheard of is a span.

    `names` are all names of the trace: an operator X beside an XBackward is a Python autograd function, whose own time
    is Python's (or a wait inside it), not a kernel's.
    """
    if category.endswith(("_runtime", "_driver")):
        return Meaning("runtime")
    if category == "mtia_ccp_events":
        return Meaning(_MTIA_KINDS.get(name, "compute"))
    if category in ("cpu_op", "user_annotation") and _COLLECTIVE_CALL.match(name):
        return Meaning("communication", collective_of(name) or "")
    if category == "kernel" and _COLLECTIVE_KERNEL.match(name):
        return Meaning("communication", collective_of(name) or "")
    if name.startswith("Optimizer.step#"):
        return Meaning("span", phase="optimizer")
    if category == "cpu_op":
        return Meaning("runtime") if f"{name}Backward" in names else _operator(name)
    return Meaning(_KINDS.get(category, "span"))


def _operator(name: str) -> Meaning:
    if _AUTOGRAD.match(name):
        phase = "backward" if name.startswith("autograd::engine::evaluate_function") else ""
        return Meaning("runtime", phase=phase)
    if _ANNOTATION.match(name):
        return Meaning("span")
    return Meaning("memory" if _MOVES.fullmatch(name) else "compute")
