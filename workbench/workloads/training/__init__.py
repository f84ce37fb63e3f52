"""DLRM training: sharded embedding tables, replicated MLPs, synchronous steps over ranks."""

import importlib.util
from dataclasses import replace
from functools import partial
from pathlib import Path

from workbench.data.criteo import Criteo
from workbench.errors import InputError
from workbench.workloads.training.config import PRESETS, Config

__all__ = ["PRESETS", "Config", "start"]


def start(config: Config, preset: str, traces: Path, ceilings: bool, py_spy: bool) -> Path:
    """Train as configured; returns the run directory. Raises as `workbench.workloads.start` does."""
    # Imported here: listing presets needs no torch.
    from workbench.workloads import launch
    from workbench.workloads.directory import create_run
    from workbench.workloads.training import train
    from workbench.workloads.training.manifest import describe

    config = replace(config, ranks=launch.world_size(config.ranks))
    config = replace(config, threads_per_rank=config.threads_per_rank or launch.share_of_cores(config.ranks))
    _check_data(config)
    if config.engine == "torchrec" and importlib.util.find_spec("torchrec") is None:
        raise InputError("setting engine=torchrec: torchrec is not installed (on CPUs: pip install --no-deps torchrec)")
    config = _resumed(config)
    if config.device == "cuda":
        launch.check_gpus(config.ranks)
    job = launch.Job(train.run, config, "trainer", ceilings, py_spy)
    create = partial(create_run, "training", preset, config, traces, **describe(config))
    return launch.launch(job, config.ranks, create)


def _check_data(config: Config) -> None:
    """A file that cannot be trained on is said before any rank starts."""
    if config.source != "criteo":
        return
    if config.data is None:
        raise InputError("source=criteo needs a file: give one with --set data=PATH")
    Criteo(Path(config.data), config.table_configs, config.global_batch_size, config.seed).check()


def _resumed(config: Config) -> Config:
    """`config` with the one checkpoint that all ranks resume from, checked before any of them starts."""
    from workbench.workloads import launch
    from workbench.workloads.training.checkpoint import checkpoints_in, newest_checkpoint
    from workbench.workloads.training.checkpointing import opened

    restarted = launch.torchrun_restarts() > 0
    if restarted and config.checkpoint_every and config.checkpoints is None and (first := launch.first_attempt()):
        config = replace(config, checkpoints=str(first / "checkpoints"))  # of all attempts
    if restarted and config.checkpoints is not None and (found := checkpoints_in(Path(config.checkpoints))):
        config = replace(config, resume=str(found[-1]))
    elif config.resume is not None:
        config = replace(config, resume=str(newest_checkpoint(Path(config.resume))))
    opened(config)
    return config
