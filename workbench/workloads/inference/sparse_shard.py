"""A sparse shard: embedding tables and nothing else. Bags of ids come in, pooled rows go out.

It is stateless but for its tables, so it may have any number of replicas. It serves the version of model and plan
that it loaded last, and the one before: while a deployment reloads, requests that began earlier finish as they began.
"""

import time
from collections.abc import Sequence

import grpc
import numpy as np
import torch
from torch import Tensor

from workbench.trace.recorder import Recorder
from workbench.workloads.inference.bags import Bags
from workbench.workloads.inference.models.config import TableType
from workbench.workloads.inference.models.exported import ExportedModel
from workbench.workloads.inference.models.lookup import serving_tables
from workbench.workloads.inference.plan import Piece, Plan
from workbench.workloads.inference.protocol.messages import encode_pooled, lookup_bags, parse_lookup
from workbench.workloads.inference.protocol.status import INVALID, RequestError
from workbench.workloads.inference.routing import pieces_of
from workbench.workloads.inference.tracing import Lane, LaneNames, TraceContext

_VERSIONS = 2


class SparseShard:
    """Answers `Lookups/Lookup` for the shard that the plan calls `name`, whose rows it keeps as `table_type`."""

    def __init__(self, name: str, recorder: Recorder, table_type: TableType = "fp32") -> None:
        self.name, self._recorder, self._table_type = name, recorder, table_type
        self._lane_names = LaneNames()
        self._serving: dict[str, list[_NetTables | None]] = {}

    def load(self, model: ExportedModel, plan: Plan) -> str:
        """Serve this model's pieces too; returns their version. InputError when the plan or a file is wrong."""
        version = plan.version(model.version)
        self._serving.pop(version, None)
        held = [(net.name, pieces_of(plan.shard(self.name).pieces, net)) for net in model.config.nets]
        self._serving[version] = [
            _NetTables(model, net, pieces, self._table_type) if pieces else None for net, pieces in held
        ]
        while len(self._serving) > _VERSIONS:
            del self._serving[next(iter(self._serving))]
        return version

    async def lookup(self, message: bytes, call: grpc.aio.ServicerContext) -> bytes:
        """A LookupRequest -> a LookupReply; one that cannot be answered ends with a status and its reason."""
        try:
            with self._lane_names.taken() as name:
                lane = Lane(self._recorder, name, TraceContext.received(call.invocation_metadata()))
                return await lane.run(self._handle(message, lane))
        except RequestError as error:
            await call.abort(error.code, error.reason)

    async def _handle(self, message: bytes, lane: Lane) -> bytes:
        # All of it on the event loop: a lookup takes less time than to hand it to another thread and back is worth.
        with lane.span("handler"):
            with lane.span("deserialize", kind="serialization", message_bytes=len(message)):
                request = parse_lookup(message)
                tables = self._tables(request.version, request.net)
                bags = lookup_bags(request, tables.rows, tables.names)
            with lane.span("net", phase=tables.net), torch.inference_mode():
                pooled = tables.pooled(bags, lane)
            with lane.span("serialize", kind="serialization"):
                reply = encode_pooled(request.version, pooled.numpy())
                lane.note(message_bytes=len(reply))
        self._recorder.step = lane.received.step
        self._recorder.metric("process_cpu_ns", time.process_time_ns())
        return reply

    def _tables(self, version: str, net: int) -> "_NetTables":
        nets = self._serving.get(version)
        if nets is None:
            reason = f"{self.name} does not serve version {version!r}: it serves {', '.join(self._serving)}"
            raise RequestError(grpc.StatusCode.FAILED_PRECONDITION, reason)
        if net >= len(nets) or nets[net] is None:
            raise RequestError(INVALID, f"{self.name} holds no table of net {net}")
        return nets[net]


class _NetTables:
    """The pieces of one net's tables, in the order in which bags and pooled rows travel."""

    def __init__(self, model: ExportedModel, net: str, pieces: Sequence[Piece], table_type: TableType) -> None:
        weights = [model.rows(piece.table, piece.piece, piece.pieces) for piece in pieces]
        self.net = net
        self.names = [piece.table for piece in pieces]
        self.rows = np.array([len(weight) for weight in weights])
        self._tables = serving_tables(weights, table_type)

    def pooled(self, bags: Bags, lane: Lane) -> Tensor:
        """Pooled rows [B, sum of widths] of bags [pieces, B]."""
        with lane.span("sparse_lookup", kind="compute"):
            return self._tables(*bags.tensors())
