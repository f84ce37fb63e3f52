"""From samples to rows: repeats interleaved over everything that is compared, and the statistics that a row keeps."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

# Long against a clock's resolution and a thread's wake-up, short against a scheduler's interruptions.
SAMPLE_NS = 1.5e6


class Unavailable(Exception):
    """This machine cannot be asked that; the message says why."""


@dataclass
class Found:
    """What one part measured: `rows` with some of `ceilings.COLUMNS`, and what it left out, with the reason."""

    rows: list[dict] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    def rate(self, samples: Sequence[float], method: str, **columns: object) -> None:
        """A row for repeats [n] of a rate: its value is their 90th percentile, never a single lucky one."""
        self._row(samples, float(np.percentile(samples, 90)), method, columns)

    def time(self, samples_ns: Sequence[float], method: str, **columns: object) -> None:
        """A row for repeats [n] of a time in ns: its value is their median."""
        self._row(samples_ns, float(np.median(samples_ns)), method, {"unit": "ns", **columns})

    def least_time(self, samples_ns: Sequence[float], method: str, **columns: object) -> None:
        """A row for repeats [n] of a time in ns that is a ceiling: its value is their 10th percentile, as a rate's is
        the 90th."""
        self._row(samples_ns, float(np.percentile(samples_ns, 10)), method, {"unit": "ns", **columns})

    def _row(self, samples: Sequence[float], value: float, method: str, columns: dict) -> None:
        low, median, high = (float(np.percentile(samples, rank)) for rank in (0, 50, 100))
        spread = {"value": value, "median": median, "min": low, "max": high, "repeats": len(samples)}
        self.rows.append({**columns, **spread, "method": method, "source": "measured"})


def interleaved(trials: Mapping[Hashable, Callable[[], float]], repeats: int) -> dict[Hashable, list[float]]:
    """`repeats` samples of each trial, round by round, so that a slow spell of the machine touches all of them alike.

    A first round warms up (compilation, page faults, caches) and is thrown away.
    """
    for trial in trials.values():
        trial()
    samples = {key: [] for key in trials}
    for _ in range(repeats):
        for key, trial in trials.items():
            samples[key].append(trial())
    return samples


def passes_for(timed: Callable[[int], float]) -> int:
    """How many passes last about SAMPLE_NS, where `timed(passes)` says how many ns they took.

    Grown step by step, since a few passes of a small loop are mostly the call; the least of three tries counts, since
    others may interrupt one.
    """
    passes = 1
    while (took_ns := min(timed(passes) for _ in range(3))) < SAMPLE_NS / 2:
        passes = max(2 * passes, int(passes * SAMPLE_NS / took_ns))
    return max(1, round(passes * SAMPLE_NS / took_ns))
