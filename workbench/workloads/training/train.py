"""Train a DLRM: one loop, every phase a span.

    workbench run training --preset tiny
    workbench run training --set ranks=1 --set kernel=torch
    workbench run training --preset criteo --set data=day_0.gz --set steps=1000
    workbench run training --set checkpoint_every=50, and after a failure: --set resume=traces/RUN
    torchrun --nnodes 2 --nproc-per-node 8 --rdzv-endpoint HOST:29400 -m workbench run training --set device=cuda

`run` is what each rank does. Tables lie on ranks, the MLPs are copies on all of them. The loss is the sum over this
rank's samples divided by the global batch, so gradients summed over ranks are those of the global mean, in tables and
MLPs alike, and nothing is rescaled: training is the same for any number of ranks, to rounding.
"""

import math
import time
from collections.abc import Iterable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from workbench.data.criteo import Criteo
from workbench.data.log_uniform import LogUniform
from workbench.data.prefetch import Prefetch
from workbench.data.sessions import Sessions
from workbench.embeddings.link import DIRECTIONS, Link
from workbench.embeddings.plan import SCHEMES
from workbench.trace.recorder import Recorder
from workbench.workloads.process import ProcessMetrics
from workbench.workloads.profiling import StepProfiler
from workbench.workloads.progress import ProgressLine
from workbench.workloads.training.accesses import AccessLog
from workbench.workloads.training.checkpointing import opened, restore, save
from workbench.workloads.training.config import Config
from workbench.workloads.training.gradients import SummedGradients
from workbench.workloads.training.model import DLRM
from workbench.workloads.training.pipeline import STEPS_AHEAD, announced, redistribute
from workbench.workloads.training.quality import LossSums, teacher_sums
from workbench.workloads.training.tables import Inputs, ModelTables, Received

if TYPE_CHECKING:
    from workbench.workloads.training.torchrec_engine import TorchrecTrainer


def run(config: Config, recorder: Recorder, profiler: StepProfiler, path: Path) -> dict:
    """One rank's training, then the held-out evaluation; returns results: loss and quality over all ranks. `path` is
    the run directory. Resumed after the last step it only evaluates; the loss and throughput of no step are None."""
    trainer = make_trainer(config, recorder, path)
    process = ProcessMetrics(recorder)
    checkpoint = opened(config)
    first, running = (checkpoint.step, restore(trainer, checkpoint)) if checkpoint else (0, LossSums())
    checkpoints = Path(config.checkpoints) if config.checkpoints else path / "checkpoints"
    loss, step_seconds = None, []
    with Prefetch(trainer.inputs(first)) as prepared, profiler, ProgressLine(quiet=trainer.rank != 0) as progress:
        inputs = trainer.redistribute(prepared)
        for step in range(first, config.steps):
            recorder.step = step
            started = time.perf_counter()
            with recorder.span("step", tags="warmup" if step < first + config.warmup_steps else ""):
                sums = trainer.step(inputs)
            profiler.step()
            step_seconds.append(time.perf_counter() - started)

            loss, samples_per_s = sums.log_loss / sums.samples, config.global_batch_size / step_seconds[-1]
            if not math.isfinite(loss):
                raise FloatingPointError(f"the loss is {loss} at step {step}: try smaller learning rates")
            running = running.decayed(sums)
            recorder.metric("loss", loss)
            recorder.metric("normalized_entropy", running.normalized_entropy)
            recorder.metric("samples_per_s", samples_per_s)
            process.record()
            if config.checkpoint_every and (step + 1) % config.checkpoint_every == 0:
                with recorder.span("checkpoint", kind="storage", phase="checkpoint"):
                    save(trainer, checkpoints, step + 1, running)
            done = f"step {step + 1} of {config.steps}: loss {loss:.4f}, {samples_per_s:,.0f} samples/s"
            progress.update(done, (step + 1) / config.steps)
    recorder.step = -1
    wire_bytes = trainer.wire_bytes_per_step(config.steps - first)
    with recorder.span("evaluation", phase="evaluation"):
        held_out = trainer.evaluate()
    for name, value in held_out.items():
        if value is not None:
            recorder.metric(name, value)
    steady = step_seconds[config.warmup_steps :]
    throughput = config.global_batch_size * len(steady) / sum(steady) if steady else None
    return {"loss": loss, "samples_per_s": throughput, **held_out, "wire_bytes_per_step": wire_bytes}


