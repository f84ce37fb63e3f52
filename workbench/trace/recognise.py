"""Which reader a file needs: told by its content, never by its suffix."""

import re
from pathlib import Path

from workbench.errors import InputError
from workbench.trace.readers.decompress import Blocks
from workbench.trace.readers.stacks import collapsed_line

FORMATS = ("kineto", "execution_trace", "chakra", "otlp", "jaeger", "speedscope", "collapsed", "snapshot")
EXPECTED = (
    "a PyTorch profiler (Kineto) or Chrome trace, a PyTorch execution trace, a Chakra trace as JSON, OTLP or Jaeger "
    "spans as JSON, a speedscope profile, collapsed stacks, or a CUDA memory snapshot as JSON"
)

# What tells a format lies in the first bytes, but a profile's list of devices may come before its events.
_LOOKED_AT_BYTES = (1 << 14, 1 << 20)
_LOOKED_AT_LINES = 10
# Format, keys that the outermost object has, and a text that is in it too where the keys alone are everyday words.
_OBJECTS = (
    ("kineto", {b"traceEvents"}, b""),
    ("kineto", {b"schemaVersion", b"deviceProperties"}, b""),
    ("otlp", {b"resourceSpans"}, b""),
    ("chakra", {b"workload_graph"}, b""),
    ("execution_trace", {b"schema", b"nodes"}, b""),
    ("jaeger", {b"data"}, b'"traceID"'),
    ("speedscope", {b"$schema"}, b"speedscope.app/file-format-schema"),
    ("speedscope", {b"profiles", b"shared"}, b""),
    ("snapshot", {b"segments"}, b""),
    ("snapshot", {b"device_traces"}, b""),
)
# A node as chakra_jsonizer writes it, one object behind the other.
_CHAKRA_NODE = re.compile(rb'"type"\s*:\s*"(METADATA|MEM_LOAD|MEM_STORE|COMP|COMM_SEND|COMM_RECV|COMM_COLL)_NODE"')
_CHROME_EVENT = re.compile(rb'"ph"\s*:\s*"')
_TOKEN = re.compile(rb'"(?P<text>(?:[^"\\]|\\.)*+)(?:"(?P<colon>\s*:)?|\\?\Z)|[\[\]{}]', re.DOTALL)


def format_of(path: Path) -> str:
    """One of FORMATS, by the first bytes of the (expanded) file; InputError when it is none of them, or unreadable."""
    path = Path(path)
    text, whole = _beginning(path)
    if not text:
        raise InputError(f"{path} is empty: expected {EXPECTED}")
    if text.startswith(b"{"):
        return _object(path, text)
    if text.startswith(b"["):
        if _CHROME_EVENT.search(text):
            return "kineto"
        raise InputError(f"{path} is a JSON array without trace events: expected {EXPECTED}")
    lines = [line for line in text.decode("utf-8", "replace").splitlines() if line.strip()]
    lines = lines if whole or len(lines) < 2 else lines[:-1]  # the last one may go on
    looked_at = lines[:_LOOKED_AT_LINES]
    if sum(collapsed_line(line) is not None for line in looked_at) > len(looked_at) / 2:
        return "collapsed"
    raise InputError(f"{path} is neither JSON nor collapsed stacks: expected {EXPECTED}")


def _beginning(path: Path) -> tuple[bytes, bool]:
    """The first bytes, white space and byte-order mark removed, and whether they are the whole file."""
    text = b""
    for block in Blocks(path):
        text = (text + block).removeprefix(b"\xef\xbb\xbf").lstrip()
        if len(text) > _LOOKED_AT_BYTES[-1]:
            return text[: _LOOKED_AT_BYTES[-1]], False
    return text, True


def _object(path: Path, text: bytes) -> str:
    for length in _LOOKED_AT_BYTES:
        beginning = text[:length]
        keys = _outermost_keys(beginning)
        for name, needed, marker in _OBJECTS:
            if needed <= set(keys) and marker in beginning:
                return name
        if _CHAKRA_NODE.search(beginning):
            return "chakra"
    shown = ", ".join(key.decode("utf-8", "replace")[:40] for key in keys[:5])
    raise InputError(f"{path} is JSON with {shown or 'no key'} outermost: expected {EXPECTED}".replace("\n", " "))


def _outermost_keys(text: bytes) -> list[bytes]:
    """The keys of the first object, in order, as far as `text` goes."""
    keys, depth = [], 0
    for token in _TOKEN.finditer(text):
        if token["colon"] and depth == 1:
            keys.append(token["text"])
        elif token[0] in (b"{", b"["):
            depth += 1
        elif token[0] in (b"}", b"]"):
            depth -= 1
            if depth == 0:
                break
    return keys
