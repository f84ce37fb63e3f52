"""What is being looked at lives in the URL: `?run=NAME&by=rank&filter=all_to_all`. Links, reload and back just work."""

from collections.abc import Mapping
from urllib.parse import parse_qsl, urlencode

# These words of the query belong to every page; all others are options of the page's analysis.
RUN, FILTER = "run", "filter"


def read(search: str | None) -> dict[str, str]:
    """'?run=a&by=rank' -> {'run': 'a', 'by': 'rank'}; the last of repeated words wins."""
    return dict(parse_qsl((search or "").removeprefix("?")))


def write(query: Mapping[str, str]) -> str:
    """The inverse of `read`; empty for no words."""
    return "?" + urlencode(query) if query else ""


def options(query: Mapping[str, str]) -> dict[str, str]:
    """The words that are options of an analysis."""
    return {key: value for key, value in query.items() if key not in (RUN, FILTER)}


def changed(query: Mapping[str, str], key: str, value: object, default: object) -> dict[str, str]:
    """`query` with `key` set to `value`; a default needs no word in the URL."""
    others = {word: text for word, text in query.items() if word != key}
    return others if value in (default, None, "") else {**others, key: str(value)}
