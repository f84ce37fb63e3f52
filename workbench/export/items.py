"""The items of a long JSON array as text, without holding all of them at once."""

from collections.abc import Iterable, Iterator
from itertools import islice

import msgspec

_AT_ONCE = 20_000


def items(records: Iterable[dict]) -> Iterator[bytes]:
    """The records as JSON with commas between, some at a time; nothing where there is none. NaN becomes null."""
    encode, records, separator = msgspec.json.Encoder().encode, iter(records), b""
    while some := list(islice(records, _AT_ONCE)):
        yield separator + encode(some)[1:-1]
        separator = b",\n"
