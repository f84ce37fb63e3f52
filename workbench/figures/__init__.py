"""Tables to plotly figures: `figures/<name>.py` holds `<name>(result) -> Figure`, the same name as its analysis."""

from typing import TYPE_CHECKING

from workbench import registry
from workbench.analyses.core.result import Result

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

PACKAGE = "workbench.figures"


def figure(result: Result) -> "Figure":
    """The figure of a result: drawn, not shown. A result that does not apply becomes a figure that says why."""
    from workbench.figures import theme

    if not result.applies or len(result.table) == 0:
        return theme.message(result.reason or f"{result.analysis}: nothing in it")
    return theme.finish(registry.function(PACKAGE, result.analysis, "figure")(result))
