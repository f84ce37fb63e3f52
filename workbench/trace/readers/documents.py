"""JSON files that are decoded as a whole, into typed objects: expanded within a limit, and mended where that is safe.

What writers get wrong is repaired (control characters, NaN, invalid UTF-8, a file that was cut); a value of a wrong
type is the caller's InputError, which names the place.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec

from workbench.errors import InputError
from workbench.trace.readers.decompress import Blocks
from workbench.trace.readers.salvage import loads

# A decoded document takes up to twenty times its size in memory.
DOCUMENT_LIMIT_BYTES = 512 << 20

Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
# Times up to here can be added to one another without leaving int64.
Nanoseconds = Annotated[int, msgspec.Meta(ge=0, le=2**61)]
Microseconds = Annotated[int, msgspec.Meta(ge=0, le=2**51)]

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# A string, also one that the end of the text cuts short, or a bracket.
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
_CLOSING = {b"{": b"}", b"[": b"]"}

Document = TypeVar("Document")


def read_document(path: Path, kind: type[Document], what: str) -> tuple[Document, list[str]]:
    """The one JSON value of a file as a `kind`, and notes about repairs; `what` says what was expected in errors."""
    text, notes = expanded(path, what)
    document, repairs = decode(text, kind, str(path), what)
    return document, notes + repairs


def expanded(path: Path, what: str) -> tuple[bytes, list[str]]:
    """All bytes of a file (plain, gzip or zip) and notes about its container; InputError when it is empty or huge."""
    blocks, pieces, total_bytes = Blocks(Path(path)), [], 0
    for block in blocks:
        total_bytes += len(block)
        if total_bytes > DOCUMENT_LIMIT_BYTES:
            limit = f"{DOCUMENT_LIMIT_BYTES >> 20} MiB"
            raise InputError(f"{path} is larger than {limit}, the most that {what} may be: record fewer steps")
        pieces.append(block)
    text = b"".join(pieces).removeprefix(_BYTE_ORDER_MARK).strip()
    if not text:
        raise InputError(f"{path} is empty: expected {what}")
    return text, blocks.notes


def decode(text: bytes, kind: type[Document], where: str, what: str) -> tuple[Document, list[str]]:
    """`text` as a `kind`, and notes about repairs. InputError where it is beyond repair, or not of this kind."""
    notes: list[str] = []
    try:
        for mend in (_closed, _tolerant):
            try:
                return msgspec.json.decode(text, type=kind, strict=False), notes
            except msgspec.ValidationError:
                raise
            except (msgspec.DecodeError, UnicodeDecodeError):
                text, note = mend(text)
                notes += [note] if note else []
        return msgspec.json.decode(text, type=kind, strict=False), notes
    except RecursionError:
        raise InputError(f"{where} is nested too deeply: expected {what}") from None
    except ValueError as error:  # of json, and of msgspec
        reason = str(error).replace("\n", " ")
        raise InputError(f"{where} cannot be read ({reason}): expected {what}") from None


def values(text: bytes) -> Iterator[bytes]:
    """The JSON objects and arrays that stand one behind the other in `text`; the last one may be cut."""
    depth = begin = end = 0
    for token in _TOKEN.finditer(text):
        if token[0] in _CLOSING:
            begin = token.start() if depth == 0 else begin
            depth += 1
        elif token[0] in (b"}", b"]") and depth > 0:
            depth -= 1
            if depth == 0:
                end = token.end()
                yield text[begin:end]
    if text[end:].strip():
        yield text[end:].strip()


def _closed(text: bytes) -> tuple[bytes, str]:
    """A cut JSON text up to its last whole object, with what is open closed, and a note; as it is where not cut."""
    if not _open_brackets(text):
        return text, ""
    keep = max((token.end() for token in _TOKEN.finditer(text) if token[0] == b"}"), default=0)
    closing = b"".join(_CLOSING[bracket] for bracket in reversed(_open_brackets(text[:keep])))
    return text[
        :keep
    ] + closing, f"the file was cut: its last {len(text) - keep} bytes, an unfinished entry, are left out"


def _tolerant(text: bytes) -> tuple[bytes, str]:
    """`text` as a decoder reads it that takes what the standard forbids, written again; ValueError where it cannot."""
    value = loads(text.decode("utf-8", "replace"))
    mended = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
    return mended, "repaired control characters, invalid UTF-8 or NaN"


def _open_brackets(text: bytes) -> list[bytes]:
    """The brackets that are not closed, outermost first."""
    stack: list[bytes] = []
    for token in _TOKEN.finditer(text):
        if token[0] in _CLOSING:
            stack.append(token[0])
        elif token[0] in (b"}", b"]") and stack:
            stack.pop()
    return stack
