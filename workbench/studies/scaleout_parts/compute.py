"""Overhead over compute a request. What RPCs cost is fixed: where do they cost 1 %, the paper's best?

The first model's dense layers are made wider and wider, which adds compute and not a byte to any RPC.
"""

import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from workbench.studies.core.curves import Curve
from workbench.studies.core.facts import Fact
from workbench.studies.core.parts import Part, Say
from workbench.studies.core.quantities import Quantity, row
from workbench.studies.scaleout_parts.cuts import SINGULAR, load_bal
from workbench.studies.scaleout_parts.deployments import Served, serve
from workbench.studies.scaleout_parts.grid import WHERE
from workbench.studies.scaleout_parts.overhead import BEST
from workbench.studies.scaleout_parts.scales import SCALES, Scale
from workbench.workloads.inference.models import model_config
from workbench.workloads.inference.models.config import ModelConfig
from workbench.workloads.inference.models.exported import export_model
from workbench.workloads.inference.models.ranker import Ranker

WIDTHS = {"tiny": (1, 8), "small": (1, 4, 16), "full": (1, 4, 16, 64)}  # of the dense layers, over the model's own
_ROWS_FACTOR = 0.1  # dense layers are what is varied
# Wide layers take long; the paper's percentile is the last, which only scale full has requests for.
_REQUESTS = {"tiny": 6, "small": 12, "full": 10_000}
_PERCENTILE = {"tiny": 50, "small": 50, "full": 99}
_AXIS = "ms a request on one server"

# By width and cut (singular, ours measured, ours modelled), one deployment a seed.
Sweep = dict[int, list[dict[str, Served]]]


def run(scale: str, seeds: Sequence[int], say: Say) -> Part:
    """Load-balanced over the fewest shards against singular, at every width."""
    size, percentile = SCALES[scale], _PERCENTILE[scale]
    sweep: Sweep = {width: [] for width in WIDTHS[scale]}
    for place, width in enumerate(sweep):
        with exported_wider(size.models[0], width) as folder:
            for number, seed in enumerate(seeds):
                done_share = (place + number / len(seeds)) / len(sweep)
                say(f"layers {width} times as wide, repeat {number + 1} of {len(seeds)}", done_share)
                sweep[width].append(_served(folder, size, _REQUESTS[scale], seed))
    cut = load_bal(min(size.shards))
    name = f"{size.models[0]}, {cut}"
    rows, curves = [], []
    for source in WHERE:
        found, curve = _overhead(sweep, name, source, percentile)
        rows += [*found, *_meeting(sweep, name, source, percentile)]
        curves.append(curve)
    return Part(rows, curves, [_WHY])


_WHY = (
    "compute: wider layers change no RPC, so distribution adds about the same to every request, and its percentage "
    "falls as requests grow. The rows 'at which that is +1 %' say how long a request must take to show the paper's "
    "overhead; how long the paper's requests take is not known here"
)


def _overhead(sweep: Sweep, name: str, source: str, percentile: int) -> tuple[list[dict], Curve]:
    """A row a width, and all of them over the length of the request."""
    rows, points, axis = [], [], f"P{percentile} over singular's"
    for width, repeats in sweep.items():
        ratios = [s[source].latency_ns(percentile) / s["singular"].latency_ns(percentile) for s in repeats]
        found = row(
            Quantity(name=f"{name}, dense layers x {width}: {axis}, {WHERE[source]}", unit="1", scale_free=False),
            ratios, source,
        )  # fmt: skip
        rows.append(found)
        length_ms = float(np.mean([s["singular"].latency_ns(percentile) for s in repeats])) / 1e6
        ends = {end: found[end] for end in ("low", "high")}
        points.append({_AXIS: length_ms, axis: found["ours"], "line": "ours", **ends})
    # A line to meet: the paper does not say how long its requests are.
    points += [{_AXIS: point[_AXIS], axis: BEST.value, "line": "the paper's best"} for point in points]
    curve = Curve(
        title=f"{name}: overhead by compute a request, {WHERE[source]}", table=points, x=_AXIS, y=axis, colour="line",
        log_x=True, source=source,
    )  # fmt: skip
    return rows, curve


def _meeting(sweep: Sweep, name: str, source: str, percentile: int) -> list[dict]:
    """What distribution adds to the narrowest model's requests, and how long a request must be to make that 1 %."""
    added_ns = [added(repeat, source, percentile) for repeat in sweep[min(sweep)]]
    cost = Quantity(name=f"{name}: added to P{percentile}, {WHERE[source]}", unit="ns", scale_free=False)
    length = Quantity(
        name=f"{name}: P{percentile} of singular at which that is +1 %, {WHERE[source]}", unit="ns", scale_free=False,
        fact=Fact("+1 % at P99, in the best configuration", BEST.tag),
    )  # fmt: skip
    return [row(cost, added_ns, source), row(length, [length_ns(ns) for ns in added_ns], "modelled")]


def added(repeat: dict[str, Served], source: str, percentile: int) -> float:
    """ns that distribution adds to a request."""
    return repeat[source].latency_ns(percentile) - repeat["singular"].latency_ns(percentile)


def length_ns(added_ns: float) -> float:
    """Of a request on one server for which `added_ns` are the paper's overhead."""
    return added_ns / (BEST.value - 1)


def wider(model: ModelConfig, width: int) -> ModelConfig:
    """The model with every dense layer `width` times as wide, outputs as they are."""
    nets = tuple(
        dataclasses.replace(
            net,
            bottom_mlp=tuple(width * units for units in net.bottom_mlp),
            top_mlp=(*(width * units for units in net.top_mlp[:-1]), net.top_mlp[-1]),
        )
        for net in model.nets
    )
    return dataclasses.replace(model, nets=nets)


@contextmanager
def exported_wider(model: str, width: int) -> Iterator[str]:
    """The folder of `model` with layers `width` times as wide."""
    with tempfile.TemporaryDirectory(prefix="workbench-") as folder:
        ranker = Ranker.untrained(wider(model_config(model, _ROWS_FACTOR), width))
        yield str(export_model(ranker, Path(folder) / "model").path)


def _served(folder: str, size: Scale, requests: int, seed: int) -> dict[str, Served]:
    load = size.load | {"requests": requests, "warmup_requests": 3}
    cut = load_bal(min(size.shards))
    deployments = {
        "singular": SINGULAR.settings,
        "measured": cut.settings,
        "modelled": cut.settings | {"uncontended": True},
    }
    return {name: serve(exported=folder, seed=seed, **settings, **load) for name, settings in deployments.items()}
