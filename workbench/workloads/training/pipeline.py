"""The next batches' lookups travel while this one is computed.

    step i:   lengths of batch i + 2 start,   indices of batch i + 1 start,   lookups of batch i have arrived

Before a cache of rows one batch more is received, so that its rows are fetched while the one before it trains.
Each all-to-all has one step's compute to hide behind (Neo section 5.2, and the pipelines of TorchRec). Preparing a
batch and copying it to the device is `Prefetch`'s, before that.
"""

from collections import deque
from collections.abc import Iterable, Iterator

from workbench.trace.recorder import Recorder
from workbench.workloads.training.tables import Inputs, ModelTables, Received, Travelling

STEPS_AHEAD = 2


def redistribute(batches: Iterable[Inputs], tables: ModelTables, recorder: Recorder, ahead: int) -> Iterator[Received]:
    """Every batch with the lookups of this rank's shards, `ahead` batches under way: STEPS_AHEAD, or 0 to wait for each
    exchange where it starts."""
    travelling: deque[Travelling] = deque()
    behind = min(ahead, 1)  # batches whose lengths travel while nobody waits for them
    batches = iter(batches)
    while True:
        with recorder.span("input", kind="wait", phase="input"):
            inputs = next(batches, None)
        if inputs is None:
            break
        travelling.append(tables.send(inputs))
        if len(travelling) > behind:
            travelling[-1 - behind].send_indices()
        if len(travelling) > ahead:
            yield travelling.popleft().finish()
    if behind and travelling:
        travelling[-1].send_indices()
    while travelling:
        yield travelling.popleft().finish()


def announced(batches: Iterator[Received], tables: ModelTables) -> Iterator[Received]:
    """The same batches; `tables` hears of each before it gets the one ahead of it."""
    current = next(batches, None)
    while current is not None:
        following = next(batches, None)
        if following is not None:
            tables.announce(following)
        yield current
        current = following
