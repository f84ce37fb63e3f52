"""Collectives: one name for each, the bytes that count as its message, and its factor from algorithm to bus bandwidth.

Sizes and factors are those of nccl-tests (doc/PERFORMANCE.md in its repository), so that figures compare with what its
users know: algorithm bandwidth = message_bytes / time, bus bandwidth = algorithm bandwidth x busbw_factor.
"""

import re
from collections.abc import Sequence

from workbench.errors import InputError

COLLECTIVES = (
    "all_to_all", "all_reduce", "all_gather", "reduce_scatter", "broadcast", "reduce", "gather", "scatter", "send",
    "recv", "barrier",
)  # fmt: skip
# A kernel that sends and receives: all-to-all, or plain send and recv. Only the call that launched it knows.
SEND_RECV = "send_recv"

SIZE_MEANING = {
    "all_to_all": "bytes of one rank's whole buffer, its own part included; uneven splits: the most that the rank "
    "sends to or receives from others, its own part left out",
    "all_reduce": "bytes of one rank's buffer",
    "all_gather": "bytes of the gathered array: one rank's part x ranks",
    "reduce_scatter": "bytes of the array before scattering: one rank's part x ranks",
    "broadcast": "bytes of the buffer",
    "reduce": "bytes of one rank's buffer",
    "gather": "bytes of the gathered array: one rank's part x ranks",
    "scatter": "bytes of the array before scattering: one rank's part x ranks",
    "send": "bytes sent",
    "recv": "bytes received",
    "barrier": "no message",
}

# Prefix of operators (c10d), backends' annotations (gloo:, nccl:), and kernels of NCCL, old and new, and RCCL.
_OPERATOR = re.compile(r"(?:_?c10d(?:_functional)?::|(?:gloo|nccl|rccl|mpi|ucc|xccl):)(.*)")
_KERNEL = re.compile(
    r"(?:void )?[nr]ccl(?:\w*?Kernel_)?"
    r"(All[Rr]educe|All[Gg]ather|All[Tt]o[Aa]ll|ReduceScatter|Broadcast|SendRecv|Reduce|Gather|Scatter)"
)
# Words with only letters left: all_to_allv, _allgather_base, reduce_scatter_tensor_coalesced, recv_any_source...
_WORD = re.compile(
    r"(alltoall|allreduce|allgather|reducescatter|broadcast|reduce|gather|scatter|sendrecv|i?send|i?recv|"
    r"(?:monitored)?barrier)(?:v|base|single|sparse|into|tensor|togroup|coalesced|oop|out|anysource|object|list)*"
)
_SPELLED = {name.replace("_", ""): name for name in (*COLLECTIVES, SEND_RECV)}
_SPELLED |= {"isend": "send", "irecv": "recv", "monitoredbarrier": "barrier"}


def collective_of(name: str) -> str | None:
    """The collective (one of COLLECTIVES, or SEND_RECV) that an operator, annotation, kernel or `Collective name`
    means: 'c10d::_allgather_base_', 'gloo:all_to_all', 'ncclDevKernel_AllReduce_Sum_f32_RING_LL(...)', 'all_to_allv'.
    None for anything else."""
    if kernel := _KERNEL.match(name):
        word = kernel[1]
    else:
        operator = _OPERATOR.match(name)
        word = operator[1].partition(" ")[0] if operator else name
    matched = _WORD.fullmatch(re.sub(r"[_.]", "", word).lower())
    return _SPELLED[matched[1]] if matched else None


def busbw_factor(collective: str, group_size: int) -> float:
    """Bus bandwidth / algorithm bandwidth of `collective` among `group_size` ranks; InputError for another name."""
    if collective not in COLLECTIVES:
        raise InputError(f"unknown collective {collective!r}: choose one of {', '.join(COLLECTIVES)}")
    if group_size < 1:
        raise InputError(f"group_size is {group_size}: a group has at least one rank")
    if collective == "all_reduce":
        return 2 * (group_size - 1) / group_size
    if collective in ("all_to_all", "all_gather", "reduce_scatter", "gather", "scatter"):
        return (group_size - 1) / group_size
    return 0.0 if collective == "barrier" else 1.0


def message_bytes(collective: str, in_bytes: float, out_bytes: float, group_size: int) -> float:
    """Message size by SIZE_MEANING, from the bytes of the rank's input and output (0 where one is not known).

    A root's missing side and a part without its whole are made up for by `group_size`. All-to-all is taken as even: see
    `uneven_bytes`.
    """
    if collective not in COLLECTIVES:
        raise InputError(f"unknown collective {collective!r}: choose one of {', '.join(COLLECTIVES)}")
    if collective == "barrier":
        return 0.0
    if collective in ("all_gather", "gather"):
        return float(max(out_bytes, in_bytes * group_size))
    if collective in ("reduce_scatter", "scatter"):
        return float(max(in_bytes, out_bytes * group_size))
    return float(max(in_bytes, out_bytes))


def uneven_bytes(sent_to: Sequence[float], received_from: Sequence[float], self_rank: int) -> float:
    """What one rank puts on or takes off the wire in an uneven all-to-all, whichever is more: bytes to and from each
    rank, its own part left out. Its bus factor is 1, since self is already out; a collective's size is the maximum over
    ranks.
    """
    if len(sent_to) != len(received_from) or not 0 <= self_rank < len(sent_to):
        found = f"{len(sent_to)} sent and {len(received_from)} received, of rank {self_rank}"
        raise InputError(f"all-to-all splits: {found}; give one entry a rank")
    return float(max(sum(sent_to) - sent_to[self_rank], sum(received_from) - received_from[self_rank]))