class Trainer:
    """One rank's data, model and optimizer; what it keeps in files goes into `folder`."""

    def __init__(self, config: Config, recorder: Recorder, folder: Path) -> None:
        self.config, self.recorder = config, recorder
        distributed = dist.is_initialized()
        self.rank, self.ranks = (dist.get_rank(), dist.get_world_size()) if distributed else (0, 1)
        cuda = config.device == "cuda"
        self.device = torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")
        self.tables = ModelTables(config, config.plan_for(self.ranks), self.rank, self.device, recorder, folder)
        self.accesses = AccessLog(recorder, self.tables, config.accesses_limit_bytes)
        self.source = make_source(config)
        self.model = DLRM(config, self.tables, self.device, recorder)
        self.gradients = SummedGradients(self._buckets(), overlap=config.pipeline)
        self.optimizer = make_optimizer(config, self.model.dense_parameters())

    def _buckets(self) -> list[tuple[Link, list[nn.Parameter]]]:
        """Replicated parameters in the order in which the backward pass has their gradients complete."""
        buckets = [
            ("dense", list(self.model.top.parameters())),
            ("data-parallel", self.tables.dense_parameters()),
            ("dense", list(self.model.bottom.parameters())),
        ]
        return [
            (Link(self.rank, self.ranks, self.recorder, self.tables.wire_bytes, scheme), parameters)
            for scheme, parameters in buckets
            if parameters
        ]

    def inputs(self, first: int = 0) -> Iterator[Inputs]:
        """This rank's part of every training batch from step `first` on, ready to use."""
        steps = self.config.steps - first
        if self.config.prepared_batches:
            prepared = map(self.tables.prepare, self.source.batches(self.rank, self.ranks))
            again = cycle(list(islice(prepared, self.config.prepared_batches)))
            return islice(again, first, first + steps)
        prepared = map(self.tables.prepare, self.source.batches(self.rank, self.ranks, first))
        return islice(prepared, steps)  # as many on every rank: each takes part in the others' exchanges

    def redistribute(self, prepared: Iterable[Inputs]) -> Iterator[Received]:
        """Batches with the lookups that come to this rank's shards."""
        received = redistribute(prepared, self.tables, self.recorder, STEPS_AHEAD if self.config.pipeline else 0)
        return received if self.config.cache_share is None else announced(received, self.tables)

    def step(self, batches: Iterator[Received]) -> LossSums:
        """One step; the sums are over all ranks."""
        span = self.recorder.span
        received = next(batches)
        self.accesses.record(received)
        logits, labels = self.model(received), received.inputs.labels
        with span("loss", kind="compute", phase="forward"):
            log_loss = binary_cross_entropy_with_logits(logits, labels, reduction="sum")
            loss = log_loss / self.config.global_batch_size
        with span("backward", kind="compute", phase="backward"):
            self.gradients.start(log_loss, labels.sum())
            loss.backward()  # most tables update themselves in here
        sums = self.gradients.finish()
        with span("optimizer", kind="compute", phase="optimizer"):
            self.tables.update()
            self.optimizer.step()
        return LossSums(*sums, self.config.global_batch_size)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float | None]:
        """Normalized entropy of the held-out samples, and of the teacher that drew their labels: the floor."""
        model, teacher = LossSums(), LossSums()
        for batch in self.source.held_out(self.rank, self.ranks, self.config.evaluation_batches):
            [received] = redistribute([self.tables.prepare(batch)], self.tables, self.recorder, ahead=0)
            logits, labels = self.model(received), received.inputs.labels
            log_loss = binary_cross_entropy_with_logits(logits, labels, reduction="sum")
            model += LossSums(float(log_loss), float(labels.sum()), len(batch))
            if batch.probability is not None:
                teacher += teacher_sums(batch)
        values = [total.normalized_entropy for total in map(self.over_ranks, (model, teacher))]
        names = ("held_out_normalized_entropy", "normalized_entropy_floor")
        return {name: None if math.isnan(value) else value for name, value in zip(names, values, strict=True)}

    def wire_bytes_per_step(self, steps: int) -> dict[str, dict[str, float]]:
        """Bytes that ranks have sent to each other, mean over `steps`, sum over ranks: by scheme and direction."""
        keys = [(scheme, direction) for scheme in (*SCHEMES, "dense") for direction in DIRECTIONS]
        counted = torch.tensor(
            [float(self.tables.wire_bytes[key]) for key in keys], dtype=torch.float64, device=self.device
        )
        if self.ranks > 1:
            dist.all_reduce(counted)
        found: dict[str, dict[str, float]] = {}
        for (scheme, direction), sent_bytes in zip(keys, counted.tolist(), strict=True):
            if sent_bytes:
                found.setdefault(scheme, {})[direction] = sent_bytes / steps
        return found

    def over_ranks(self, sums: LossSums) -> LossSums:
        total = torch.tensor([sums.log_loss, sums.labels, sums.samples], dtype=torch.float64, device=self.device)
        if self.ranks > 1:
            dist.all_reduce(total)
        return LossSums(*total.tolist())


def make_trainer(config: Config, recorder: Recorder, path: Path) -> "Trainer | TorchrecTrainer":
    """The engine's trainer. `path` is the run directory."""
    if config.engine == "workbench":
        return Trainer(config, recorder, path)
    # Imported here: TorchRec need not be installed.
    from workbench.workloads.training.torchrec_engine import TorchrecTrainer

    return TorchrecTrainer(config, recorder)


def make_optimizer(config: Config, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """What updates the MLPs."""
    make = torch.optim.SGD if config.dense_optimizer == "sgd" else torch.optim.Adagrad
    return make(parameters, lr=config.dense_learning_rate)


def make_source(config: Config) -> Sessions | Criteo | LogUniform:
    """Where the batches come from."""
    if config.source == "criteo":
        return Criteo(Path(config.data), config.table_configs, config.global_batch_size, config.seed)
    if config.source == "log-uniform":
        return LogUniform(config.table_configs, config.dense_features, config.global_batch_size, config.seed)
    return Sessions(
        config.table_configs, config.dense_features, config.global_batch_size, config.session_samples, config.seed
    )
