"""Sampled call stacks -> Part: collapsed text ("a;b;c 12", py-spy's raw format) and speedscope's JSON.

The Part has no events, but a table of stacks. Times are in ns and sizes in bytes; what only counts samples has the unit
"samples". The process is what the file is called, up to the first dot. The thread is a profile's name in speedscope's
JSON, and in collapsed text what py-spy writes before the outermost frame, where it does.
"""

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pandas as pd

from workbench.errors import InputError
from workbench.trace.part import Part
from workbench.trace.readers.documents import decode, expanded
from workbench.trace.schema import STACK_COLUMNS

COLLAPSED = "collapsed stacks, a line each: frames joined by ';', a space and a number (py-spy record --format raw)"
SPEEDSCOPE = "a speedscope profile (py-spy record --format speedscope)"

# Stacks as text take more room than as frame numbers: a small file could ask for terabytes.
_LIMIT_CHARACTERS = 1 << 28
_NUMBER = re.compile(r"\d{1,18}(\.\d{1,18})?")
# What py-spy writes before the outermost frame: with --subprocesses a command, which may hold ';' and stands in quotes;
# with --threads an id, and a name if it has one.
_PROCESS_OR_THREAD = re.compile(r'(process \d+):".*?"(?:;|$)|(thread) \((\w+)\)(?:: ([^;]*))?(?:;|$)')
_UNITS = {
    "none": ("samples", 1), "nanoseconds": ("ns", 1), "microseconds": ("ns", 1e3), "milliseconds": ("ns", 1e6),
    "seconds": ("ns", 1e9), "bytes": ("bytes", 1),
}  # fmt: skip
_Weight = Annotated[float, msgspec.Meta(ge=0, le=1e18)]
_At = Annotated[float, msgspec.Meta(ge=-1e18, le=1e18)]
_Row = Annotated[int, msgspec.Meta(ge=0, le=2**31)]


class Frame(msgspec.Struct, frozen=True):
    """A function, with its place in the source if known."""

    name: str
    file: str | None = None
    line: int | None = None


class Shared(msgspec.Struct, frozen=True):
    """What all profiles of a file share."""

    frames: list[Frame]


class Edge(msgspec.Struct, frozen=True):
    """A frame that opens (O) or closes (C)."""

    type: Literal["O", "C"]
    at: _At
    frame: _Row


class Sampled(msgspec.Struct, frozen=True, tag_field="type", tag="sampled"):
    """Stacks (frame numbers, outermost first) with a weight each."""

    samples: list[list[_Row]]
    weights: list[_Weight]
    unit: str = "none"
    name: str = ""


class Evented(msgspec.Struct, frozen=True, tag_field="type", tag="evented"):
    """Frames that open and close in time."""

    events: list[Edge]
    end: _At = msgspec.field(name="endValue")
    unit: str = "none"
    name: str = ""


class Document(msgspec.Struct, frozen=True):
    """A speedscope file: a profile a thread."""

    shared: Shared
    profiles: list[Sampled | Evented]


class _Tree:
    """Distinct stacks as a tree: node 0 is the empty stack, any other one its parent with a frame more."""

    def __init__(self) -> None:
        self.parents, self.frames = [-1], [-1]
        self._children: dict[tuple[int, int], int] = {}

    def child(self, node: int, frame: int) -> int:
        """The stack of `node` with `frame` on top."""
        found = self._children.setdefault((node, frame), len(self.parents))
        if found == len(self.parents):
            self.parents.append(node)
            self.frames.append(frame)
        return found

    def stack(self, node: int) -> list[int]:
        """Frame numbers, outermost first."""
        frames = []
        while node:
            frames.append(self.frames[node])
            node = self.parents[node]
        return frames[::-1]


def read_collapsed(path: Path) -> Part:
    """Stacks of a text file; lines that are none are counted in the notes. InputError where no line is one."""
    path = Path(path)
    text, notes = expanded(path, COLLAPSED)
    rows, others = [], 0
    for line in text.decode("utf-8", "replace").splitlines():
        stack, weight = collapsed_line(line) or ("", 0.0)
        thread, frames = _thread_and_frames(stack)
        if frames:
            rows.append((thread, frames, weight, weight, "samples"))
        else:
            others += bool(line.strip())
    if not rows:
        raise InputError(f"{path} holds no stack: expected {COLLAPSED}")
    return _part(path, rows, [*notes, *([f"left out {others} lines that are no stacks"] if others else [])])


def collapsed_line(line: str) -> tuple[str, float] | None:
    """'a;b c;d 12' -> ('a;b c;d', 12.0); None for what is no such line."""
    stack, _, weight = line.rstrip().rpartition(" ")
    return (stack.strip(), float(weight)) if stack.strip() and _NUMBER.fullmatch(weight) else None


