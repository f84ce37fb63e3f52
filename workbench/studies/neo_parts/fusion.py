"""What fusing the optimizer into the backward pass saves: the gradient of every lookup is never written to memory."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.profiler import profile

from workbench.costs.operators.embedding import embedding_backward_cost
from workbench.costs.sharding import distinct_rows
from workbench.embeddings.kernels import make_lookup
from workbench.embeddings.tables import TableConfig
from workbench.studies.core.criteria import AtLeast, Within
from workbench.studies.core.curves import Curve
from workbench.studies.core.facts import Fact
from workbench.studies.core.parts import Part, Say
from workbench.studies.core.quantities import Quantity, row
from workbench.studies.core.threads import threads

_POOLING = 20


@dataclass(frozen=True)
class Shape:
    """Tables of [rows, dim], and bags of `pooling` lookups for `batch` samples of each."""

    tables: int
    rows: int
    dim: int
    batch: int
    pooling: int = _POOLING


SHAPES = {
    "tiny": Shape(tables=4, rows=2_000, dim=32, batch=64),
    "small": Shape(tables=10, rows=50_000, dim=64, batch=512),
    "full": Shape(tables=10, rows=1_000_000, dim=256, batch=4096),
}
GRADIENT = Quantity(
    name=f"gradient of every lookup over that of every bag, L = {_POOLING}", unit="1", scale_free=True,
    fact=Fact(_POOLING, "recalled H"), criterion=Within(0.01),
)  # fmt: skip
PEAK = Quantity(
    name=f"peak memory of a step, unfused over fused, L = {_POOLING}", unit="1", scale_free=True,
    fact=Fact("gradients of lookups are never in memory", "src"), criterion=AtLeast(_POOLING / 2),
)  # fmt: skip
TRAFFIC = Quantity(
    name=f"bytes of the backward pass, unfused over fused, L = {_POOLING}", unit="1", scale_free=True,
    fact=Fact("saves writing and reading them", "src"), criterion=AtLeast(2),
)  # fmt: skip
SPEED = Quantity(
    name="time of a step on one thread, unfused over fused", unit="1", scale_free=False, fact=Fact("up to 7", "src"),
)  # fmt: skip


def run(scale: str, seeds: Sequence[int], say: Say) -> Part:
    """Fused: this workbench's lookup (FBGEMM where it is installed). Unfused: a sparse EmbeddingBag a table, whose
    gradients an optimizer applies. Row-wise AdaGrad against AdaGrad, as PyTorch has no row-wise one for sparse rows."""
    shape = SHAPES[scale]
    peaks, times = [], []
    for number, seed in enumerate(seeds):
        say(f"repeat {number + 1} of {len(seeds)}", number / len(seeds))
        steps = [fused_step(shape, seed), unfused_step(shape, seed)]
        fused_bytes, unfused_bytes = map(peak_bytes, steps)
        with threads(1):  # more would measure how busy the machine is
            fused_s, unfused_s = map(step_seconds, steps)
        peaks.append(unfused_bytes / fused_bytes)
        times.append(unfused_s / fused_s)
    rows = [
        row(GRADIENT, [lookup_gradient_bytes(shape) / bag_gradient_bytes(shape)], "modelled"),
        row(PEAK, peaks, "measured"),
        row(TRAFFIC, [_unfused_bytes(shape) / _fused_bytes(shape)], "modelled"),
        row(SPEED, times, "measured"),
    ]
    points = [
        {"ids a bag": pooling, "bytes, unfused / fused": _unfused_bytes(longer) / _fused_bytes(longer)}
        for pooling in (1, 2, 5, 10, 20, 50, 100)
        for longer in [Shape(shape.tables, shape.rows, shape.dim, shape.batch, pooling)]
    ]
    curve = Curve(
        title=f"Bytes of the backward pass, rows of {shape.dim}, {shape.batch} samples", table=points, x="ids a bag",
        y="bytes, unfused / fused", log_x=True, source="modelled",
    )  # fmt: skip
    return Part(rows, [curve], [_ALLOCATOR_NOTE])


_ALLOCATOR_NOTE = (
    "fusion: peak memory is what PyTorch's allocator hands out in a step; FBGEMM's own index buffers on CPUs (some "
    "bytes a lookup) are not among it"
)


def fused_step(shape: Shape, seed: int) -> Callable[[], None]:
    """Lookup, backward and update of all tables in one operator each."""
    tables = [TableConfig(name=f"table_{n}", rows=shape.rows, dim=shape.dim) for n in range(shape.tables)]
    lookup = make_lookup(tables, "auto", 0.01, "cpu", seed)
    indices, offsets, gradient = _inputs(shape, seed)
    return lambda: lookup(indices, offsets).backward(gradient)


def unfused_step(shape: Shape, seed: int) -> Callable[[], None]:
    """The same with sparse gradients, table by table, and an optimizer after them."""
    bags = [torch.nn.EmbeddingBag(shape.rows, shape.dim, mode="sum", sparse=True) for _ in range(shape.tables)]
    optimizer = torch.optim.Adagrad([bag.weight for bag in bags], lr=0.01)
    indices, offsets, gradient = _inputs(shape, seed)
    starts = offsets[: shape.batch]

    def step() -> None:
        parts = indices.view(shape.tables, -1)
        torch.cat([bag(ids, starts) for bag, ids in zip(bags, parts, strict=True)], dim=1).backward(gradient)
        with torch.sparse.check_sparse_tensor_invariants(enable=False):  # said, so that torch does not warn
            optimizer.step()
        optimizer.zero_grad()

    return step


def peak_bytes(step: Callable[[], None]) -> int:
    """Most memory that one `step` holds of what it allocates itself, after one to warm up."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # its notes of every start and stop are not for our users
    step()
    with profile(profile_memory=True) as recording:
        step()
    events = [event for event in recording.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def step_seconds(step: Callable[[], None], repeats: int = 5) -> float:
    """The median of `repeats` steps."""
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        step()
        taken.append(time.perf_counter() - started)
    return sorted(taken)[repeats // 2]


def bag_gradient_bytes(shape: Shape) -> int:
    """What comes back from the interaction: one gradient a bag."""
    return 4 * shape.tables * shape.batch * shape.dim


def lookup_gradient_bytes(shape: Shape) -> int:
    """What an unfused backward pass makes of it: one gradient a lookup."""
    return bag_gradient_bytes(shape) * shape.pooling


def _fused_bytes(shape: Shape) -> float:
    """Of one table: bag gradients read, each distinct row and its state read and written once."""
    lookups = shape.batch * shape.pooling
    unique_share = distinct_rows(lookups, shape.rows) / lookups
    cost = embedding_backward_cost(lookups, shape.batch, shape.dim, 4, 4, unique_share)
    return cost.read_bytes + cost.write_bytes


def _unfused_bytes(shape: Shape) -> float:
    """Of one table: lookups' gradients written, read and added up to one a distinct row, which is written and read."""
    distinct_bytes = 4 * shape.dim * distinct_rows(shape.batch * shape.pooling, shape.rows)
    return _fused_bytes(shape) + 2 * lookup_gradient_bytes(shape) / shape.tables + 2 * distinct_bytes


def _inputs(shape: Shape, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Table-major indices and offsets, and the gradient [batch, tables * dim]."""
    generator = torch.Generator().manual_seed(seed)
    lookups = shape.tables * shape.batch * shape.pooling
    indices = torch.randint(0, shape.rows, (lookups,), generator=generator)
    gradient = torch.randn(shape.batch, shape.tables * shape.dim, generator=generator)
    return indices, torch.arange(0, lookups + 1, shape.pooling), gradient
