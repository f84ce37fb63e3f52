"""Save a snapshot of PyTorch's CUDA allocator as JSON. Its own format is a pickle, which the workbench never opens.

torch.cuda.memory._record_memory_history(stacks="python")
...
save_snapshot("memory.json")  # then: workbench analyze memory.json --analysis memory
"""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from workbench.errors import InputError
from workbench.trace.readers.snapshot import is_own_code

# Innermost frames of the user's code that are kept of a stack, which may be a hundred deep.
_KEPT_FRAMES = 4
_FRAME = ("filename", "line", "name")
_BLOCK = ("address", "size", "state")
_SEGMENT = ("device", "address", "total_size", "stream")
_ACTION = ("action", "addr", "size", "stream", "time_us")


def save_snapshot(path: str | Path, snapshot: Mapping[str, Any] | None = None) -> Path:
    """Write `snapshot` (what torch.cuda.memory._snapshot() returns; default: the one of this process now) to `path`.

    Keeps torch's words (segments, blocks, device_traces), without what no analysis reads and with stacks cut to the
    innermost frames of the user's own code. InputError without a CUDA device, or where `path` cannot be written.
    """
    path = Path(path)
    snapshot = _current() if snapshot is None else snapshot
    document = {
        "segments": [_segment(segment) for segment in snapshot["segments"]],
        "device_traces": [[_with_frames(action, _ACTION) for action in trace] for trace in snapshot["device_traces"]],
        "rank": int(os.environ.get("RANK", -1)),  # as torchrun sets it
        "saved_us": time.time_ns() // 1000,
    }
    scratch = path.with_name(f".{path.name}.part")
    try:
        scratch.write_bytes(msgspec.json.encode(document))
        scratch.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None
    return path


def _current() -> Mapping[str, Any]:
    import torch

    if not torch.cuda.is_available():
        raise InputError("save_snapshot needs a CUDA device: on a CPU, profile with profile_memory=True")
    return torch.cuda.memory._snapshot()


def _segment(segment: Mapping[str, Any]) -> dict[str, Any]:
    address, blocks = segment["address"], []
    for block in segment["blocks"]:
        blocks.append({"address": address} | _with_frames(block, _BLOCK))  # older blocks lie end to end, unnumbered
        address += block["size"]
    return _kept(segment, _SEGMENT) | {"blocks": blocks}


def _with_frames(entry: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    frames = entry.get("frames") or []
    own = [frame for frame in frames if is_own_code(frame["filename"])][:_KEPT_FRAMES] or frames[:1]
    return _kept(entry, keys) | ({"frames": [_kept(frame, _FRAME) for frame in own]} if own else {})


def _kept(entry: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: entry[key] for key in keys if key in entry}
