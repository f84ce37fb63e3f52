"""Reference implementations. `workloads/<name>/` holds `PRESETS` (name -> function that makes a configuration) and
`start(config, preset, traces, ceilings, py_spy) -> Path`, found by being there.

Presets and `--set` change a frozen dataclass; nothing runs before every key and value has been checked.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import registry
from workbench.settings import configure

if TYPE_CHECKING:
    from workbench.trace.run import Run

PACKAGE = "workbench.workloads"


def run(
    workload: str,
    preset: str = "default",
    traces: str | Path = "traces",
    ceilings: bool = True,
    py_spy: bool = False,
    **settings: Any,
) -> "Run":
    """Run a workload and load what it recorded. A script that calls this needs `if __name__ == "__main__":`, since
    ranks are spawned. Raises as `start` does."""
    from workbench.trace.loader import load

    return load(start(workload, preset, settings, Path(traces), ceilings, py_spy))


def start(workload: str, preset: str, settings: Mapping[str, Any], traces: Path, ceilings: bool, py_spy: bool) -> Path:
    """Run a workload to its end and return its run directory below `traces`.

    InputError for an unknown workload, preset or key and for a value that cannot work; `launch.RankFailed` when a rank
    fails; KeyboardInterrupt when the user stops it - the run's status then says failed or interrupted.
    """
    module = registry.module(PACKAGE, workload, "workload")
    registry.check(preset, tuple(module.PRESETS), "preset")
    config = configure(module.PRESETS[preset](), settings)
    return module.start(config, preset, traces, ceilings, py_spy)
