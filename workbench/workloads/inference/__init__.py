"""Distributed inference: a main shard with the dense layers, sparse shards with the embedding tables, gRPC between."""

from pathlib import Path

from workbench.workloads.inference.config import PRESETS, Config

__all__ = ["PRESETS", "Config", "start"]


def start(config: Config, preset: str, traces: Path, ceilings: bool, py_spy: bool) -> Path:
    """Deploy on loopback, send requests, tear down; returns the run directory. Raises as
    `workbench.workloads.start` does."""
    # Imported here: listing presets needs neither torch nor gRPC.
    from workbench.workloads.inference.run import run

    return run(config, preset, traces, ceilings, py_spy)
