"""Events to tables. `analyses/<name>.py` holds `<name>(run, *, option=...) -> Result`, found by being there."""

from workbench import registry, settings
from workbench.analyses.core.result import WITHOUT_TIMES, Result, not_applicable
from workbench.trace.run import Run

PACKAGE = "workbench.analyses"
# The order in which people ask; what is not named here follows by the alphabet.
FIRST = ("time", "roofline", "memory_tiers", "communication")
# These take two runs, and are called by their own command.
PAIRWISE = frozenset({"difference"})


def names() -> tuple[str, ...]:
    """Analyses of one run, in reading order."""
    found = [name for name in registry.functions(PACKAGE) if name not in PAIRWISE]
    return tuple(sorted(found, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name)))


def analyze(run: Run, name: str, **options: object) -> Result:
    """Run the analysis `name` on `run`; options may be text, and are cast by the analysis's annotations."""
    if not isinstance(run, Run):
        raise TypeError(f"analyze takes a Run (from workbench.load), not {type(run).__name__}")
    function = registry.function(PACKAGE, name, "analysis")
    chosen = settings.options(function, options)
    result = function(run, **chosen) if run.timed else not_applicable(name, WITHOUT_TIMES)
    # What concerns this result comes first: a low coverage must not hide behind the reader's notes.
    result.notes = [*result.notes, *run.notes]
    return result
