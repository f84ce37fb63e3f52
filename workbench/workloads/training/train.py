"""Train a DLRM: one loop, every phase a span.

    workbench run training --preset tiny
    workbench run training --set ranks=1 --set kernel=torch
    workbench run training --preset criteo --set data=day_0.gz --set steps=1000
    torchrun --nnodes 2 --nproc-per-node 8 --rdzv-endpoint HOST:29400 -m workbench run training --set device=cuda

`run` is what each rank does. Tables lie on ranks, the MLPs are copies on all of them. The loss is the sum over this
rank's samples divided by the global batch, so gradients summed over ranks are those of the global mean, in tables and
MLPs alike, and nothing is rescaled: training is the same for any number of ranks, to rounding.
"""

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from workbench.data.batch import Batch
from workbench.data.criteo import Criteo
from workbench.data.prefetch import Prefetch
from workbench.data.sessions import Sessions
from workbench.embeddings.exchange import TableExchange
from workbench.embeddings.jagged import offsets, permute_segments
from workbench.embeddings.sharding import place_tables
from workbench.trace.recorder import Recorder
from workbench.workloads.process import ProcessMetrics
from workbench.workloads.profiling import StepProfiler
from workbench.workloads.progress import ProgressLine
from workbench.workloads.training.accesses import AccessLog
from workbench.workloads.training.config import Config
from workbench.workloads.training.gradients import FlatGradients
from workbench.workloads.training.model import DLRM
from workbench.workloads.training.quality import LossSums, teacher_sums


def run(config: Config, recorder: Recorder, profiler: StepProfiler, path: Path) -> dict:
    """One rank's training, then the held-out evaluation; returns results: loss and quality over all ranks. `path` is
    the run directory."""
    trainer = Trainer(config, recorder, path)
    process = ProcessMetrics(recorder)
    running = LossSums()
    step_seconds = []
    with Prefetch(trainer.inputs()) as inputs, profiler, ProgressLine(quiet=trainer.rank != 0) as progress:
        for step in range(config.steps):
            recorder.step = step
            started = time.perf_counter()
            with recorder.span("step", tags="warmup" if step < config.warmup_steps else ""):
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
            done = f"step {step + 1} of {config.steps}: loss {loss:.4f}, {samples_per_s:,.0f} samples/s"
            progress.update(done, (step + 1) / config.steps)
    recorder.step = -1
    with recorder.span("evaluation", phase="evaluation"):
        held_out = trainer.evaluate()
    for name, value in held_out.items():
        if value is not None:
            recorder.metric(name, value)
    steady = step_seconds[config.warmup_steps :]
    throughput = config.global_batch_size * len(steady) / sum(steady) if steady else None
    return {"loss": loss, "samples_per_s": throughput, **held_out}


class Inputs(NamedTuple):
    """A batch on the device, lookups in placement order: dense [B, dense_features], lengths [tables, B], indices,
    labels [B]."""

    dense: Tensor
    lengths: Tensor
    indices: Tensor
    labels: Tensor


