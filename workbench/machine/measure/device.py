"""The first CUDA device: matrix products, device memory and L2 bandwidth, row gathers, the link to the host.

Times are between two events on the device's own clock, over as many launches as fill a sample. Counted bytes are those
of the arrays, read plus written; a gather counts the rows that it reads, in whole 64 B lines. Work on L2's small arrays
is short against its launch, so those rates are a lower bound.
"""

import itertools
import math
from collections.abc import Callable
from functools import partial

from workbench.machine.measure.compute import add_rows, product
from workbench.machine.measure.gather import ROW_BYTES, moved_bytes
from workbench.machine.measure.plan import Plan
from workbench.machine.measure.sampling import Found, Unavailable, interleaved, passes_for

DEVICE = "cuda:0"
_PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "int8")
_SHAPES = ((4096, 4096, 4096), (8192, 8192, 8192), (8192, 1024, 1024))
_ARRAY_BYTES = 512 << 20
_FOOTPRINTS_BYTES = (1 << 30, 8 << 30)
_DRAWS = 1 << 22  # of 64 B lines, five times an L2 of 50 MB
_BAG = 64  # rows pooled into one, so that what is written hardly counts


def measure(plan: Plan) -> Found:
    """Rows kind compute, bandwidth (hbm, l2, pcie) and gather of DEVICE."""
    import torch

    if not torch.cuda.is_available():
        raise Unavailable("no CUDA device")
    found = Found()
    _compute(found, plan)
    _bandwidth(found, plan)
    _gather(found, plan)
    return found


def _compute(found: Found, plan: Plan) -> None:
    import torch

    trials, allowed = {}, torch.backends.cuda.matmul.allow_tf32
    try:
        for precision, shape in itertools.product(_PRECISIONS, _SHAPES):
            multiply = _with_tf32(product(precision, shape, DEVICE), precision == "tf32")
            try:
                multiply()
            except RuntimeError as error:
                found.left_out[f"compute {precision} on {DEVICE}"] = str(error).splitlines()[0]
            else:
                trials[precision, shape] = _rate(multiply, 2 * math.prod(shape))
        samples = interleaved(trials, plan.repeats)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed
    for precision in dict.fromkeys(precision for precision, _ in samples):
        by_shape = {shape: samples[key, shape] for key, shape in samples if key == precision}
        add_rows(found, DEVICE, precision, None, by_shape)
    torch.cuda.empty_cache()


def _bandwidth(found: Found, plan: Plan) -> None:
    import torch

    l2_bytes = torch.cuda.get_device_properties(0).L2_cache_size
    trials = {}
    for tier, array_bytes in (("hbm", _ARRAY_BYTES), ("l2", l2_bytes // 8)):
        first, second, target = (torch.ones(array_bytes // 4, device=DEVICE) for _ in range(3))
        calls = {
            "read": (first.sum, 1),
            "write": (partial(target.fill_, 1.0), 1),
            "copy": (partial(target.copy_, first), 2),
            "triad": (partial(torch.add, first, second, alpha=3.0, out=target), 3),
        }
        for name, (call, arrays) in calls.items():
            trials[tier, name, arrays * array_bytes] = _rate(call, arrays * array_bytes)
    host, device = torch.ones(_ARRAY_BYTES // 8).pin_memory(), torch.ones(_ARRAY_BYTES // 8, device=DEVICE)
    trials["pcie", "host_to_device", None] = _rate(partial(device.copy_, host, True), host.nbytes)
    trials["pcie", "device_to_host", None] = _rate(partial(host.copy_, device, True), host.nbytes)
    for (tier, name, size), samples in interleaved(trials, plan.repeats).items():
        found.rate(samples, "bytes of the arrays, device events", kind="bandwidth", device=DEVICE, tier=tier, name=name,
                   working_set_bytes=size, active=1, unit="B/s")  # fmt: skip


def _gather(found: Found, plan: Plan) -> None:
    import torch

    free_bytes, _ = torch.cuda.mem_get_info(0)
    footprints = [size for size in _FOOTPRINTS_BYTES if size < free_bytes / 4]
    for size in footprints:
        table, trials = torch.ones(size // 4, device=DEVICE), {}
        for row_bytes in ROW_BYTES:
            rows = table.view(-1, row_bytes // 4)
            drawn = torch.randint(len(rows), (min(len(rows), _DRAWS) // _BAG, _BAG), device=DEVICE)
            pool = partial(torch.nn.functional.embedding_bag, drawn, rows, mode="sum")
            trials[row_bytes] = _rate(pool, drawn.numel() * moved_bytes(row_bytes))
        for row_bytes, samples in interleaved(trials, plan.repeats).items():
            found.rate(samples, f"lines of random rows, pooled by {_BAG}", kind="gather", device=DEVICE, tier="hbm",
                       name="gather", row_bytes=row_bytes, working_set_bytes=size, active=1, unit="B/s")  # fmt: skip


def _rate(call: Callable[[], object], amount: float) -> Callable[[], float]:
    """`amount` (FLOP or bytes) a second of a call, on the device's clock."""
    import torch

    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def repeated(launches: int) -> float:
        start.record()
        for _ in range(launches):
            call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) * 1e6

    repeated(1)
    launches = passes_for(repeated)
    return lambda: launches * amount / repeated(launches) * 1e9


def _with_tf32(multiply: Callable[[], object], allowed: bool) -> Callable[[], object]:
    import torch

    def switched() -> object:
        torch.backends.cuda.matmul.allow_tf32 = allowed
        return multiply()

    return switched
