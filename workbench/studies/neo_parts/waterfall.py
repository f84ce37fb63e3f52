"""What each of the paper's optimisations adds to Model-A's throughput, by its own model of an iteration.

Times come from formulas and from what the vendor promises for the paper's GPU and network, not from any run: placement
and work are simulated for every rank. What promises leave out (launches, congestion, the gap between a promised and a
reached rate) is left out here, so gains are those of bytes and balance alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from workbench.costs.collectives import busbw_factor
from workbench.costs.recommendation import TRAINING_FACTOR
from workbench.costs.sharding import ShardCost, StepShape
from workbench.embeddings.planner import plan_tables
from workbench.embeddings.planner_options import Tier, options
from workbench.embeddings.tables import TableConfig
from workbench.machine.promised import promised
from workbench.studies.core.curves import Curve
from workbench.studies.core.facts import Fact
from workbench.studies.core.parts import Part, Say
from workbench.studies.core.quantities import Quantity, row
from workbench.studies.neo_parts.balance import model_a_tables
from workbench.studies.neo_parts.paper import GPUS, GPUS_A_NODE, MODEL_A

GPU = "A100-SXM4-40GB"
NETWORK_BYTES_PER_S = 200e9 / 8  # one 200 Gb/s network card a GPU
# Model-A's MLPs, from memory: 20 layers of about 3,375; that 4 of them are the bottom's is a guess.
_LAYERS, _BOTTOM_LAYERS, _WIDTH, _PARAMETER_BYTES = 20, 4, 3375, 4
SIZES = {"tiny": (64, 16), "small": (1000, GPUS), "full": (1000, GPUS)}  # tables, ranks
TOTAL = Fact(1.87, "recalled M")  # samples/s of all optimisations over none, Model-A on 128 GPUs


@dataclass(frozen=True)
class Setting:
    """One bar of the waterfall: what it adds to the one before."""

    name: str
    planned: bool = True
    row_dtype: str = "fp32"
    wire_bytes: float = 4
    samples_per_rank: int = MODEL_A.samples_per_gpu


SETTINGS = (
    Setting("random placement, fp32", planned=False),
    Setting("+ balanced"),
    Setting("+ fp16 rows", row_dtype="fp16"),
    Setting("+ fp16 and bf16 wire", row_dtype="fp16", wire_bytes=2),
    Setting("+ 4x the batch", row_dtype="fp16", wire_bytes=2, samples_per_rank=4 * MODEL_A.samples_per_gpu),
)


@dataclass(frozen=True, kw_only=True)
class Iteration:
    """Serialized times of one step's parts, in ns; of embeddings those of the slowest rank."""

    bottom_ns: float
    top_ns: float
    lookup_ns: float
    update_ns: float
    exchange_ns: float  # forward; backward takes as long
    all_reduce_ns: float

    @property
    def step_ns(self) -> float:
        """What is left on the critical path when all that can overlap does; the backward pass of products takes twice
        the forward's:

        forward   max(bottom, lookup + exchange) + top
        backward  max(2 top + max(exchange + update, 2 bottom), all-reduce)
        """
        backward = TRAINING_FACTOR - 1
        forward_ns = max(self.bottom_ns, self.lookup_ns + self.exchange_ns) + self.top_ns
        embedding_ns = max(self.exchange_ns + self.update_ns, backward * self.bottom_ns)
        return forward_ns + max(backward * self.top_ns + embedding_ns, self.all_reduce_ns)


class PromisedRates:
    """One of the paper's GPUs: its memory, NVLink within a node, its network card beyond."""

    def __init__(self) -> None:
        found = promised(GPU)
        self.memory_bytes_per_s = found.bandwidth("hbm", device="cuda:0").value
        self.nvlink_bytes_per_s = found.bandwidth("nvlink", device="cuda:0").value
        self.flops_per_s = found.compute("tf32", device="cuda:0").value

    def gather_bytes_per_s(self, row_bytes: float, footprint_bytes: float) -> float:
        """Whole lines from memory."""
        return self.memory_bytes_per_s

    def stream_bytes_per_s(self) -> float:
        """Memory."""
        return self.memory_bytes_per_s

    def collective_bytes_per_s(self, collective: str, group_size: int) -> tuple[float, int]:
        """Message bytes a second, so that the bus bandwidth is the link's."""
        link = self.nvlink_bytes_per_s if group_size <= GPUS_A_NODE else NETWORK_BYTES_PER_S
        return link / busbw_factor(collective, group_size), group_size


