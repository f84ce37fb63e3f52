"""recsys-workbench: characterize recommendation-model infrastructure.

    import workbench as wb
    run = wb.load("traces/training-tiny-...")
    result = wb.analyze(run, "roofline")
    wb.figure(result)

The names below are the public ones; each is imported when first used, so `import workbench` costs nothing.
"""

import importlib
from typing import Any

_HOMES = {
    "run": "workbench.workloads",
    "load": "workbench.trace.loader",
    "analyze": "workbench.analyses",
    "compare": "workbench.analyses.difference",
    "figure": "workbench.figures",
    "ceilings": "workbench.machine.measure",
    "definitions": "workbench.metrics",
    "Run": "workbench.trace.run",
    "Result": "workbench.analyses.core.result",
    "InputError": "workbench.errors",
}
__all__ = sorted(_HOMES)
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'workbench' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
