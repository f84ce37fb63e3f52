"""Bytes that copies and fills move through each memory tier, from the sizes that the profiler records."""

from collections.abc import Iterable
from functools import cache

import numpy as np
import pandas as pd

from workbench.trace.readers.columns import integer
from workbench.trace.schema import TIERS, TRAFFIC_COLUMNS

# Words in an event's name (or an MTIA direction) -> (tier, share read, share written) of the bytes, as the device
# sees them. A copy over PCIe passes the link once and the device's memory once.
_TO_DEVICE = (("pcie", 1, 0), ("hbm", 0, 1))
_TO_HOST = (("pcie", 0, 1), ("hbm", 1, 0))
_MOVES = (
    (("HtoD", "HostToDevice"), _TO_DEVICE),
    (("DtoH", "DeviceToHost"), _TO_HOST),
    (("DtoD", "DeviceToDevice"), (("hbm", 1, 1),)),
    (("Memset", "FillBuffer"), (("hbm", 0, 1),)),
    # MTIA's device memory is no HBM: only the link is known.
    (("HOST_TO_DEVICE",), _TO_DEVICE[:1]),
    (("DEVICE_TO_HOST",), _TO_HOST[:1]),
)


def traffic_frame(moves: Iterable[tuple[int, str, object]]) -> pd.DataFrame:
    """The traffic table from (event_id, name or direction, bytes as written); unknown directions are left out."""
    event_ids, tiers, reads, writes = [], [], [], []
    tiers_of = cache(_tiers)  # a trace has a handful of names
    for event_id, words, size in moves:
        size_bytes = integer(size)
        for tier, read, write in tiers_of(words) if size_bytes > 0 else ():
            event_ids.append(event_id)
            tiers.append(TIERS.index(tier))
            reads.append(read * size_bytes)
            writes.append(write * size_bytes)
    tier = pd.Categorical.from_codes(np.array(tiers, dtype=np.int8), categories=TIERS).remove_unused_categories()
    columns = {"event_id": event_ids, "read_bytes": reads, "write_bytes": writes}
    arrays = {name: np.array(values, dtype=TRAFFIC_COLUMNS[name]) for name, values in columns.items()}
    return pd.DataFrame(arrays | {"tier": tier})[list(TRAFFIC_COLUMNS)]


def _tiers(words: str) -> tuple[tuple[str, int, int], ...]:
    return next((tiers for known, tiers in _MOVES if any(word in words for word in known)), ())
