"""What each optimisation of the waterfall adds in training on this machine: the modelled one's settings, on 2 ranks.

All runs are of the training workload and take turns in one pair of ranks: each seed trains every setting once, in
random order. Batches are made before the first step, as readers on other machines would. Tables lie whole on a rank,
and once balanced they stay where they are. All settings take the torch path, since FBGEMM's CPU kernels know fp32 rows
only. So each differs from the one before in one thing.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from workbench.costs.sharding import StepShape
from workbench.embeddings.plan import Plan, Shard, TablePlan
from workbench.embeddings.planner import plan_tables
from workbench.embeddings.tables import TableConfig
from workbench.studies.core.curves import Curve
from workbench.studies.core.parts import Part, Say
from workbench.studies.core.quantities import Quantity, row
from workbench.studies.neo_parts.waterfall import SETTINGS, TOTAL, Setting
from workbench.trace.recorder import Recorder
from workbench.trace.rundir import read_manifest
from workbench.workloads import launch
from workbench.workloads.directory import create_run
from workbench.workloads.profiling import StepProfiler
from workbench.workloads.training import PRESETS, Config, train
from workbench.workloads.training.manifest import describe

RANKS = 2
WIRES = {4: ("fp32", "fp32"), 2: ("fp16", "bf16")}  # bytes an element -> pooled rows, their gradients
_COMMON = {
    "ranks": RANKS, "threads_per_rank": 1, "kernel": "torch", "prepared_batches": 2, "evaluation_batches": 0,
    "instrument": False, "profile_steps": 0,
}  # fmt: skip


@dataclass(frozen=True)
class Size:
    """`preset` at a 1 / `smaller`-th of the batches of the settings; `steps` count after `warmup`."""

    preset: str
    smaller: int
    steps: int
    warmup: int


SIZES = {
    "tiny": Size("tiny", 8, 10, 2),
    "small": Size("model-a", 4, 7, 2),
    "full": Size("model-a", 1, 50, 5),
}


def run(scale: str, seeds: Sequence[int], say: Say) -> Part:
    """Throughput after warm-up over the first setting's, paired by seed."""
    size = SIZES[scale]
    say(f"training {len(SETTINGS)} settings, {len(seeds)} seeds, on {RANKS} ranks", 0)
    rates = samples_per_s(size, seeds)
    first = rates[SETTINGS[0].name]
    rows = []
    for setting in SETTINGS:
        name = f"samples/s trained on {RANKS} ranks, over {SETTINGS[0].name}: {setting.name}"
        last = setting is SETTINGS[-1]
        quantity = Quantity(name=name, unit="1", scale_free=False, fact=TOTAL if last else None)
        gains = [new / old for new, old in zip(rates[setting.name], first, strict=True)]
        rows.append(row(quantity, gains, "measured"))
    points = [
        {"step": setting.name, "samples/s over the first": each["ours"], "low": each["low"], "high": each["high"]}
        for setting, each in zip(SETTINGS, rows, strict=True)
    ]
    curve = Curve(
        title=f"Optimisations trained on {RANKS} ranks, preset {size.preset} (mean and 95 % interval of the seeds)",
        table=points, x="step", y="samples/s over the first", style="bar", source="measured",
    )  # fmt: skip
    return Part(rows[1:], [curve], [_NOTE])


_NOTE = (
    f"trained waterfall: ratios of {RANKS} ranks' throughput on this machine, which hang on how fast it computes and "
    "how fast its ranks exchange data: none is judged. On a CPU, fp16 rows are converted at each lookup and rounded at "
    "each update, which can cost more than the bytes they save; the paper's GPUs also gain the memory to place tables "
    "better. The wire is this machine's memory, so that coding for it saves less than on a network"
)


def samples_per_s(size: Size, seeds: Sequence[int]) -> dict[str, list[float]]:
    """By setting's name, one value a seed [seeds]."""
    with tempfile.TemporaryDirectory() as folder:
        jobs = [
            (SETTINGS[place].name, configured(SETTINGS[place], size, seed, Path(folder)))
            for seed in seeds
            for place in np.random.default_rng(seed).permutation(len(SETTINGS))
        ]
        names, configs = zip(*jobs, strict=True)
        # Starting ranks takes longer than training any one setting, so they are started once.
        job = launch.Job(partial(_train_all, configs=configs), configs[0], "trainer", ceilings=False, py_spy=False)
        create = partial(create_run, "training", size.preset, configs[0], Path(folder), **describe(configs[0]))
        measured = read_manifest(launch.launch(job, RANKS, create))["results"]["samples_per_s"]
    rates: dict[str, list[float]] = {setting.name: [] for setting in SETTINGS}
    for name, rate in zip(names, measured, strict=True):
        rates[name].append(rate)
    return rates


def _train_all(
    config: Config, recorder: Recorder, profiler: StepProfiler, path: Path, configs: Sequence[Config]
) -> dict[str, list[float]]:
    """What each rank does: train `configs` one after the other, each from its own first weights."""
    return {"samples_per_s": [train.run(each, recorder, profiler, path)["samples_per_s"] for each in configs]}


def configured(setting: Setting, size: Size, seed: int, folder: Path) -> Config:
    """The training run of `setting`; its plan becomes a file in `folder`."""
    forward, backward = WIRES[setting.wire_bytes]
    unplanned = replace(
        PRESETS[size.preset](), **_COMMON, seed=seed, steps=size.warmup + size.steps, warmup_steps=size.warmup,
        row_dtype=setting.row_dtype, forward_wire=forward, backward_wire=backward,
        global_batch_size=RANKS * setting.samples_per_rank // size.smaller,
    )  # fmt: skip
    tables = replace(unplanned, row_dtype="fp32").table_configs
    plan = balanced_plan(tables) if setting.planned else random_plan(tables, seed)
    path = folder / f"{'balanced' if setting.planned else 'random'}-{seed}.json"
    path.write_text(plan.to_json())
    return replace(unplanned, plan=str(path))


def balanced_plan(tables: Sequence[TableConfig]) -> Plan:
    """Whole tables by largest differencing, every byte costing the same."""
    step = StepShape(RANKS, samples_per_rank=1, host_ranks=RANKS)
    return plan_tables(tables, step, method="karmarkar-karp", schemes=("table-wise",)).plan


def random_plan(tables: Sequence[TableConfig], seed: int) -> Plan:
    """Whole tables, each on a rank drawn at random."""
    ranks = np.random.default_rng(seed).integers(RANKS, size=len(tables)).tolist()
    return Plan(
        RANKS,
        tuple(
            TablePlan(table.name, "table-wise", (Shard(rank, 0, table.rows, 0, table.dim),))
            for table, rank in zip(tables, ranks, strict=True)
        ),
    )
