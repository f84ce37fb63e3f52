"""Events of a chunk that the fast decoder refuses: each event on its own, repaired where that is safe, else left out.

Writers of traces get JSON wrong in known ways: control characters and invalid UTF-8 in names, backslashes of Windows
paths, unescaped quotation marks, NaN, files cut short. A repair may change a name's odd characters, never a time.
"""

import json
import re
from collections import Counter
from typing import Any

import msgspec

from workbench.trace.readers.chunks import EVENT_START

LEFT_OUT = "left out"

_START = re.compile(EVENT_START.pattern.decode())
_BAD_ESCAPE = re.compile(r'\\(?!["\\/bfnrt]|u[0-9a-fA-F]{4})')
# A name ends where the next known key begins, whatever quotation marks it holds.
_NAME = re.compile(r'("name"\s*:\s*")(.*?)("\s*,\s*"(?:ph|cat|pid|tid|ts|dur|id|args)"\s*:)', re.DOTALL)
_BARE_QUOTE = re.compile(r'(?<!\\)"')

# Floats stay text, so that a time keeps all its digits.
_TOLERANT = json.JSONDecoder(strict=False, parse_float=str, parse_constant=lambda _: None)


def loads(text: str) -> Any:
    """A JSON value with what the standard forbids: NaN (as None), control characters in strings. Floats are text."""
    return _TOLERANT.decode(text)


def salvage(text: bytes, decoder: msgspec.json.Decoder) -> tuple[list, Counter, bytes]:
    """The events of `text` that `decoder` (of one Event) accepts, how many had which defect or were LEFT_OUT, and the
    text behind the last of them: it may hold an event that goes on in the next chunk, so it is not counted yet.
    """
    characters = text.decode("utf-8", "replace")
    events, defects, rest = [], Counter(), 0
    match = _START.search(characters)
    while match:
        start, following = match.start(), _START.search(characters, match.end())
        end = following.start() if following else len(characters)
        try:
            fields, end, defect = _parse(characters, start, end)
            event, defect = _decode(characters[start:end], fields, defect, decoder)
        except (ValueError, RecursionError):  # of json and of msgspec
            event = None
        if event is not None and event.ph:  # without a phase it is an object inside a broken event
            events.append(event)
            defects.update([defect] if defect else [])
            defects[LEFT_OUT] += characters.count('"ph"', rest, start)
            rest = end
        match = following if following is None or following.start() >= end else _START.search(characters, end)
    return events, defects, characters[rest:].encode()


def _parse(text: str, start: int, limit: int) -> tuple[dict, int, str]:
    """The object at `start`, where it ends, and the defect repaired; `limit` is where the next event seems to begin."""
    try:
        return *_TOLERANT.raw_decode(text, start), ""
    except ValueError:
        piece = _BAD_ESCAPE.sub(r"\\\\", text[start:limit])
    try:
        return _TOLERANT.raw_decode(piece)[0], limit, "bad escapes"
    except ValueError:
        piece = _NAME.sub(lambda m: m[1] + _BARE_QUOTE.sub(r"\"", m[2]) + m[3], piece)
    return _TOLERANT.raw_decode(piece)[0], limit, "unescaped quotation marks"


def _decode(piece: str, fields: dict, defect: str, decoder: msgspec.json.Decoder) -> tuple[Any, str]:
    """The event, from its own text where that is valid JSON, else from the repaired `fields`."""
    if not defect:
        try:
            return decoder.decode(piece.encode()), "invalid UTF-8" if "\ufffd" in piece else ""
        except msgspec.DecodeError:
            defect = "control characters or NaN"
    return decoder.decode(json.dumps(fields, ensure_ascii=False).encode("utf-8", "replace")), defect
