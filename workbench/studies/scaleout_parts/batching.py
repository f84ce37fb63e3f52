"""Batches inside a request: each makes its own RPCs, so smaller ones multiply what distribution costs."""

from collections.abc import Sequence

from workbench.studies.core.criteria import Within
from workbench.studies.core.curves import Curve
from workbench.studies.core.facts import Fact
from workbench.studies.core.parts import Part, Say
from workbench.studies.core.quantities import Quantity, row
from workbench.studies.scaleout_parts.cuts import SINGULAR, Cut, load_bal
from workbench.studies.scaleout_parts.deployments import Served, exported, serve
from workbench.studies.scaleout_parts.grid import WHERE
from workbench.studies.scaleout_parts.scales import SCALES, Scale

BATCHES = (4, 2, 1)  # a request
RPCS = Quantity(
    name=f"RPCs of a request in {max(BATCHES)} batches over one in a single batch", unit="1", scale_free=True,
    fact=Fact(max(BATCHES), "derived: one a batch, a net and a shard that holds a table of the net"),
    criterion=Within(0.05),
)  # fmt: skip
# What is compared with singular: its source, the paper's claim, and the value.
_COMPARED = {
    f"P50, {WHERE['modelled']},": ("modelled", None, lambda served: served.p50_ns),
    "CPU time": ("measured", Fact("falls with larger batches", "recalled M"), lambda served: served.cpu_ns),
}

# By batches a request: (load-balanced, singular), a pair a seed.
Found = dict[int, list[tuple[Served, Served]]]


def run(scale: str, seeds: Sequence[int], say: Say) -> Part:
    """Load-balanced over the most shards against singular, both with the same batches; one batch and RPC at a time."""
    size = SCALES[scale]
    model, cut = size.models[0], load_bal(max(size.shards))
    found = _served(size, cut, seeds, say)
    rows, curves = [], []
    for what, (source, fact, value) in _COMPARED.items():
        points = []
        for batches, pairs in found.items():
            quantity = Quantity(
                name=f"{model}, {cut}, batches of {size.items // batches} items: {what} over singular's", unit="1",
                scale_free=False, fact=fact,
            )  # fmt: skip
            rows.append(row(quantity, [value(ours) / value(base) for ours, base in pairs], source))
            ends = {end: rows[-1][end] for end in ("low", "high")}
            points.append({"batches a request": batches, "over singular's": rows[-1]["ours"], **ends})
        curves.append(
            Curve(
                title=f"{model}, {cut}: {what.rstrip(',')}, by batches of a request", table=points,
                x="batches a request", y="over singular's", source=source,
            )
        )  # fmt: skip
    return Part([*rows, row(RPCS, rpc_ratios(found), "measured")], curves)


def rpc_ratios(found: Found) -> list[float]:
    """RPCs of a request in most batches over those of one in a single batch, a seed each."""
    pairs = zip(found[max(BATCHES)], found[min(BATCHES)], strict=True)
    return [many.rpcs / one.rpcs for (many, _), (one, _) in pairs]


def _served(size: Scale, cut: Cut, seeds: Sequence[int], say: Say) -> Found:
    found: Found = {batches: [] for batches in BATCHES}
    with exported(size.models[0], size.rows_factor) as folder:
        for number, seed in enumerate(seeds):
            for place, batches in enumerate(BATCHES):
                done_share = (number + place / len(BATCHES)) / len(seeds)
                say(f"{batches} batches a request, repeat {number + 1} of {len(seeds)}", done_share)
                settings = size.load | {"exported": folder, "seed": seed, "batch_items": size.items // batches}
                ours, base = (serve(uncontended=True, **of.settings, **settings) for of in (cut, SINGULAR))
                found[batches].append((ours, base))
    return found
