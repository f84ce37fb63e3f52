"""Which rows were looked up, in order: what reuse distances are computed from."""

from collections.abc import Sequence

from torch import Tensor

from workbench.trace.recorder import Recorder


class AccessLog:
    """Records the accesses of this rank's tables from the first step on, until `limit_bytes` are used.

    One contiguous window, since a reuse distance counts everything in between: its first steps warm the caches that
    are modelled, and the first profiled steps lie inside it.
    """

    def __init__(self, recorder: Recorder, tables: Sequence[int], limit_bytes: int) -> None:
        self.recorder, self.tables = recorder, tables
        self.left_bytes = limit_bytes if recorder.enabled else 0

    def record(self, lengths: Tensor, indices: Tensor) -> None:
        """One step: lengths [local tables, bags], indices [sum of lengths]; steps are recorded whole or not at all."""
        size_bytes = lengths.nbytes + indices.nbytes
        if size_bytes > self.left_bytes:
            self.left_bytes = 0
            return
        self.left_bytes -= size_bytes
        with self.recorder.span("record_accesses", kind="runtime"):
            rows_of = indices.split(lengths.sum(1).tolist())
            for table, bag_lengths, rows in zip(self.tables, lengths.cpu(), rows_of, strict=True):
                self.recorder.accesses(table, bag_lengths.numpy(), rows.cpu().numpy())
