"""Bytes that really leave a rank, counted in short training runs on 2 ranks, by scheme and by what travels."""

import tempfile
from collections.abc import Sequence

from workbench import workloads
from workbench.studies.core.criteria import Within
from workbench.studies.core.curves import Curve
from workbench.studies.core.facts import Fact
from workbench.studies.core.parts import Part, Say
from workbench.studies.core.quantities import Quantity, row

RANKS = 2
_SETTINGS = {"steps": 3, "warmup_steps": 1, "profile_steps": 0, "evaluation_batches": 0, "threads_per_rank": 1}
RUNS = {
    "table-wise, fp32": {"sharding": "table-wise"},
    "table-wise, fp16 and bf16": {"sharding": "table-wise", "forward_wire": "fp16", "backward_wire": "bf16"},
    "row-wise, fp32": {"sharding": "row-wise"},
}
HALVED = Quantity(
    name=f"pooled rows and gradients on the wire, fp32 over fp16 and bf16, {RANKS} ranks", unit="1", scale_free=True,
    fact=Fact(2, "derived: 4 B over 2 B an element"), criterion=Within(0.01),
)  # fmt: skip
ROW_WISE = Quantity(
    name=f"pooled rows and gradients on the wire, row-wise over table-wise, {RANKS} ranks", unit="1", scale_free=True,
    fact=Fact(RANKS, "derived: each of W ranks sends partial sums"), criterion=Within(0.01),
)  # fmt: skip


def run(scale: str, seeds: Sequence[int], say: Say) -> Part:
    """Counts are of bytes, equal in every repeat: one run each of the preset `tiny`."""
    sent: dict[str, dict[str, float]] = {}
    for number, (name, settings) in enumerate(RUNS.items()):
        say(f"training {name}", number / len(RUNS))
        sent[name] = bytes_per_sample(settings)
    table_wise, halved, row_wise = ({k: sent[name][k] for k in ("forward", "backward")} for name in RUNS)
    rows = [
        row(HALVED, [table_wise[way] / halved[way] for way in table_wise], "measured"),
        row(ROW_WISE, [row_wise[way] / table_wise[way] for way in table_wise], "measured"),
    ]
    points = [
        {"run": name, "B a sample": size_bytes, "what travels": way}
        for name, ways in sent.items()
        for way, size_bytes in ways.items()
    ]
    curve = Curve(
        title=f"Bytes on the wire, preset tiny on {RANKS} ranks", table=points, x="run", y="B a sample",
        colour="what travels", style="bar", source="measured",
    )  # fmt: skip
    return Part(rows, [curve])


def bytes_per_sample(settings: dict[str, str]) -> dict[str, float]:
    """What ranks of a training run sent to each other by direction (input, forward, backward), tables only."""
    with tempfile.TemporaryDirectory() as traces:
        trained = workloads.run("training", "tiny", traces, ceilings=False, ranks=RANKS, **_SETTINGS, **settings)
        by_scheme = trained.manifest["results"]["wire_bytes_per_step"]
        samples = trained.manifest["samples_per_step"]
    return {way: size_bytes / samples for way, size_bytes in by_scheme[settings["sharding"]].items()}
