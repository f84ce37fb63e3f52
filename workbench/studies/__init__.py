"""One file a paper: its question, the runs that answer it, and its table beside the paper's own figures.

`studies/<name>.py` holds `<name>(scale, seeds, progress) -> StudyResult`, found by being there; the first line of its
docstring is the question, and `SEEDS` says how many seeds its intervals need. Scales: tiny takes seconds (tests), small
minutes on two cores, full a machine with a GPU.
"""

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from workbench import registry

PACKAGE = "workbench.studies"
Scale = Literal["tiny", "small", "full"]


def names() -> tuple[str, ...]:
    """Studies that there are."""
    return registry.functions(PACKAGE)


def question(name: str) -> str:
    """What the paper of study `name` asks."""
    registry.check(name, names(), "study")
    return inspect.getdoc(importlib.import_module(f"{PACKAGE}.{name}")).split("\n")[0]


def run(name: str, scale: Scale, seeds: int | None, traces: Path, show: Callable[[str, float], None]) -> Path:
    """Run study `name` and return its folder below `traces`, in which every finished part is kept from then on.

    `show` is told what is being done and which share is behind; `seeds` None are as many as the study says.
    InputError for an unknown study or a folder that cannot be written; KeyboardInterrupt when the user stops it: its
    status then says interrupted.
    """
    from workbench.studies.core.folder import writing

    study = registry.function(PACKAGE, name, "study")
    with writing(traces, name, scale) as (path, write):

        def progress(text: str, done_share: float, result: object) -> None:
            show(text, done_share)
            write(result)

        study(scale, seeds or importlib.import_module(study.__module__).SEEDS, progress)
    return path
