"""Damage for readers: bytes lost, added or changed, texts cut short, values of every wrong kind in every place, and
entries doubled, reordered or nested without end."""

import copy
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from workbench.errors import InputError
from workbench.trace.part import Part
from workbench.trace.schema import validate_events

_WRONG = (None, True, -1, 0, 2**62, 2**63, 10**30, 1e300, 0.5, "", "x", "7", "\ud800", [], [[]], [None], {}, {"x": 1})
_BYTES = (b"", b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"\0", b"\n", b"\xff", b"NaN", b"9" * 400, b"-")
_DEPTHS = (3, 200, 5_000, 100_000)
_NEST = "@nested@"  # stands where nesting goes, which no encoder would follow


def mutated_bytes(content: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """`count` copies of `content`, each with one to three places changed or its end cut off."""
    chance = random.Random(seed)
    for _ in range(count):
        yield changed_bytes(content, chance)


def changed_bytes(content: bytes, chance: random.Random) -> bytes:
    """`content` with one to three places changed, or its end cut off."""
    changed = content
    for _ in range(chance.randint(1, 3)):
        place = chance.randrange(len(changed) + 1)
        changed = changed[:place] + chance.choice(_BYTES) + changed[place + chance.randint(0, 3) :]
    return changed[: chance.randrange(len(changed))] if chance.random() < 0.2 else changed


def flipped_bits(content: bytes, chance: random.Random) -> bytes:
    """`content` with up to four bits flipped."""
    changed = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def repeated_piece(content: bytes, chance: random.Random) -> bytes:
    """`content` with a piece of it once more, somewhere."""
    begin, place = chance.randrange(len(content)), chance.randrange(len(content))
    return content[:place] + content[begin : begin + chance.randint(1, 400)] + content[place:]


def mutated_values(document: Any, count: int, seed: int = 0) -> Iterator[bytes]:
    """`count` copies of a JSON document, each with one value replaced by a wrong one, or left out."""
    chance = random.Random(seed)
    for _ in range(count):
        yield changed_values(document, chance, 1)


def changed_values(document: Any, chance: random.Random, changes: int) -> bytes:
    """The document with some values replaced by wrong ones, or left out."""
    changed = copy.deepcopy(document)
    for _ in range(changes):
        inner, last = _somewhere(changed, chance)
        if chance.random() < 0.1:
            del inner[last]
        else:
            inner[last] = copy.deepcopy(chance.choice(_WRONG))
    return json.dumps(changed).encode()


def shuffled_entries(document: Any, chance: random.Random) -> bytes:
    """The document with one of its lists in another order, an entry of it doubled, or two values exchanged."""
    changed = copy.deepcopy(document)
    lists = [found for found in _values(changed) if isinstance(found, list) and found]
    if not lists or chance.random() < 0.3:
        (inner, place), (other, elsewhere) = _somewhere(changed, chance), _somewhere(changed, chance)
        inner[place], other[elsewhere] = copy.deepcopy(other[elsewhere]), copy.deepcopy(inner[place])
    elif chance.random() < 0.5:
        chance.shuffle(chance.choice(lists))
    else:
        entries = chance.choice(lists)
        entries.insert(chance.randrange(len(entries) + 1), copy.deepcopy(chance.choice(entries)))
    return json.dumps(changed).encode()


def nested_deeply(document: Any, chance: random.Random) -> bytes:
    """The document with arrays or objects within one another in place of one value."""
    changed, depth = copy.deepcopy(document), chance.choice(_DEPTHS)
    inner, last = _somewhere(changed, chance)
    inner[last] = _NEST
    opening, closing = chance.choice((("[", "]"), ('{"a":', "}")))
    nested = opening * depth + "1" + closing * depth
    return json.dumps(changed).replace(f'"{_NEST}"', nested, 1).encode()


def survives(read: Callable[[Path], Part], path: Path, content: bytes) -> Part | None:
    """What `read` makes of the content: a valid Part, or None after an InputError of one line."""
    path.write_bytes(content)
    try:
        part = read(path)
    except InputError as refusal:
        assert "\n" not in str(refusal) and str(path) in str(refusal)
        return None
    validate_events(part.events)
    assert all("\n" not in note for note in part.notes)
    return part


def _somewhere(document: Any, chance: random.Random) -> tuple[Any, Any]:
    """A container inside `document`, and an index or key of it; the document's own keys where it is empty."""
    places = [(value, key) for value in _values(document) for key in _keys(value)]
    return chance.choice(places) if places else ({"x": 0}, "x")


def _values(value: Any) -> Iterator[Any]:
    """`value` and all that it holds."""
    yield value
    for key in _keys(value):
        yield from _values(value[key])


def _keys(value: Any) -> list:
    return list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
