"""A study's folder as a finished study leaves it, without running one."""

from pathlib import Path

from pages.made_runs import HOSTILE

from workbench.studies.core.criteria import AtLeast
from workbench.studies.core.curves import Curve
from workbench.studies.core.facts import Fact
from workbench.studies.core.folder import writing
from workbench.studies.core.quantities import Quantity, row
from workbench.studies.core.result import make_result


def make_study(traces: Path) -> Path:
    """One reproduced and one not reproduced quantity, the second with a hostile name, and a curve."""
    kept = Quantity(name="kept", unit="1", scale_free=True, fact=Fact("kept", "src"), criterion=AtLeast(0.1))
    lost = Quantity(name=HOSTILE, unit="1", scale_free=True, fact=Fact(1.0, "src"), criterion=AtLeast(0.9))
    rows = [row(kept, [0.5, 0.6, 0.7], "measured"), row(lost, [0.5], "modelled")]
    curve = Curve(
        title="balance", x="ranks", y="max / mean", source="simulated", colour="planner",
        table=[{"ranks": ranks, "max / mean": 1 + 1 / ranks, "planner": HOSTILE} for ranks in (8, 16)],
    )  # fmt: skip
    with writing(traces, "neo", "tiny") as (path, write):
        write(make_result("neo", "Why?", "tiny", 3, rows, [curve], ["a note"]))
    return path
