"""What to look at first: one sentence a finding, from the results of the analyses, with the page that shows more."""

from collections.abc import Callable, Iterator

from workbench.analyses.core.request_parts import PARTS
from workbench.analyses.core.result import Result
from workbench.units import format_value


def advice(results: dict[str, Result]) -> Iterator[tuple[str, str]]:
    """(analysis, sentence) of every finding in the results that apply."""
    for name, sentences in _SENTENCES.items():
        if name in results and results[name].applies:
            yield from ((name, sentence) for sentence in sentences(results[name]))


def _roofline(result: Result) -> Iterator[str]:
    share = result.summary["covered_time_share"]
    yield f"{format_value('_share', share)} of the busy time has a cost model and so a roof."
    best = result.table[result.table["headroom_ns"] > 0].head(1).to_dict("records")
    for row in best:
        yield (
            f"The biggest headroom is in {row['name']} ({row['bound']}): "
            f"at its roof it would save {format_value('_share', row['headroom_share'])} of the busy time."
        )


def _communication(result: Result) -> Iterator[str]:
    shared_pct, last = result.summary["shared_pct"], result.summary["last_arrivals"]
    if shared_pct == shared_pct:
        yield f"{format_value('_pct', shared_pct)} of the collectives' time moves data; the rest is waiting for a rank."
    if last:
        rank = max(last, key=last.get)
        yield f"Rank {rank} arrives last most often: {last[rank]} times of {sum(last.values())}."


def _latency(result: Result) -> Iterator[str]:
    shares = {part: result.summary[f"{part}_share"] for part in PARTS}
    largest = max(shares, key=shares.get)
    median_ns = result.table.set_index("percentile")["latency_ns"][50.0]
    yield (
        f"The median request takes {format_value('_ns', median_ns)}; the largest part of a request's time is "
        f"{largest}, {format_value('_share', shares[largest])}."
    )


_SENTENCES: dict[str, Callable[[Result], Iterator[str]]] = {
    "roofline": _roofline, "communication": _communication, "latency": _latency,
}  # fmt: skip
