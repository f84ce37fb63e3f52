"""The next batches' lookups travel while this one is computed.

    step i:   lengths of batch i + 2 start,   indices of batch i + 1 start,   lookups of batch i have arrived

Each all-to-all has one step's compute to hide behind (Neo section 5.2, and the pipelines of TorchRec). Preparing a
batch and copying it to the device is `Prefetch`'s, before that.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from torch import Tensor

from workbench.embeddings.inputs import Arriving, Lookups
from workbench.embeddings.sharded import Routed, ShardedEmbeddings
from workbench.trace.recorder import Recorder

STEPS_AHEAD = 2


class Inputs(NamedTuple):
    """One rank's batch on the device: dense [B, dense_features], labels [B], and its lookups in travel order."""

    dense: Tensor
    labels: Tensor
    routed: Routed


def redistribute(
    batches: Iterable[Inputs], tables: ShardedEmbeddings, recorder: Recorder, ahead: int
) -> Iterator[tuple[Inputs, dict[str, Lookups]]]:
    """Every batch with the lookups of this rank's shards, `ahead` batches under way: STEPS_AHEAD, or 0 to wait for each
    exchange where it starts."""
    travelling: deque[tuple[Inputs, Arriving]] = deque()
    batches = iter(batches)
    while True:
        with recorder.span("input", kind="wait", phase="input"):
            inputs = next(batches, None)
        if inputs is None:
            break
        travelling.append((inputs, tables.send(inputs.routed)))
        behind = min(ahead, 1)
        if len(travelling) > behind:
            travelling[-1 - behind][1].send_indices()
        if len(travelling) > ahead:
            yield _arrived(travelling)
    if ahead and travelling:
        travelling[-1][1].send_indices()
    while travelling:
        yield _arrived(travelling)


def _arrived(travelling: deque[tuple[Inputs, Arriving]]) -> tuple[Inputs, dict[str, Lookups]]:
    inputs, arriving = travelling.popleft()
    return inputs, arriving.finish()