class Trainer:
    """One rank's data, model and optimizer."""

    def __init__(self, config: Config, recorder: Recorder, path: Path) -> None:
        self.config, self.recorder = config, recorder
        distributed = dist.is_initialized()
        self.rank, self.ranks = (dist.get_rank(), dist.get_world_size()) if distributed else (0, 1)
        cuda = config.device == "cuda"
        self.device = torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")
        tables = config.table_configs
        placement = place_tables(tables, self.ranks)
        self.exchange = TableExchange(placement, [table.dim for table in tables], self.rank, self.ranks, recorder)
        self.accesses = AccessLog(recorder, self.exchange.local_tables, config.accesses_limit_bytes)
        self.source = make_source(config)
        self.model = DLRM(config, self.exchange, self.device, recorder, path)
        self.gradients = FlatGradients(self.model.dense_parameters(), self.ranks, recorder)
        self.routed: tuple[Inputs, Tensor, Tensor] | None = None
        self.optimizer = torch.optim.Adagrad(self.model.dense_parameters(), lr=config.dense_learning_rate)

    def inputs(self) -> Iterator[Inputs]:
        """This rank's part of every training batch, ready to use."""
        return map(self.prepare, self.source.batches(self.rank, self.ranks))

    def step(self, inputs: Iterator[Inputs]) -> LossSums:
        """One step; the sums are over all ranks."""
        span = self.recorder.span
        batch, lengths, indices = self.next_batch(inputs)
        self.accesses.record(lengths, indices)
        logits = self.model(batch.dense, lengths, indices)
        with span("loss", kind="compute", phase="forward"):
            log_loss = binary_cross_entropy_with_logits(logits, batch.labels, reduction="sum")
            loss = log_loss / self.config.global_batch_size
        with span("backward", kind="compute", phase="backward"):
            self.gradients.zero()
            loss.backward()  # the tables update themselves in here
        sums = self.gradients.all_reduce(log_loss, batch.labels.sum())
        with span("optimizer", kind="compute", phase="optimizer"):
            self.optimizer.step()
        return LossSums(*sums, self.config.global_batch_size)

    def next_batch(self, inputs: Iterator[Inputs]) -> tuple[Inputs, Tensor, Tensor]:
        """This step's inputs, and the lookups of this rank's tables. Before a cache one batch is routed ahead, so that
        its rows can be fetched while this one trains."""
        current = self.routed or self.receive(inputs)
        if self.config.cache_share is not None:
            self.routed = self.receive(inputs)
            _, lengths, indices = self.routed
            self.model.lookup.announce(indices, offsets(lengths))
        return current

    def receive(self, inputs: Iterator[Inputs]) -> tuple[Inputs, Tensor, Tensor]:
        """The next inputs, routed."""
        with self.recorder.span("input", kind="wait", phase="input"):
            batch = next(inputs)
        return batch, *self.route(batch)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float | None]:
        """Normalized entropy of the held-out samples, and of the teacher that drew their labels: the floor."""
        model, teacher = LossSums(), LossSums()
        for batch in self.source.held_out(self.rank, self.ranks, self.config.evaluation_batches):
            inputs = self.prepare(batch)
            logits = self.model(inputs.dense, *self.route(inputs))
            log_loss = binary_cross_entropy_with_logits(logits, inputs.labels, reduction="sum")
            model += LossSums(float(log_loss), float(inputs.labels.sum()), len(batch))
            if batch.probability is not None:
                teacher += teacher_sums(batch)
        values = [total.normalized_entropy for total in map(self.over_ranks, (model, teacher))]
        names = ("held_out_normalized_entropy", "normalized_entropy_floor")
        return {name: None if math.isnan(value) else value for name, value in zip(names, values, strict=True)}

    def prepare(self, batch: Batch) -> Inputs:
        """To tensors on the device, tables in the order in which they travel."""
        lengths, indices = permute_segments(
            torch.from_numpy(batch.lengths), torch.from_numpy(batch.indices), self.exchange.order
        )
        dense, labels = torch.from_numpy(batch.dense), torch.from_numpy(batch.labels)
        return Inputs(*(tensor.to(self.device) for tensor in (dense, lengths, indices, labels)))

    def route(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """All ranks' lookups of this rank's tables: lengths [local tables, ranks * B], indices."""
        received = self.exchange.send_lookups(inputs.lengths, inputs.indices)
        with self.recorder.span("group_by_table", kind="memory", phase="input"):
            return self.exchange.group_by_table(*received)

    def over_ranks(self, sums: LossSums) -> LossSums:
        total = torch.tensor([sums.log_loss, sums.labels, sums.samples], dtype=torch.float64, device=self.device)
        if self.ranks > 1:
            dist.all_reduce(total)
        return LossSums(*total.tolist())


def make_source(config: Config) -> Sessions | Criteo:
    """Where the batches come from."""
    if config.source == "criteo":
        return Criteo(Path(config.data), config.table_configs, config.global_batch_size, config.seed)
    return Sessions(
        config.table_configs, config.dense_features, config.global_batch_size, config.session_samples, config.seed
    )
