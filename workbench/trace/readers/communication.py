"""What the events of a trace say of its collectives, as columns of the events table and as the table of splits."""

import math
from typing import Any

import numpy as np
import pandas as pd

from workbench.trace.readers import about
from workbench.trace.readers.columns import Codes
from workbench.trace.readers.messages import Message, of_calls, resolve, sized
from workbench.trace.schema import BYTES_SOURCES, splits_frame

_KERNEL, _LAUNCH, _HOST_CALL, _ = BYTES_SOURCES


class Communication:
    """The collectives of a trace, by row: what each event says by itself (`own`), completed from what is around it.

    `own` is in order of time, `names` has the events' names by row; `launch` and `parents` [n] are rows, -1 for none;
    `info` is what the trace says about itself (see `about`).
    """

    def __init__(
        self, own: dict[int, Message], names: dict[int, str], launch: np.ndarray, parents: np.ndarray,
        info: dict[str, Any],
    ) -> None:  # fmt: skip
        messages = resolve(own, launch, parents)
        messages |= _gloo_transfers(messages, names)
        self._own, self._length = own, len(parents)
        self._messages = {row: _placed(message, info) for row, message in messages.items()}

    def columns(self, on_device: np.ndarray) -> dict[str, object]:
        """Columns of the events table; `on_device` [n] masks what ran on a device."""
        sizes = {"group_size": np.int32, "message_bytes": np.float64, "sequence": np.int64}
        texts = ("collective", "process_group", "bytes_source")
        numbers = {name: np.full(self._length, -1, dtype=dtype) for name, dtype in sizes.items()}
        numbers["message_bytes"][:] = math.nan
        codes = {name: Codes({"": 0}) for name in texts}
        coded = {name: np.zeros(self._length, dtype=np.int32) for name in texts}
        for row, message in self._messages.items():
            numbers["group_size"][row], numbers["sequence"][row] = message.group_size, message.sequence
            numbers["message_bytes"][row] = message.size_bytes
            said = (message.collective, message.process_group, self._source(row, on_device[row]))
            for name, text in zip(texts, said, strict=True):
                coded[name][row] = codes[name][text]
        return numbers | {name: pd.Categorical.from_codes(coded[name], list(codes[name])) for name in texts}

    def splits(self) -> pd.DataFrame:
        """The splits table."""
        known = {row: message.splits for row, message in sorted(self._messages.items()) if message.splits}
        sent, received = zip(*known.values(), strict=True) if known else ((), ())
        return splits_frame(list(known), sent, received)

    def _source(self, row: int, on_device: bool) -> str:
        if math.isnan(self._messages[row].size_bytes):
            return ""
        if not on_device:
            return _HOST_CALL
        return _LAUNCH if math.isnan(self._own[row].size_bytes) else _KERNEL


def _placed(message: Message, info: dict[str, Any]) -> Message:
    """`message` in its process group: the only one, where none is named."""
    group = message.process_group or (about.only_group(info) if message.collective else "")
    return sized(message._replace(process_group=group), about.position(info, group, message.group_size))


def _gloo_transfers(messages: dict[int, Message], names: dict[int, str]) -> dict[int, Message]:
    """gloo's all-to-alls, which run on its own threads, with the splits of the calls that asked for them."""
    calls = [row for row in messages if names[row] == "c10d::alltoall_base_" and messages[row].splits]
    transfers = [row for row in messages if names[row] == "gloo:all_to_all"]
    return dict(
        zip(transfers, of_calls([messages[row] for row in calls], [messages[row] for row in transfers]), strict=True)
    )
