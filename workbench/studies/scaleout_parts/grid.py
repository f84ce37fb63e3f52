"""All ways to cut one model, served again and again in random order: what several groups of quantities read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from workbench.studies.core.parts import Say
from workbench.studies.scaleout_parts.cuts import SINGULAR, Cut, cuts_of
from workbench.studies.scaleout_parts.deployments import Served, exported, serve
from workbench.studies.scaleout_parts.scales import Scale

# How a latency is known, and what that means for whoever reads its name.
WHERE = {"measured": "on the cores that are here", "modelled": "with a core for each server"}


@dataclass(frozen=True)
class Grid:
    """`served[cut, source]` has one deployment a seed, in the order of seeds; singular ones are equal for both."""

    model: str
    cuts: list[Cut]
    served: dict[tuple[Cut, str], list[Served]]

    def ratios(self, value: Callable[[Served], float], cut: Cut, over: Cut, source: str) -> list[float]:
        """One cut's value over another's, paired by seed."""
        pairs = zip(self.served[cut, source], self.served[over, source], strict=True)
        return [value(ours) / value(theirs) for ours, theirs in pairs]

    def values(self, value: Callable[[Served], float], cut: Cut, source: str) -> list[float]:
        """One cut's value, a seed each."""
        return [value(served) for served in self.served[cut, source]]


def measure(model: str, scale: Scale, seeds: Sequence[int], say: Say) -> Grid:
    """Serve `model` in every cut: all of a seed's deployments before the next seed's, so that drift of the machine
    falls on all alike."""
    cuts = cuts_of(model, scale.shards)
    planned = [(SINGULAR, "measured"), *((cut, source) for cut in cuts for source in WHERE)]
    served: dict[tuple[Cut, str], list[Served]] = {key: [] for key in planned}
    with exported(model, scale.rows_factor) as folder:
        for number, seed in enumerate(seeds):
            for place, index in enumerate(np.random.default_rng(seed).permutation(len(planned))):
                cut, source = planned[index]
                done_share = (number + place / len(planned)) / len(seeds)
                say(f"{cut}, repeat {number + 1} of {len(seeds)}", done_share)
                alone = source == "modelled"
                served[cut, source].append(
                    serve(exported=folder, seed=seed, uncontended=alone, **cut.settings, **scale.load)
                )
    served[SINGULAR, "modelled"] = served[SINGULAR, "measured"]  # one process, and nothing that runs beside it
    return Grid(model, cuts, served)
