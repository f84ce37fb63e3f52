"""The next batches, prepared by a thread while this one trains."""

import threading
from collections.abc import Iterable, Iterator
from queue import Full, Queue
from typing import Generic, TypeVar

T = TypeVar("T")
_POLL_SECONDS = 0.1


class Prefetch(Generic[T]):
    """Iterates over `source`, whose next `depth` items a thread draws ahead; an error of the source is raised at the
    item where it happened. A context manager: leaving it stops the thread."""

    def __init__(self, source: Iterable[T], depth: int = 2) -> None:
        self._source = source
        self._queue: Queue[tuple[T | None, BaseException | None]] = Queue(depth)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._fill, name="prefetch", daemon=True)

    def __enter__(self) -> "Prefetch[T]":
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stopped.set()
        self._thread.join()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        item, error = self._queue.get()
        if error is not None:
            self._put((None, error))  # whoever asks again gets the same answer instead of waiting for ever
            raise error
        return item

    def _fill(self) -> None:
        try:
            for item in self._source:
                if not self._put((item, None)):
                    return
            error: BaseException = StopIteration()
        except BaseException as raised:
            error = raised
        self._put((None, error))

    def _put(self, entry: tuple) -> bool:
        """Wait for a place in the queue; False when nobody wants more."""
        while not self._stopped.is_set():
            try:
                self._queue.put(entry, timeout=_POLL_SECONDS)
                return True
            except Full:
                continue
        return False
