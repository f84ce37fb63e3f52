"""DRM behind Ray Serve: the service that our main shard offers, for the same messages, with the same model."""

import asyncio
from pathlib import Path

import grpc
import numpy as np
import torch
from ray import serve

from workbench.workloads.inference.bags import Bags
from workbench.workloads.inference.models.exported import ExportedModel
from workbench.workloads.inference.models.ranker import Ranker
from workbench.workloads.inference.protocol.messages import RANK, Request, RequestFormat
from workbench.workloads.inference.protocol.ranking_pb2 import RankReply


def add_ranking(_: object, server: grpc.aio.Server) -> None:
    """What Serve's gRPC proxy asks of generated code. It hands the message on as bytes, the least that it can copy."""
    service, name = RANK.strip("/").split("/")
    methods = {name: grpc.unary_unary_rpc_method_handler(lambda *_: None)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))


class Ranking:
    """A replica. `batch` requests at most are computed together, if more than one waits; the first waits for
    `batch_wait_s`."""

    def __init__(self, folder: str, batch: int, batch_wait_s: float) -> None:
        torch.set_num_threads(1)
        model = ExportedModel(Path(folder))
        self._format = RequestFormat(model.config)
        self._ranker = Ranker(model.config, model.nets(), [model.rows(table.name) for table in model.config.tables])
        batched = serve.batch(max_batch_size=batch, batch_wait_timeout_s=batch_wait_s)(self._score_together)
        self._score = batched if batch > 1 else self._score_alone

    async def Rank(self, message: bytes) -> RankReply:  # named as in the service
        return RankReply(scores=(await self._score(self._format.decode(message))).tobytes())

    async def _score_alone(self, request: Request) -> np.ndarray:
        await asyncio.sleep(0)  # lets the proxy's other messages in
        return self._computed(request)

    async def _score_together(self, requests: list[Request]) -> list[np.ndarray]:
        if len(requests) == 1:
            return [self._computed(requests[0])]
        scores = self._computed(side_by_side(requests))
        return np.split(scores, np.cumsum([len(request) for request in requests])[:-1])

    def _computed(self, request: Request) -> np.ndarray:
        return self._ranker(torch.from_numpy(request.dense.copy()), *request.bags.tensors()).numpy()


def side_by_side(requests: list[Request]) -> Request:
    """One request with the items of all."""
    ids = [
        request.bags.ids[bounds[0] : bounds[-1]]
        for table in range(len(requests[0].bags.lengths))
        for request in requests
        for bounds in [request.bags.bounds[table]]
    ]
    lengths = np.concatenate([request.bags.lengths for request in requests], axis=1)
    return Request(np.concatenate([request.dense for request in requests]), Bags(lengths, np.concatenate(ids)))
