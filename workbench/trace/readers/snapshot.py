"""A snapshot of PyTorch's CUDA allocator, as JSON (workbench.trace.snapshot.save_snapshot) -> Part with a memory table.

The allocator tells what it holds now (segments of blocks) and what it did, as far back as its history goes. The totals
are worked out backwards: after the last action they are those of the segments, and each action undone leads to the
totals before it.
"""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
import numpy as np

from workbench.trace.memory_table import memory_frame
from workbench.trace.part import Part
from workbench.trace.readers.documents import Int64, Microseconds, read_document

WHAT = "a CUDA memory snapshot as JSON (workbench.trace.snapshot.save_snapshot)"

# What an action does to the bytes in (use, reserve). A released block is free, though a stream may still work on it.
_EFFECTS = {
    "alloc": (1, 0), "free_requested": (-1, 0), "segment_alloc": (0, 1), "segment_map": (0, 1), "segment_free": (0, -1),
    "segment_unmap": (0, -1),
}  # fmt: skip
_COLUMNS = ("device", "time_ns", "address", "bytes", "allocated_bytes", "reserved_bytes", "site")
_IN_USE = "active_allocated"
_Size = Annotated[int, msgspec.Meta(ge=0, le=2**43)]  # so that a million of them can be added up
_Device = Annotated[int, msgspec.Meta(ge=0, le=2**15)]
_Rank = Annotated[int, msgspec.Meta(ge=-1, le=2**31 - 1)]


class Frame(msgspec.Struct, frozen=True):
    """A function on a call stack."""

    filename: str = ""
    line: Int64 = 0
    name: str = ""


class Block(msgspec.Struct, frozen=True):
    """A piece of a segment."""

    address: Int64
    size: _Size
    state: str = ""
    frames: list[Frame] = []


class Segment(msgspec.Struct, frozen=True):
    """Memory that the allocator took from a device."""

    total_size: _Size
    device: _Device = 0
    blocks: list[Block] = []


class Action(msgspec.Struct, frozen=True):
    """What the allocator did."""

    action: str
    address: Int64 = msgspec.field(name="addr", default=0)
    size: _Size = 0
    time_us: Microseconds = 0
    frames: list[Frame] = []


class Document(msgspec.Struct, frozen=True):
    """The file, in torch's own words: a snapshot that somebody else wrote as JSON can be read too."""

    segments: list[Segment] = []
    device_traces: list[list[Action]] = []
    rank: _Rank = -1
    saved_us: Microseconds = 0


class _Change(NamedTuple):
    time_us: int
    address: int
    in_use: int  # bytes, negative when released
    reserved: int
    frames: list[Frame]


def read(path: Path) -> Part:
    """Memory table of all devices in a snapshot. Blocks that were in use already when the history begins count as
    allocated at its start. InputError when the file is no snapshot."""
    path = Path(path)
    document, notes = read_document(path, Document, WHAT)
    used = {segment.device for segment in document.segments} | set(range(len(document.device_traces)))
    columns = [_device_columns(document, device) for device in sorted(used)]
    memory = memory_frame({name: [*chain(*(each[name] for each in columns))] for name in _COLUMNS})
    notes += _notes(document)
    info = {"file": str(path), "rank": document.rank, "world_size": None, "devices": [], "clock": "unix"}
    return Part(memory=memory, info=info, notes=[f"{path.name}: {note}" for note in notes])


def is_own_code(filename: str) -> bool:
    """A frame of Python code outside torch: there the reader of a stack finds himself."""
    return filename.endswith(".py") and "-packages/torch/" not in filename


def _device_columns(document: Document, device: int) -> dict[str, Sequence]:
    """Columns of the memory table, for one device."""
    segments = [segment for segment in document.segments if segment.device == device]
    actions = document.device_traces[device] if device < len(document.device_traces) else []
    done = [action for action in actions if action.action in _EFFECTS]
    allocated = {action.address for action in done if action.action == "alloc"}
    start_us = actions[0].time_us if actions else document.saved_us
    in_use = [block for segment in segments for block in segment.blocks if block.state == _IN_USE]
    changes = [
        _Change(start_us, block.address, block.size, 0, block.frames)
        for block in in_use if block.address not in allocated
    ]  # fmt: skip
    for action in done:
        used, reserved = (sign * action.size for sign in _EFFECTS[action.action])
        changes.append(_Change(action.time_us, action.address, used, reserved, action.frames))
    return {
        "device": [f"cuda:{device}"] * len(changes),
        "time_ns": [1000 * change.time_us for change in changes],
        "address": [change.address for change in changes],
        "bytes": [change.in_use for change in changes],
        "allocated_bytes": _totals([change.in_use for change in changes], sum(block.size for block in in_use)),
        "reserved_bytes": _totals([change.reserved for change in changes], sum(s.total_size for s in segments)),
        "site": [_site(change.frames) for change in changes],
    }


def _totals(changes: Sequence[int], last: int) -> np.ndarray:
    """Total after each change [n], from the one after the last."""
    done = np.cumsum(np.array(changes, dtype=np.int64))
    return last - (done[-1] - done) if len(done) else done


def _site(frames: Sequence[Frame]) -> str:
    """The innermost frame of the user's own code, else of any."""
    frame = next((frame for frame in frames if is_own_code(frame.filename)), frames[0] if frames else None)
    return f"{Path(frame.filename).name}:{frame.line} {frame.name}" if frame else ""


def _notes(document: Document) -> list[str]:
    actions = [action for trace in document.device_traces for action in trace]
    failed = sum(action.action == "oom" for action in actions)
    notes = [f"the allocator ran out of memory {failed} times"] if failed else []
    if not actions:
        notes.append(
            "the snapshot has no history, and shows only what was held when it was taken: call "
            "torch.cuda.memory._record_memory_history() first"
        )
    return notes
