"""Peak arithmetic: matrix products as the framework really runs them, by precision, on one core and on all.

An m x k by k x n product is 2 m k n FLOP (a fused multiply-add counts 2). Square and skinny shapes, several sizes; the
ceiling is the 90th percentile of the shape with the best median. A precision that the processor only emulates is no
ceiling: it is left out, with its rate.
"""

import itertools
import math
import time
from collections.abc import Callable, Sequence

import numpy as np

from workbench.machine.measure.plan import Plan
from workbench.machine.measure.sampling import Found, interleaved

_PRECISIONS = ("fp64", "fp32", "bf16", "fp16", "int8")
_QUICK_PRECISIONS = ("fp32", "bf16", "fp16", "int8")
# (m, k, n): squares, and the skinny products of an MLP at large and small batch. The first is always measured.
_QUICK_SHAPES = ((512, 512, 512), (1024, 1024, 1024), (2048, 2048, 2048), (4096, 4096, 4096), (2048, 512, 256))
_SHAPES = (*_QUICK_SHAPES, (8192, 256, 64), (64, 1024, 1024))
_LONGEST_SAMPLE_S, _QUICK_LONGEST_SAMPLE_S = 0.1, 0.025  # larger products keep few cores busy no better
_PROBE = (256, 256, 256)
_EMULATED_BELOW = 0.25  # of fp32's rate


def measure(plan: Plan) -> Found:
    """Rows kind compute (per precision and number of cores) and kind sweep (each shape)."""
    import torch

    found = Found()
    threads = torch.get_num_threads()
    try:
        rates = _real_rates(found, _QUICK_PRECISIONS if plan.quick else _PRECISIONS)
        trials = {
            (precision, cores, shape): _trial(precision, shape, cores)
            for precision, cores in itertools.product(rates, sorted({1, len(plan.cores)}))
            for shape in _worthwhile_shapes(rates[precision] * cores, plan.quick)
        }
        samples = interleaved(trials, plan.repeats)
    finally:
        torch.set_num_threads(threads)
    for precision, cores in dict.fromkeys(key[:2] for key in trials):
        by_shape = {key[2]: samples[key] for key in trials if key[:2] == (precision, cores)}
        add_rows(found, "cpu", precision, cores, by_shape)
    return found


def add_rows(found: Found, device: str, precision: str, cores: int | None, by_shape: dict[tuple, list[float]]) -> None:
    """One row kind sweep a shape, and the best shape's as row kind compute. `by_shape`: FLOP/s samples by (m, k, n)."""
    same = {"device": device, "precision": precision, "unit": "FLOP/s"} | ({"cores": cores} if cores else {})
    best = max(by_shape, key=lambda shape: np.median(by_shape[shape]))
    for shape, samples in by_shape.items():
        found.rate(samples, "matrix product", kind="sweep", name=_shape_words(shape), **same)
    found.rate(by_shape[best], f"matrix product {_shape_words(best)}, best of {len(by_shape)} shapes", kind="compute",
               name="matmul", **same)  # fmt: skip


def product(precision: str, shape: tuple[int, int, int], device: str) -> Callable[[], object]:
    """A function that multiplies two matrices of `shape` (m, k, n) on `device` once."""
    import torch

    m, k, n = shape
    if precision == "int8":
        left, right = (torch.randint(-8, 8, size, dtype=torch.int8, device=device) for size in ((m, k), (k, n)))
        return lambda: torch._int_mm(left, right)
    kind = {"fp64": torch.float64, "bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
    left, right = torch.randn(m, k, device=device).to(kind), torch.randn(k, n, device=device).to(kind)
    out = torch.empty(m, n, dtype=kind, device=device)
    return lambda: torch.mm(left, right, out=out)


def _real_rates(found: Found, candidates: Sequence[str]) -> dict[str, float]:
    """FLOP/s of a small product on one core, for those of `candidates` that the processor has a path for."""
    rates = {}
    for precision in candidates:
        try:
            trial = _trial(precision, _PROBE, 1)
            rates[precision] = max(trial() for _ in range(3))
        except (RuntimeError, NotImplementedError) as error:
            found.left_out[f"compute {precision}"] = f"torch cannot: {str(error).splitlines()[0]}"
    shares = {precision: rate / rates["fp32"] for precision, rate in rates.items()}
    for precision, share in shares.items():
        if share < _EMULATED_BELOW:
            found.left_out[f"compute {precision}"] = f"emulated: runs at {share:.3f} of the rate of fp32"
    return {precision: rate for precision, rate in rates.items() if shares[precision] >= _EMULATED_BELOW}


def _worthwhile_shapes(flops_per_s: float, quick: bool) -> list[tuple[int, int, int]]:
    """The shapes whose product takes no longer than a sample may, at about `flops_per_s`; at least the first."""
    first, *others = _QUICK_SHAPES if quick else _SHAPES
    longest_s = _QUICK_LONGEST_SAMPLE_S if quick else _LONGEST_SAMPLE_S
    return [first, *(shape for shape in others if 2 * math.prod(shape) / flops_per_s <= longest_s)]


def _trial(precision: str, shape: tuple[int, int, int], cores: int) -> Callable[[], float]:
    """FLOP/s of one product on `cores` threads."""
    import torch

    multiply, flops = product(precision, shape, "cpu"), 2 * math.prod(shape)

    def sample() -> float:
        torch.set_num_threads(cores)
        start_ns = time.perf_counter_ns()
        multiply()
        return flops / (time.perf_counter_ns() - start_ns) * 1e9

    return sample


def _shape_words(shape: tuple[int, int, int]) -> str:
    return "x".join(map(str, shape))
