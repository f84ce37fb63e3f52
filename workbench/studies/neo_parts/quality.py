"""What low precision costs in quality: normalized entropy with rows or wire of fewer bits, minus fp32's, paired seeds.

A small model learns clicks that a teacher with a known floor draws. Every seed has its own data and first weights, the
same for all variants. The wire is simulated: pooled rows are rounded on their way to the MLP and their gradients on the
way back, as an all-to-all in that precision rounds them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from workbench.data.batch import Batch
from workbench.data.sessions import Sessions
from workbench.embeddings.jagged import offsets
from workbench.embeddings.kernels import make_lookup
from workbench.embeddings.tables import TableConfig
from workbench.studies.core.criteria import Between
from workbench.studies.core.curves import Curve
from workbench.studies.core.facts import Fact
from workbench.studies.core.parts import Part, Say
from workbench.studies.core.quantities import Quantity, row
from workbench.studies.core.threads import threads
from workbench.workloads.training.quality import LossSums, teacher_sums

# A difference of normalized entropy that would go unnoticed: 0.1 %.
MARGIN = 0.001
_DENSE, _DIM, _HIDDEN, _POOLING = 8, 16, 64, 3.0
_HELD_OUT = 8


@dataclass(frozen=True)
class Size:
    """Tables of `rows` rows, and `steps` batches of `batch` samples."""

    tables: int
    rows: int
    batch: int
    steps: int


SIZES = {"tiny": Size(4, 200, 256, 30), "small": Size(8, 1_000, 1024, 300), "full": Size(26, 100_000, 8192, 2_000)}


@dataclass(frozen=True)
class Variant:
    """What rows are stored as, and what pooled rows and their gradients travel as."""

    name: str
    row_dtype: str = "fp32"
    forward: torch.dtype = torch.float32
    backward: torch.dtype = torch.float32

    @property
    def source(self) -> str:
        """How a difference in quality is known."""
        return "measured" if self.forward is self.backward is torch.float32 else "simulated"


BASELINE = Variant("fp32")
VARIANTS = (
    Variant("fp16 rows, stochastic rounding", row_dtype="fp16"),
    Variant("int8 rows", row_dtype="int8"),
    Variant("fp16 and bf16 wire", forward=torch.float16, backward=torch.bfloat16),
    Variant("fp16 rows, fp16 and bf16 wire", "fp16", torch.float16, torch.bfloat16),
)
_KEPT = Fact("compression preserves quality", "src")
DIFFERENCES = {
    variant.name: Quantity(
        name=f"normalized entropy, {variant.name} - fp32", unit="1", scale_free=True,
        # The paper compresses rows to fp16, and the wire; int8 rows are ours.
        fact=None if variant.row_dtype == "int8" else _KEPT, criterion=Between(-MARGIN, MARGIN),
    )
    for variant in VARIANTS
}  # fmt: skip
LEARNED = Quantity(
    name="learned of what can be: (1 - normalized entropy) / (1 - the teacher's), fp32", unit="1", scale_free=True
)


def run(scale: str, seeds: Sequence[int], say: Say) -> Part:
    """Differences by seed; the fp32 model's own quality says how much there was to lose."""
    size = SIZES[scale]
    found: dict[str, list[float]] = {variant.name: [] for variant in VARIANTS}
    learned = []
    for number, seed in enumerate(seeds):
        say(f"seed {number + 1} of {len(seeds)}", number / len(seeds))
        data = make_data(size, seed)
        batches = list(islice(data.batches(), size.steps))
        held_out = list(data.held_out(0, 1, _HELD_OUT))
        floor = sum(map(teacher_sums, held_out), LossSums()).normalized_entropy
        with threads(1):  # operators this small lose more than they gain by more
            baseline, *others = (trained_entropy(each, data, batches, held_out) for each in (BASELINE, *VARIANTS))
        learned.append((1 - baseline) / (1 - floor))
        for variant, entropy in zip(VARIANTS, others, strict=True):
            found[variant.name].append(entropy - baseline)
    made = {each.name: row(DIFFERENCES[each.name], found[each.name], each.source) for each in VARIANTS}
    return Part([row(LEARNED, learned, "measured"), *made.values()], _curves(made))


def _curves(made: dict[str, dict]) -> list[Curve]:
    """One a way of knowing: rows are stored as said, the wire is simulated."""
    titles = {"measured": "What low-precision rows cost", "simulated": "What a low-precision wire costs"}
    return [
        Curve(
            title=f"{title}: normalized entropy above fp32's", x="variant", y="normalized entropy - fp32", style="bar",
            source=source,
            table=[
                {"variant": name, "normalized entropy - fp32": each["ours"], "low": each["low"], "high": each["high"]}
                for name, each in made.items()
                if each["source"] == source
            ],
        )
        for source, title in titles.items()
    ]  # fmt: skip


def make_data(size: Size, seed: int) -> Sessions:
    """Clicks with `size.tables` categorical features."""
    tables = tuple(
        TableConfig(name=f"table_{n}", rows=size.rows, dim=_DIM, pooling_factor=_POOLING) for n in range(size.tables)
    )
    return Sessions(tables, _DENSE, size.batch, session_samples=1.0, seed=seed)


def trained_entropy(variant: Variant, data: Sessions, batches: Sequence[Batch], held_out: Sequence[Batch]) -> float:
    """Held-out normalized entropy of a model trained on `batches` once."""
    model = Model([replace(table, row_dtype=variant.row_dtype) for table in data.features], variant, data.seed)
    optimizer = torch.optim.Adagrad(model.mlp.parameters(), lr=0.02)
    for batch in batches:
        optimizer.zero_grad()
        logits = model(batch)
        binary_cross_entropy_with_logits(logits, torch.from_numpy(batch.labels)).backward()
        optimizer.step()
    sums = LossSums()
    with torch.no_grad():
        for batch in held_out:
            labels = torch.from_numpy(batch.labels)
            log_loss = binary_cross_entropy_with_logits(model(batch), labels, reduction="sum")
            sums += LossSums(float(log_loss), float(labels.sum()), len(batch))
    return sums.normalized_entropy


class Model(nn.Module):
    """Pooled rows and dense features side by side, then an MLP: the smallest model that has what is compared."""

    def __init__(self, tables: Sequence[TableConfig], variant: Variant, seed: int) -> None:
        super().__init__()
        self.variant = variant
        # The torch path stores every precision, so that variants differ in nothing else.
        self.lookup = make_lookup(tables, "torch", 0.1, "cpu", seed)
        torch.manual_seed(seed)
        self.mlp = nn.Sequential(nn.Linear(_DENSE + len(tables) * _DIM, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, 1))

    def forward(self, batch: Batch) -> Tensor:
        """Logits [B]."""
        pooled = self.lookup(torch.from_numpy(batch.indices), offsets(torch.from_numpy(batch.lengths)))
        travelled = _Wire.apply(pooled, self.variant)
        return self.mlp(torch.cat([torch.from_numpy(batch.dense), travelled], dim=1)).squeeze(1)


class _Wire(torch.autograd.Function):
    """Rounds rows to `variant.forward` and their gradients to `variant.backward`."""

    @staticmethod
    def forward(ctx, rows: Tensor, variant: Variant) -> Tensor:
        ctx.backward_dtype = variant.backward
        return rows.to(variant.forward).float()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient.to(ctx.backward_dtype).float(), None
