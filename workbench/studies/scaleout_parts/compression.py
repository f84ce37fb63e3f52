"""Rows in 8 and 4 bits an element: what they save, what they cost in latency, and how far scores move."""

from collections.abc import Sequence

import numpy as np
import torch

from workbench.studies.core.curves import Curve
from workbench.studies.core.facts import Fact
from workbench.studies.core.parts import Part, Say
from workbench.studies.core.quantities import Quantity, row
from workbench.studies.scaleout_parts.cuts import SINGULAR
from workbench.studies.scaleout_parts.deployments import Served, exported, serve
from workbench.studies.scaleout_parts.scales import SCALES
from workbench.workloads.inference.models.exported import load_model
from workbench.workloads.inference.models.ranker import Ranker
from workbench.workloads.inference.requests import make_requests

TYPES = ("fp32", "int8", "int4")
_REQUESTS = 4  # whose scores are compared
_SMALLER = {"int8": None, "int4": Fact(5.56, "recalled M")}
_UNCHANGED = Fact("about unchanged", "recalled M")


def run(scale: str, seeds: Sequence[int], say: Say) -> Part:
    """The first model on one server: nothing but its rows changes."""
    size = SCALES[scale]
    model = size.models[0]
    served: dict[str, list[Served]] = {kind: [] for kind in TYPES}
    with exported(model, size.rows_factor) as folder:
        rankers = {kind: load_model(folder, kind) for kind in TYPES}
        table_bytes = {kind: ranker.table_bytes for kind, ranker in rankers.items()}
        errors = {kind: [score_error(rankers, kind, size.items, seed) for seed in seeds] for kind in TYPES[1:]}
        del rankers  # their tables are not to stand beside the servers' in the caches
        for number, seed in enumerate(seeds):
            for place, kind in enumerate(TYPES):
                done_share = (number + place / len(TYPES)) / len(seeds)
                say(f"{kind} rows, repeat {number + 1} of {len(seeds)}", done_share)
                settings = SINGULAR.settings | size.load | {"table_type": kind}
                served[kind].append(serve(exported=folder, seed=seed, **settings))
    rows = []
    for kind in TYPES[1:]:
        rows += _rows(f"{model}, {kind} rows", kind, table_bytes, served, errors[kind])
    points = [
        {
            "label": kind, "bytes of rows, MB": table_bytes[kind] / 1e6,
            "P50, ms": float(np.mean([s.p50_ns for s in served[kind]])) / 1e6,
        }
        for kind in TYPES
    ]  # fmt: skip
    curve = Curve(
        title=f"{model} on one server: size and latency", table=points, x="bytes of rows, MB", y="P50, ms",
        style="scatter", source="measured",
    )  # fmt: skip
    return Part(rows, [curve], [_NOTE])


_NOTE = (
    "compression: the paper's factor is of a mix of 8 and 4 bits with pruning. Ours hold all rows alike, in FBGEMM's "
    "tables where it is installed (4 bytes a row for its steps), else in torch's (8 for int8)"
)


def score_error(rankers: dict[str, Ranker], kind: str, items: int, seed: int) -> float:
    """The most that a score differs from fp32's, over some requests."""
    requests = make_requests(rankers[kind].config, [items] * _REQUESTS, seed)
    inputs = [(torch.from_numpy(request.dense), *request.bags.tensors()) for request in requests]
    return max(float((rankers[kind](*of) - rankers["fp32"](*of)).abs().max()) for of in inputs)


def _rows(
    name: str, kind: str, table_bytes: dict[str, int], served: dict[str, list[Served]], errors: list[float]
) -> list[dict]:
    pairs = list(zip(served[kind], served["fp32"], strict=True))
    smaller = Quantity(name=f"{name}: bytes of fp32 over theirs", unit="1", scale_free=True, fact=_SMALLER[kind])
    latency = Quantity(name=f"{name}: P50 over fp32's", unit="1", scale_free=False, fact=_UNCHANGED)
    sparse = Quantity(name=f"{name}: CPU time of sparse operators over fp32's", unit="1", scale_free=False)
    error = Quantity(name=f"{name}: most that a score moves", unit="1", scale_free=False)
    return [
        row(smaller, [table_bytes["fp32"] / table_bytes[kind]], "modelled"),
        row(latency, [ours.p50_ns / base.p50_ns for ours, base in pairs], "measured"),
        row(sparse, [ours.part_ns("cpu_sparse") / base.part_ns("cpu_sparse") for ours, base in pairs], "measured"),
        row(error, errors, "measured"),
    ]
