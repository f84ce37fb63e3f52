"""Cut a stream of Chrome-trace JSON into chunks of whole events, without decoding it.

A trace is `{"traceEvents": [...], ...}`, with that key anywhere, or a bare array. A numba scanner follows only strings
and brackets (about 1 ns a byte), so the decoder is handed pieces of a few MB that end where an event ends, and memory
stays bounded however large the file is.
"""

import re
from collections.abc import Iterable, Iterator

import numba
import numpy as np

from workbench.errors import InputError

# Where an event begins, as every known writer begins one. Used only to find the way again in damaged text.
EVENT_START = re.compile(rb'\{\s*"(?:ph|cat|name|pid|tid|ts)"\s*:')

# Longer than any event: text in which no event ends for so long has lost a quotation mark.
LOST_BYTES = 16 << 20
METADATA_LIMIT_BYTES = 256 << 20

_EVENTS_KEY = re.compile(rb'"traceEvents"\s*:\s*\[$')
_QUOTE, _BACKSLASH, _BRACE, _CLOSING_BRACE, _BRACKET, _CLOSING_BRACKET = b'"\\{}[]'
_STRUCTURAL = np.isin(np.arange(256), list(b'"\\{}[]'))


class EventChunks:
    """Iterate once: bytes that end where an event ends, separators included.

    Afterwards `head` is the text up to the bracket that opens the array of events, and `tail` the text from the one
    that closes it, empty where the file was cut: head, chunks and tail together are the whole text. `where` names the
    file in errors.
    """

    def __init__(self, blocks: Iterable[bytes], where: str) -> None:
        self._blocks, self._where = iter(blocks), where
        self._state = np.zeros(3, dtype=np.int64)  # depth, inside a string, after a backslash
        self.head = self.tail = b""

    @property
    def bare(self) -> bool:
        """Whether the file is an array of events without an object around it."""
        return self.head.startswith(b"[")

    def __iter__(self) -> Iterator[bytes]:
        pending, scanned = self._find_events(), 0
        level = int(self._state[0])  # depth inside the array: an event that closes returns to it
        while True:
            stop, cut = _scan(np.frombuffer(pending, dtype=np.uint8), scanned, self._state, level, -1)
            if stop >= 0:
                yield pending[: stop - 1]
                self.tail = self._rest_of_file(pending[stop - 1 :])
                return
            if cut < 0 and len(pending) > LOST_BYTES:
                cut = self._resume(pending, level)
            if cut > 0:
                yield pending[:cut]
                pending = pending[cut:]
            scanned = len(pending)
            block = next(self._blocks, None)
            if block is None:
                yield pending  # cut short
                return
            pending += block

    def _find_events(self) -> bytes:
        """Read up to the array of events; what was read beyond its bracket. `head` keeps what came before."""
        text, scanned = b"", 0
        for block in self._blocks:
            text = text + block if text else block.removeprefix(b"\xef\xbb\xbf").lstrip()
            if text[:1] not in (b"{", b"["):
                break
            opens_at = 1 if text.startswith(b"[") else 2
            stop = 0
            while stop >= 0:
                stop, _ = _scan(np.frombuffer(text, dtype=np.uint8), scanned, self._state, 0, opens_at)
                scanned = stop if stop >= 0 else len(text)
                if stop >= 0 and (opens_at == 1 or _EVENTS_KEY.search(text, max(0, stop - 256), stop)):
                    self.head = text[:stop]
                    return text[stop:]
            if len(text) > METADATA_LIMIT_BYTES:
                break
        raise InputError(f"{self._where} {_what_it_is(text)}: expected a PyTorch profiler (Kineto) or Chrome trace")

    def _resume(self, pending: bytes, level: int) -> int:
        """After a lost quotation mark: go on at the last event start, and leave all before it to the decoder."""
        starts = [match.start() for match in EVENT_START.finditer(pending)]
        cut = starts[-1] if len(starts) > 1 else len(pending)
        self._state[:] = level, 0, 0
        _scan(np.frombuffer(pending, dtype=np.uint8), cut, self._state, level, -1)
        return cut

    def _rest_of_file(self, text: bytes) -> bytes:
        pieces, kept = [text], len(text)
        for block in self._blocks:
            kept += len(block)
            if kept > METADATA_LIMIT_BYTES:
                raise InputError(
                    f"{self._where} has more than {METADATA_LIMIT_BYTES >> 20} MiB behind its events: "
                    "expected a PyTorch profiler (Kineto) or Chrome trace"
                )
            pieces.append(block)
        return b"".join(pieces)


def _what_it_is(text: bytes) -> str:
    if not text:
        return "is empty"
    if text[:1] not in (b"{", b"["):
        return "is not JSON"
    return "is JSON without traceEvents"


@numba.njit(cache=True)
def _scan(text, begin, state, level, opens_at):
    """Follow the nesting of `text[begin:]` from `state` (depth, in a string, after a backslash), which is updated.

    Returns (stop, cut). `stop` is the index behind a bracket that leaves `level`, or behind a `[` that opens depth
    `opens_at`; -1 where the text ends first. `cut` is the index behind the last bracket that returned to `level`, -1
    where none did.
    """
    depth, in_string, escaped = state[0], state[1], state[2]
    stop, cut = -1, -1
    for index in range(begin, len(text)):
        byte = text[index]
        if not _STRUCTURAL[byte]:  # as most are
            escaped = 0
        elif in_string:
            if escaped:
                escaped = 0
            elif byte == _BACKSLASH:
                escaped = 1
            elif byte == _QUOTE:
                in_string = 0
        elif byte == _QUOTE:
            in_string = 1
        elif byte in (_BRACE, _BRACKET):
            depth += 1
            if byte == _BRACKET and depth == opens_at:
                stop = index + 1
                break
        elif byte in (_CLOSING_BRACE, _CLOSING_BRACKET):
            depth -= 1
            if depth == level:
                cut = index + 1
            elif depth < level:
                stop = index + 1
                break
    state[0], state[1], state[2] = depth, in_string, escaped
    return stop, cut
