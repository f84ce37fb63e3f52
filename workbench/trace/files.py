"""Users' trace files: which of a folder are traces, of what kind, whose they are, and what their readers make of them.

Files of one kind make a run: one a rank, or one a service. What else lies in a folder is left out, and notes say so.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from workbench.errors import InputError
from workbench.trace.cache import cached_part
from workbench.trace.filters import Filters
from workbench.trace.parallel import decode_ahead
from workbench.trace.part import Part
from workbench.trace.readers import chakra, execution_trace, jaeger, kineto, otlp, snapshot, stacks
from workbench.trace.recognise import FORMATS, format_of

# What a folder is searched for; a file that is named itself may be called anything.
TRACE_SUFFIXES = (".json", ".jsonl", ".txt", ".collapsed", ".folded", ".zip", ".gz")

READERS: dict[str, Callable[[Path], Part]] = {
    "kineto": kineto.read, "execution_trace": execution_trace.read, "chakra": chakra.read, "otlp": otlp.read,
    "jaeger": jaeger.read, "speedscope": stacks.read_speedscope, "collapsed": stacks.read_collapsed,
    "snapshot": snapshot.read,
}  # fmt: skip
# One file a rank; the others name their processes themselves, or have none.
OF_RANKS = frozenset({"kineto", "execution_trace", "chakra", "snapshot"})

_NAMED_RANK = re.compile(r"rank[-_]?(\d{1,9})")
_SHOWN = 4


class TraceFiles(NamedTuple):
    """Files of one format (of FORMATS), and notes about what else their folder holds."""

    format: str
    paths: list[Path]
    notes: list[str]


def trace_files(paths: list[Path]) -> TraceFiles:
    """The traces that `paths` (files and folders) stand for. InputError when one is none, or they are of two kinds."""
    found = [_in_folder(path) if path.is_dir() else TraceFiles(format_of(path), [path], []) for path in paths]
    for other in found[1:]:
        if other.format != found[0].format:
            first, second = _words(found[0].format), _words(other.format)
            advice = "give execution traces by --execution-trace" if "execution" in first + second else "load one kind"
            raise InputError(f"{paths[0]} is {first}, {other.paths[0]} is {second}: {advice}")
    notes = [note for each in found for note in each.notes]
    return TraceFiles(found[0].format, [path for each in found for path in each.paths], notes)


def read_parts(files: TraceFiles, chosen: Filters) -> list[Part]:
    """The part of each file, with its rank (-1 where a format has none), by rank; only of the chosen ranks.

    Of profiles, what lies outside a chosen interval is not kept at all; other formats are cut later.
    """
    paths, ranks = files.paths, None
    if chosen.ranks and files.format == "kineto":  # a rank that nobody wants need not be read
        ranks = told_ranks(paths, [kineto.head(path)["rank"] for path in paths])
    if ranks is not None:
        paths = [path for path, rank in zip(paths, ranks, strict=True) if chosen.takes(rank)]
        ranks = [rank for rank in ranks if chosen.takes(rank)]
    parts = _read_all(paths, files.format, chosen)
    if ranks is None and files.format in OF_RANKS:
        ranks = _ranks(paths, [part.info["rank"] for part in parts])
    for part, rank in zip(parts, ranks or [part.info["rank"] for part in parts], strict=True):
        part.info["rank"] = rank
    return sorted((part for part in parts if chosen.takes(part.info["rank"])), key=lambda part: part.info["rank"])


def told_ranks(paths: list[Path], said: list[int]) -> list[int] | None:
    """What the traces say (-1: nothing) where that tells all apart, else numbers in the file names, else None."""
    if min(said, default=0) >= 0 and len(set(said)) == len(said):
        return said
    named = [_NAMED_RANK.search(path.name) for path in paths]
    return [int(match[1]) for match in named] if all(named) else None


def natural(path: Path) -> list:
    """A key by which rank-10 comes after rank-9."""
    return [int(piece) if piece.isdecimal() else piece for piece in re.split(r"(\d+)", path.name)]


def _ranks(paths: list[Path], said: list[int]) -> list[int]:
    """Rank from the trace itself, else a number in the file name, else the order given."""
    ranks = told_ranks(paths, said)
    ranks = list(range(len(paths))) if ranks is None else ranks
    if len(set(ranks)) < len(ranks):
        raise InputError(f"{paths[0]} and others say they are the same rank: give one trace a rank")
    return ranks


def _read_all(paths: list[Path], kind: str, chosen: Filters) -> list[Part]:
    """All of each trace, from the cache where it is there; or what lies in an interval, which is decoded afresh."""
    if chosen.between_s is None or kind != "kineto":
        if kind == "kineto":
            decode_ahead([(path, None) for path in paths])
        return [cached_part(path, READERS[kind]) for path in paths]
    clocks = [kineto.clock(path) for path in paths]
    first_ns, last_ns = chosen.window_ns(min((c.first_ns + c.base_ns for c in clocks if c), default=0))
    bases_ns = [clock.base_ns if clock else 0 for clock in clocks]
    return [
        kineto.read(path, (first_ns - base_ns, last_ns - base_ns))
        for path, base_ns in zip(paths, bases_ns, strict=True)
    ]


def _in_folder(folder: Path) -> TraceFiles:
    """The traces of the first kind (in the order of FORMATS) that is there."""
    files = sorted((p for p in folder.iterdir() if p.is_file() and p.name.endswith(TRACE_SUFFIXES)), key=natural)
    by_format: dict[str, list[Path]] = {}
    refusals: dict[Path, InputError] = {}
    for file in files:
        try:
            by_format.setdefault(format_of(file), []).append(file)
        except InputError as refusal:
            refusals[file] = refusal
    kinds = [kind for kind in FORMATS if kind in by_format]
    if not kinds:
        why = f"; {next(iter(refusals.values()))}" if refusals else f" ({', '.join(TRACE_SUFFIXES)})"
        raise InputError(f"{folder} holds neither a run.json nor traces{why}")
    others = [(_words(kind), by_format[kind]) for kind in kinds[1:]]
    others += [("no trace", list(refusals))] if refusals else []
    notes = [f"left out of {folder.name}, being {why}: {_listed(left)}" for why, left in others]
    return TraceFiles(kinds[0], by_format[kinds[0]], notes)


def _words(kind: str) -> str:
    return f"of the format {kind.replace('_', ' ')}"


def _listed(paths: list[Path]) -> str:
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return ", ".join(path.name for path in paths[:_SHOWN]) + more
