"""What PyTorch's profiler really writes: the calls under a function, with the costs that count."""

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from torch.profiler import ProfilerActivity, profile

from workbench.costs import Cost, cost


class ProfiledCall(NamedTuple):
    """One operator event; `outer` are the names around it, outermost first."""

    name: str
    dims: list
    types: list
    concrete: list
    outer: tuple[str, ...]
    duration: float

    @property
    def cost(self) -> Cost | None:
        """The package's answer for this call."""
        return cost(self.name, self.dims, self.types, self.concrete)


def calls_of(function: Callable[[], Any], folder: Path) -> list[ProfiledCall]:
    """Run `function` under the profiler and read its operators back from the trace that it exports."""
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
        function()
    path = folder / "calls.json"
    profiler.export_chrome_trace(str(path))
    return list(nested(json.loads(path.read_text())["traceEvents"]))


def read_calls(path: Path) -> list[ProfiledCall]:
    """The operators of a gzipped trace."""
    with gzip.open(path) as file:
        return list(nested(json.load(file)["traceEvents"]))


def nested(events: list[dict]) -> Iterator[ProfiledCall]:
    """Operators in order, each with the names around it on its thread."""
    operators = [e for e in events if e.get("ph") == "X" and e.get("cat") == "cpu_op"]
    operators.sort(key=lambda e: (str(e["tid"]), e["ts"], -e["dur"]))
    around: list[dict] = []
    for event in operators:
        while around and not (around[-1]["tid"] == event["tid"] and event["ts"] < around[-1]["ts"] + around[-1]["dur"]):
            around.pop()
        arguments = event["args"]
        described = [arguments.get(key, []) for key in ("Input Dims", "Input type", "Concrete Inputs")]
        yield ProfiledCall(event["name"], *described, tuple(e["name"] for e in around), event["dur"])
        around.append(event)


def counted(calls: list[ProfiledCall]) -> list[tuple[ProfiledCall, Cost]]:
    """Calls with a cost that no call around them has counted already; views are looked through."""
    found, owners = [], []
    for call in calls:
        owners = owners[: len(call.outer)]
        known = call.cost
        counts = known is not None and known.model != "view"
        if counts and not any(owners):
            found.append((call, known))
        owners.append(counts)
    return found


def flops_of(calls: list[ProfiledCall], models: frozenset[str]) -> float:
    """FLOPs of the counted calls of these models."""
    return sum(known.flops for _, known in counted(calls) if known.model in models)


def only(calls: list[ProfiledCall], name: str) -> Cost:
    """The cost of the one call of operator `name`."""
    (call,) = [call for call in calls if call.name == name]
    assert call.cost is not None, f"{call} has no cost"
    return call.cost
