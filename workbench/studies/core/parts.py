"""A study runs part after part, and hands on what it has after each: stopped in the middle, it keeps what is done."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from workbench.studies.core.curves import Curve
from workbench.studies.core.result import StudyResult, make_result

# Says what is being done and which share of the work is behind it.
Say = Callable[[str, float], None]
# The same of a whole study, with the result so far.
Progress = Callable[[str, float, StudyResult], None]


@dataclass
class Part:
    """What one part of a study found; `notes` say what a reader must know of it, such as why it is missing."""

    rows: list[dict] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


# part(scale, seeds, say): one group of quantities; `seeds` [N] are the seeds to use.
RunPart = Callable[[str, Sequence[int], Say], Part]


def run_parts(
    name: str, question: str, parts: Mapping[str, RunPart], scale: str, seeds: int, progress: Progress
) -> StudyResult:
    """The result of all `parts` ({what it is about: part}), run in their order with seeds 0 to `seeds` - 1."""
    done: list[Part] = []

    def so_far() -> StudyResult:
        rows, curves, notes = (
            [item for part in done for item in getattr(part, of)] for of in ("rows", "curves", "notes")
        )
        return make_result(name, question, scale, seeds, rows, curves, notes)

    def say(about: str, text: str, share: float) -> None:
        progress(f"{about}: {text}", (len(done) + share) / len(parts), so_far())

    for about, part in parts.items():
        progress(about, len(done) / len(parts), so_far())
        done.append(part(scale, range(seeds), partial(say, about)))
    result = so_far()
    progress("done", 1.0, result)
    return result
