"""Trainers that take turns in one pair of ranks: what is compared shares the machine's moods."""

import time
from collections.abc import Sequence

from workbench.workloads.training.tables import Inputs
from workbench.workloads.training.train import Trainer


def seconds_a_step(trainer: Trainer, batches: Sequence[Inputs], first: int, untimed: int) -> float:
    """Train `batches` as steps `first`, `first` + 1...; mean seconds of those after the first `untimed`, which at the
    start find nothing under way that they could hide. Nothing is under way at the end: no exchange, no fetch of rows.
    """
    inputs = trainer.redistribute(iter(batches))
    for place in range(len(batches)):
        trainer.recorder.step = first + place
        if place == untimed:
            started = time.perf_counter()
        with trainer.recorder.span("step"):
            trainer.step(inputs)
    return (time.perf_counter() - started) / (len(batches) - untimed)
