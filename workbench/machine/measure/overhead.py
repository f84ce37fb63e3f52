"""What a call costs: typical operators with next to nothing to do.

An operator that takes about this long in a trace is bound by neither arithmetic nor memory, but by being called. The
time is without a profiler, which adds a microsecond or so to each recorded call.
"""

import time
from collections.abc import Callable

from workbench.machine.measure.plan import Plan
from workbench.machine.measure.sampling import Found, interleaved, passes_for


def measure(plan: Plan) -> Found:
    """Rows kind overhead: ns a call, by operator name as the profiler writes it."""
    import torch

    found = Found()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # nothing here is worth a second thread
    try:
        with torch.inference_mode():
            trials = {name: _trial(call) for name, call in near_empty_calls().items()}
            for name, samples_ns in interleaved(trials, plan.repeats).items():
                found.time(samples_ns, "call on single elements, no profiler", kind="overhead", name=name)
    finally:
        torch.set_num_threads(threads)
    return found


def near_empty_calls() -> dict[str, Callable[[], object]]:
    """Operator name -> a call of it on tensors of one element (or row)."""
    import torch
    from torch.nn import functional

    one, other = torch.ones(1), torch.ones(1)
    row, square, batch = torch.ones(1, 1), torch.ones(1, 1), torch.ones(1, 1, 1)
    index, flag = torch.zeros(1, dtype=torch.int64), torch.ones(1, dtype=torch.bool)
    return {
        "aten::add": lambda: torch.add(one, other), "aten::add_": lambda: one.add_(other),
        "aten::sub": lambda: torch.sub(one, other), "aten::mul": lambda: torch.mul(one, other),
        "aten::mul_": lambda: one.mul_(other), "aten::div": lambda: torch.div(one, other),
        "aten::sum": lambda: torch.sum(one), "aten::mean": lambda: torch.mean(one),
        "aten::relu": lambda: torch.relu(one), "aten::sigmoid": lambda: torch.sigmoid(one),
        "aten::mm": lambda: torch.mm(row, square), "aten::addmm": lambda: torch.addmm(one, row, square),
        "aten::bmm": lambda: torch.bmm(batch, batch), "aten::linear": lambda: functional.linear(row, square, one),
        "aten::matmul": lambda: torch.matmul(row, square),
        "aten::embedding": lambda: functional.embedding(index, row),
        "aten::embedding_bag": lambda: functional.embedding_bag(index, row, index, mode="sum"),
        "aten::index_select": lambda: torch.index_select(row, 0, index), "aten::index": lambda: row[index],
        "aten::gather": lambda: torch.gather(one, 0, index),
        "aten::index_add_": lambda: one.index_add_(0, index, other),
        "aten::scatter_add_": lambda: one.scatter_add_(0, index, other),
        "aten::cat": lambda: torch.cat((one, other)), "aten::stack": lambda: torch.stack((one, other)),
        "aten::split": lambda: torch.split(one, 1), "aten::slice": lambda: one[0:1],
        "aten::view": lambda: row.view(1), "aten::reshape": lambda: row.reshape(1), "aten::t": lambda: row.t(),
        "aten::transpose": lambda: row.transpose(0, 1), "aten::expand": lambda: one.expand(1, 1),
        "aten::empty": lambda: torch.empty(1), "aten::zeros": lambda: torch.zeros(1),
        "aten::fill_": lambda: one.fill_(1.0), "aten::zero_": lambda: flag.zero_(),
        "aten::copy_": lambda: one.copy_(other), "aten::clone": lambda: one.clone(),
        "aten::to": lambda: one.to(torch.float64), "aten::_to_copy": lambda: one.to(torch.float64),
        "aten::sort": lambda: torch.sort(one), "aten::_unique2": lambda: torch.unique(index),
        "aten::cumsum": lambda: torch.cumsum(one, 0), "aten::bincount": lambda: torch.bincount(index),
        "aten::item": lambda: one.item(), "aten::_local_scalar_dense": lambda: one.item(),
        "aten::binary_cross_entropy_with_logits": lambda: functional.binary_cross_entropy_with_logits(one, other),
    }  # fmt: skip


def _trial(call: Callable[[], object]) -> Callable[[], float]:
    """ns a call, over as many calls as fill a sample."""

    def repeated(calls: int) -> float:
        start_ns = time.perf_counter_ns()
        for _ in range(calls):
            call()
        return time.perf_counter_ns() - start_ns

    call()
    calls = passes_for(repeated)
    return lambda: repeated(calls) / calls
