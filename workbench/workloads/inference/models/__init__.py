"""Ranking models as they are served: a few nets in a row, each with embedding tables of its own.

`MODELS` names the configurations (`drm.py`, `deeprecsys.py`); `nets.py` holds the dense layers, `lookup.py` the
tables, `ranker.py` a whole model in one process, `exported.py` a model as a folder that processes map into memory.
"""

from dataclasses import replace

from workbench import registry
from workbench.workloads.inference.models import deeprecsys, drm
from workbench.workloads.inference.models.config import ModelConfig

MODELS = drm.MODELS | deeprecsys.MODELS


def model_config(name: str, rows_factor: float = 1.0, seed: int = 0) -> ModelConfig:
    """The model `name` with `rows_factor` times as many rows a table; an unknown name is an InputError."""
    registry.check(name, tuple(MODELS), "model")
    return replace(MODELS[name](rows_factor), seed=seed)
