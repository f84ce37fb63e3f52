"""Damage for readers: bytes lost, added or changed, texts cut short, and values of every wrong kind in every place."""

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


def mutated_bytes(content: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """`count` copies of `content`, each with one to three places changed or its end cut off."""
    chance = random.Random(seed)
    for _ in range(count):
        changed = content
        for _ in range(chance.randint(1, 3)):
            place = chance.randrange(len(changed) + 1)
            changed = changed[:place] + chance.choice(_BYTES) + changed[place + chance.randint(0, 3) :]
        yield changed[: chance.randrange(len(changed))] if chance.random() < 0.2 else changed


def mutated_values(document: Any, count: int, seed: int = 0) -> Iterator[bytes]:
    """`count` copies of a JSON document, each with one value replaced by a wrong one, or left out."""
    chance = random.Random(seed)
    places = list(_places(document))
    for _ in range(count):
        changed = copy.deepcopy(document)
        *above, last = chance.choice(places)
        inner = changed
        for step in above:
            inner = inner[step]
        if chance.random() < 0.1:
            del inner[last]
        else:
            inner[last] = chance.choice(_WRONG)
        yield json.dumps(changed).encode()


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


def _places(value: Any, above: tuple = ()) -> Iterator[tuple]:
    """The path to each value inside `value`."""
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in members:
        yield (*above, key)
        yield from _places(member, (*above, key))
