"""Names, sizes and factors of collectives."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.costs.collectives import (
    COLLECTIVES,
    SIZE_MEANING,
    busbw_factor,
    collective_of,
    message_bytes,
    uneven_bytes,
)
from workbench.errors import InputError

SPELLINGS = {
    "all_to_all": ["c10d::alltoall_base_", "c10d::alltoall_", "gloo:all_to_all", "nccl:all_to_all", "all_to_allv",
                   "_c10d_functional::all_to_all_single", "ncclDevKernel_AlltoAll_RING(x)"],
    "all_reduce": ["c10d::allreduce_", "c10d::allreduce_coalesced_", "gloo:all_reduce", "nccl:all_reduce", "allreduce",
                   "ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)",
                   "ncclKernel_AllReduce_RING_LL_Sum_float(ncclDevComm*, unsigned long, ncclWork*)",
                   "ncclAllReduceRingLLKernel_sum_f32(ncclColl)", "ncclSymkDevKernel_AllReduce_RSxLD_AGxST_sum_f32"],
    "all_gather": ["c10d::_allgather_base_", "_allgather_base", "allgather_into_tensor_coalesced",
                   "nccl:_all_gather_base", "c10d::allgather_",
                   "ncclDevKernel_AllGather_RING_LL(ncclDevKernelArgsStorage<4096ul>)"],
    "reduce_scatter": ["c10d::_reduce_scatter_base_", "_reduce_scatter_base", "reduce_scatter_tensor_coalesced",
                       "ncclDevKernel_ReduceScatter_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)"],
    "broadcast": ["c10d::broadcast_", "gloo:broadcast", "_broadcast_oop", "ncclKernel_Broadcast_RING_LL_Sum_int8_t(x)"],
    "reduce": ["c10d::reduce_", "nccl:reduce", "reduce", "ncclDevKernel_Reduce_Sum_f32_RING_LL(x)"],
    "gather": ["c10d::gather_", "gloo:gather", "gather"],
    "scatter": ["c10d::scatter_", "scatter"],
    "send": ["c10d::send", "nccl:send 0->1", "send"],
    "recv": ["c10d::recv_", "c10d::recv_any_source_", "nccl:recv 1<-0", "recv"],
    "barrier": ["c10d::barrier", "c10d::monitored_barrier_", "gloo:barrier", "barrier"],
    "send_recv": ["ncclKernel_SendRecv_RING_SIMPLE_Sum_int8_t(ncclDevComm*, unsigned long, ncclWork*)",
                  "ncclDevKernel_SendRecv(ncclDevKernelArgsStorage<4096ul>)", "ncclSendRecvKernel_copy_i8(ncclColl)"],
}  # fmt: skip


@pytest.mark.parametrize(("collective", "name"), [(c, name) for c, names in SPELLINGS.items() for name in names])
def test_names_as_traces_spell_them(collective: str, name: str) -> None:
    assert collective_of(name) == collective


@pytest.mark.parametrize(
    "name",
    ["aten::gather", "aten::scatter_", "aten::_foreach_reduce", "wait", "init", "All2All_Pooled_Req", "sendmail", ""]
    + [
        "ncclDevKernel_Generic(ncclDevKernelArgsStorage<4096ul>)",
        "reduce_kernel",
        "broadcast_tensors",
        "Optimizer.step",
    ],
)
def test_other_names_are_no_collective(name: str) -> None:
    assert collective_of(name) is None


@given(st.text())
def test_any_text_is_a_collective_or_none(name: str) -> None:
    assert collective_of(name) in (*COLLECTIVES, "send_recv", None)


@pytest.mark.parametrize(
    ("collective", "factor"),
    [("all_reduce", 1.75), ("all_to_all", 0.875), ("all_gather", 0.875), ("reduce_scatter", 0.875), ("gather", 0.875),
     ("scatter", 0.875), ("broadcast", 1), ("reduce", 1), ("send", 1), ("recv", 1), ("barrier", 0)],
)  # fmt: skip
def test_bus_factors_of_8_ranks(collective: str, factor: float) -> None:
    assert busbw_factor(collective, 8) == factor


def test_one_rank_has_nothing_on_the_bus() -> None:
    assert busbw_factor("all_reduce", 1) == busbw_factor("all_to_all", 1) == 0


@pytest.mark.parametrize(
    ("collective", "in_bytes", "out_bytes", "expected"),
    [
        ("all_reduce", 100, 100, 100),
        ("all_to_all", 100, 100, 100),
        ("all_gather", 100, 800, 800),
        ("all_gather", 100, 0, 800),
        ("reduce_scatter", 800, 100, 800),
        ("reduce_scatter", 0, 100, 800),
        ("gather", 100, 0, 800),  # a rank that is not the root
        ("scatter", 0, 100, 800),
        ("broadcast", 100, 0, 100),
        ("barrier", 4, 4, 0),
    ],
)
def test_message_sizes_of_8_ranks(collective: str, in_bytes: float, out_bytes: float, expected: float) -> None:
    assert message_bytes(collective, in_bytes, out_bytes, 8) == expected


def test_every_collective_says_what_its_size_means() -> None:
    assert set(SIZE_MEANING) == set(COLLECTIVES)


def test_uneven_all_to_all_leaves_self_out() -> None:
    assert uneven_bytes(sent_to=[10, 20, 30], received_from=[1, 2, 4], self_rank=1) == 40
    assert uneven_bytes(sent_to=[1, 20, 3], received_from=[10, 99, 5], self_rank=1) == 15
    # Of an even exchange, the part of the buffer that leaves the rank: the even form's size times its bus factor.
    assert uneven_bytes([25] * 4, [25] * 4, 0) == message_bytes("all_to_all", 100, 100, 4) * busbw_factor(
        "all_to_all", 4
    )


def test_wrong_calls_are_input_errors() -> None:
    with pytest.raises(InputError, match="all_shuffle"):
        busbw_factor("all_shuffle", 8)
    with pytest.raises(InputError, match="at least one rank"):
        busbw_factor("all_reduce", 0)
    with pytest.raises(InputError, match="all_shuffle"):
        message_bytes("all_shuffle", 1, 1, 8)
    with pytest.raises(InputError, match="one entry a rank"):
        uneven_bytes([1, 2], [1, 2, 3], 0)