def _thread_and_frames(stack: str) -> tuple[str, str]:
    """'process 7:"python a.py";thread (9): main;f;g' -> ('process 7 thread 9 main', 'f;g'); 'f;g' -> ('', 'f;g')."""
    words, at = [], 0
    while found := _PROCESS_OR_THREAD.match(stack, at):
        words += [word for word in found.groups() if word]
        at = found.end()
    return " ".join(words), stack[at:]


def read_speedscope(path: Path) -> Part:
    """Stacks of all profiles (threads) of a speedscope file; for an evented one, the time for which each was on top."""
    path = Path(path)
    text, notes = expanded(path, SPEEDSCOPE)
    document, repairs = decode(text, Document, str(path), SPEEDSCOPE)
    tree, rows = _Tree(), []
    for number, profile in enumerate(document.profiles):
        unit, scale = _UNITS.get(profile.unit, (profile.unit, 1))
        try:
            counts, weights = _sampled(profile, tree) if isinstance(profile, Sampled) else _evented(profile, tree)
        except ValueError as error:
            raise InputError(f"{path}, profile {number}: {error}: expected {SPEEDSCOPE}") from None
        for node, weight in weights.items():
            samples = weight if unit == "samples" else counts.get(node, math.nan)
            rows.append((profile.name.removesuffix(' ""'), node, samples, weight * scale, unit))
    return _part(path, _named(rows, tree, document.shared.frames, path), notes + repairs)


def _sampled(profile: Sampled, tree: _Tree) -> tuple[dict[int, int], dict[int, float]]:
    """How often each stack was seen, and what that weighs."""
    if len(profile.samples) != len(profile.weights):
        raise ValueError(f"{len(profile.samples)} samples have {len(profile.weights)} weights")
    counts: dict[int, int] = {}
    weights: dict[int, float] = {}
    for sample, weight in zip(profile.samples, profile.weights, strict=True):
        node = 0
        for frame in sample:
            node = tree.child(node, frame)
        counts[node], weights[node] = counts.get(node, 0) + 1, weights.get(node, 0) + weight
    return counts, weights


def _evented(profile: Evented, tree: _Tree) -> tuple[dict[int, int], dict[int, float]]:
    """No counts, and the time for which each stack was the whole one."""
    weights: dict[int, float] = {}
    node, since = 0, profile.events[0].at if profile.events else profile.end
    for edge in profile.events:
        if edge.at < since:
            raise ValueError(f"an event at {edge.at:g} follows one at {since:g}")
        weights[node] = weights.get(node, 0) + edge.at - since
        since = edge.at
        if edge.type == "O":
            node = tree.child(node, edge.frame)
        elif tree.frames[node] == edge.frame:
            node = tree.parents[node]
        else:
            raise ValueError(f"frame {edge.frame} closes at {edge.at:g} and is not the innermost one")
    weights[node] = weights.get(node, 0) + max(profile.end - since, 0)
    return {}, weights


def _named(rows: list[tuple], tree: _Tree, frames: list[Frame], path: Path) -> list[tuple]:
    """With the stacks' text in place of their node; those without weight, and the empty stack, are left out."""
    names = [_frame_text(frame) for frame in frames]
    if max(tree.frames) >= len(names):
        raise InputError(f"{path} names frame {max(tree.frames)} of {len(names)}: expected {SPEEDSCOPE}")
    named = []
    characters = 0
    for thread, node, samples, weight, unit in rows:
        if node == 0 or weight == 0:
            continue
        stack = [names[frame] for frame in tree.stack(node)]
        characters += sum(map(len, stack)) + len(stack)
        if characters > _LIMIT_CHARACTERS:
            raise InputError(f"{path}: its stacks are deeper than can be shown as text: record a shorter time")
        named.append((thread, ";".join(stack), samples, weight, unit))
    return named


def _frame_text(frame: Frame) -> str:
    """As py-spy writes it in collapsed stacks: 'step (train.py:12)'. ';' would end the frame."""
    place = frame.file if frame.line is None else f"{frame.file}:{frame.line}"
    return (f"{frame.name} ({place})" if frame.file else frame.name).replace(";", ",")


def _part(path: Path, rows: Iterable[tuple], notes: list[str]) -> Part:
    """`rows`: thread, stack, samples, weight, unit; equal ones are added up."""
    process, (_, *columns) = path.name.partition(".")[0], STACK_COLUMNS
    stacks = pd.DataFrame(rows, columns=columns).assign(process=process)[list(STACK_COLUMNS)].astype(STACK_COLUMNS)
    keys = ["process", "thread", "stack", "unit"]
    stacks = stacks.groupby(keys, sort=False, as_index=False).sum(skipna=False)[list(STACK_COLUMNS)]
    info = {"file": str(path), "rank": -1, "world_size": None, "backend": None, "devices": [], "process_groups": []}
    return Part(stacks=stacks, info=info, notes=[f"{path.name}: {note}" for note in notes])