def run(scale: str, seeds: Sequence[int], say: Say) -> Part:
    """Every seed draws its own tables like Model-A's, and its own random placement."""
    tables, ranks = SIZES[scale]
    found: dict[str, list[float]] = {setting.name: [] for setting in SETTINGS}
    for number, seed in enumerate(seeds):
        say(f"tables {number + 1} of {len(seeds)}", number / len(seeds))
        for setting in SETTINGS:
            found[setting.name].append(samples_per_s(setting, model_a_tables(tables, seed), ranks, seed))
    first = found[SETTINGS[0].name]
    gains = {name: [new / old for new, old in zip(each, first, strict=True)] for name, each in found.items()}
    total = Quantity(
        name=f"samples/s, all optimisations over none, Model-A on {ranks} ranks", unit="1", scale_free=ranks == GPUS,
        fact=TOTAL,
    )  # fmt: skip
    made = row(total, gains[SETTINGS[-1].name], "modelled")
    points = [
        {"step": name, "samples/s over the first": float(np.mean(gain)), "low": min(gain), "high": max(gain)}
        for name, gain in gains.items()
    ]
    curve = Curve(
        title=f"Optimisations of Model-A on {ranks} ranks (mean, least and most of the seeds)", table=points, x="step",
        y="samples/s over the first", style="bar", source="modelled",
    )  # fmt: skip
    return Part([made], [curve], [f"waterfall: modelled from what vendors promise for {GPU} and 25 GB/s a GPU"])


def samples_per_s(setting: Setting, tables: Sequence[TableConfig], ranks: int, seed: int) -> float:
    """Of all ranks together."""
    return ranks * setting.samples_per_rank / (iteration(setting, tables, ranks, seed).step_ns / 1e9)


def iteration(setting: Setting, tables: Sequence[TableConfig], ranks: int, seed: int) -> Iteration:
    """The parts of a step with `setting`; dense work is Model-A's, whatever `tables`."""
    rates = PromisedRates()
    node = min(GPUS_A_NODE, ranks)
    step = StepShape(ranks, setting.samples_per_rank, node, setting.wire_bytes, setting.wire_bytes)
    tables = [replace(table, row_dtype=setting.row_dtype) for table in tables]
    lookup_ns, update_ns, exchange_ns = slowest(tables, step, Tier(rates=rates), setting.planned, seed)
    dense_ns = 1e9 * MODEL_A.mflops_per_sample * 1e6 * setting.samples_per_rank / rates.flops_per_s
    bottom_share = _BOTTOM_LAYERS / _LAYERS
    return Iteration(
        bottom_ns=dense_ns * bottom_share, top_ns=dense_ns * (1 - bottom_share), lookup_ns=lookup_ns,
        update_ns=update_ns, exchange_ns=exchange_ns / 2, all_reduce_ns=all_reduce_ns(rates, ranks),
    )  # fmt: skip


def slowest(
    tables: Sequence[TableConfig], step: StepShape, tier: Tier, planned: bool, seed: int
) -> tuple[float, float, float]:
    """Lookup, update and communication of the ranks that are slowest in each, in ns: everyone waits for them."""
    placed: list[tuple[int, ShardCost]]
    if planned:
        plan = plan_tables(tables, step, (tier,), "karmarkar-karp", schemes=("table-wise", "column-wise"))
        placed = [
            (rank, part.costs[0])
            for group in plan.placed
            for rank, part in zip(group.home, group.group.parts, strict=True)
        ]
    else:
        ranks = np.random.default_rng(seed).integers(step.ranks, size=len(tables)).tolist()
        whole = [options(table, step, (tier,), ("table-wise",))[0] for table in tables]
        placed = [(rank, option.groups[0].parts[0].costs[0]) for rank, option in zip(ranks, whole, strict=True)]
    owners = [rank for rank, _ in placed]
    loads = [
        np.bincount(owners, weights=[getattr(cost, part) for _, cost in placed], minlength=step.ranks).max()
        for part in ("lookup_ns", "update_ns", "communication_ns")
    ]
    return tuple(map(float, loads))


def all_reduce_ns(rates: PromisedRates, ranks: int) -> float:
    """Of the MLPs' gradients: added up within a node, then by each GPU its part over nodes, then spread again."""
    message_bytes = _LAYERS * _WIDTH**2 * _PARAMETER_BYTES
    node = min(GPUS_A_NODE, ranks)
    inside_ns = 1e9 * busbw_factor("all_reduce", node) * message_bytes / rates.nvlink_bytes_per_s
    nodes = ranks // node
    across_ns = 1e9 * busbw_factor("all_reduce", nodes) * message_bytes / node / NETWORK_BYTES_PER_S
    return inside_ns + across_ns
