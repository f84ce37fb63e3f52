"""The profiler's `[memory]` instants (profile_memory=True): what its allocators gave and took, on which thread."""

import numpy as np
import pandas as pd

from workbench.trace.memory_table import memory_frame
from workbench.trace.readers.columns import MemoryChange, integer

_CPU = 0  # c10::DeviceType
_INT64 = range(-(2**63), 2**63)


def memory_table(
    changes: list[MemoryChange], times_ns: np.ndarray, event_ids: np.ndarray, accelerator: str
) -> pd.DataFrame:
    """The memory table of changes [n] at these times, inside these host events; `accelerator` names device types other
    than the CPU, as in the events table. Changes without a whole address and size are left out."""
    whole = [row for row, change in enumerate(changes) if _whole(change.address) and _whole(change.changed_bytes)]
    kept = [changes[row] for row in whole]
    on_cpu = [change.device_type == _CPU for change in kept]
    return memory_frame(
        {
            "device": ["cpu" if cpu else f"{accelerator}:{integer(change.device_index)}"
                       for cpu, change in zip(on_cpu, kept, strict=True)],
            "time_ns": times_ns[whole], "event_id": event_ids[whole],
            "address": [change.address for change in kept], "bytes": [change.changed_bytes for change in kept],
            "allocated_bytes": [_total(change.allocated_bytes) for change in kept],
            # The CPU's allocator holds nothing in reserve, and the profiler writes 0.
            "reserved_bytes": [np.nan if cpu else _total(change.reserved_bytes)
                               for cpu, change in zip(on_cpu, kept, strict=True)],
        }
    )  # fmt: skip


def _whole(value: object) -> bool:
    return isinstance(value, int) and value in _INT64


def _total(value: object) -> float:
    """Profilers before 2021 wrote no totals."""
    return float(value) if _whole(value) else np.nan
