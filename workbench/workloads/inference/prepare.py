"""What servers are given: an exported model, and a plan of who holds which of its rows."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from workbench.errors import InputError
from workbench.workloads.inference.config import Config
from workbench.workloads.inference.models import model_config
from workbench.workloads.inference.models.exported import ExportedModel, export_model
from workbench.workloads.inference.models.ranker import Ranker
from workbench.workloads.inference.plan import Plan, read_plan, write_plan
from workbench.workloads.inference.requests import expected_lookups
from workbench.workloads.inference.strategies import make_plan

FIRST_PORT = 50050


def exported_model(config: Config, path: Path) -> ExportedModel:
    """The exported model that the configuration names, or its `model` with random weights, exported into `path`."""
    if config.exported is not None:
        return ExportedModel(Path(config.exported))
    named = model_config(config.model, config.rows_factor, config.seed)
    return export_model(Ranker.untrained(named), path)


def planned(config: Config, model: ExportedModel) -> tuple[Plan, np.ndarray]:
    """The plan that the configuration names or asks for, and each table's expected ids a request [tables]."""
    lookups = expected_lookups(model.config, config.items, config.seed)
    if config.plan is not None:
        plan = read_plan(Path(config.plan))
        plan.check(model.config)
        return plan, lookups
    plan = make_plan(config.strategy, model.config, config.shards, lookups, config.shard_limit_bytes, config.table_type)
    return plan, lookups


def prepare(config: Config, model: Path, plan: Path) -> None:
    """Write model folder and plan file for `workbench serve main|shard`, on consecutive ports of loopback; for other
    hosts, edit the plan's addresses. A model folder that is there already is planned for as it is."""
    if plan.exists():
        raise InputError(f"{plan} exists: name another file with --plan")
    there = replace(config, exported=str(model)) if model.is_dir() else config
    found, _ = planned(config, exported_model(there, model))
    ports = iter(range(FIRST_PORT, FIRST_PORT + 1 + len(found.shards) * config.replicas))
    main = f"127.0.0.1:{next(ports)}"
    addresses = {
        shard.name: tuple(f"127.0.0.1:{next(ports)}" for _ in range(config.replicas)) for shard in found.shards
    }
    write_plan(found.at(main, addresses), plan)
