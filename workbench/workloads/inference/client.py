"""A caller of the main shard: sends requests, and records what each saw."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import grpc
import numpy as np

from workbench.trace.recorder import Recorder
from workbench.workloads.inference.models.config import ModelConfig
from workbench.workloads.inference.protocol.messages import RANK, Request, RequestFormat, decode_scores
from workbench.workloads.inference.tracing import Lane, LaneNames, TraceContext
from workbench.workloads.inference.transport import Tls, is_serving, open_channel


@dataclass(frozen=True)
class Answer:
    """What became of one request: its latency from the moment it was sent, and its scores [items, outputs] or
    the status and reason of its failure."""

    latency_ns: int
    scores: np.ndarray | None = None
    status: str = "OK"
    reason: str = ""


class RankClient:
    """One channel to a main shard. Every request is a trace of its own, numbered by the recorder's step; `trace_share`
    of them are sampled, and the others leave no span in any process."""

    def __init__(
        self,
        address: str,
        model: ModelConfig,
        recorder: Recorder,
        tls: Tls | None = None,
        trace_share: float = 1.0,
    ) -> None:
        self._channel = open_channel(address, tls)
        self._call = self._channel.unary_unary(RANK)
        self._format, self._recorder = RequestFormat(model), recorder
        self._lane_names = LaneNames()
        self._trace_share, self._draws = trace_share, random.Random(0)

    async def rank(
        self,
        number: int,
        request: Request,
        deadline_s: float,
        tags: str = "",
        sampled: bool | None = None,
    ) -> Answer:
        """Send request `number` now; `sampled` says whether it leaves spans (None: drawn)."""
        if sampled is None:
            sampled = self._draws.random() < self._trace_share
        start_ns = time.monotonic_ns()
        with self._lane_names.taken() as name:
            lane = Lane(self._recorder, name, TraceContext.new(number, sampled))
            answer = await lane.run(self._answer(request, deadline_s, start_ns, tags, lane))
        self._recorder.step = number
        self._recorder.metric("latency_ns", answer.latency_ns)
        return answer

    async def is_serving(self, timeout_seconds: float) -> bool:
        """Whether the main shard answers requests."""
        return await is_serving(self._channel, "", timeout_seconds)

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()

    async def _answer(self, request: Request, deadline_s: float, start_ns: int, tags: str, lane: Lane) -> Answer:
        with lane.span("request", start_ns=start_ns, tags=tags):
            with lane.span("send_delay", kind="wait", start_ns=start_ns):
                pass
            with lane.span("serialize", kind="serialization"):
                message = self._format.encode(request)
                lane.note(message_bytes=len(message))
            try:
                with lane.span("rpc", kind="communication"):
                    reply = await self._call(message, timeout=deadline_s, metadata=lane.context.metadata)
                    lane.note(message_bytes=len(message) + len(reply))
            except grpc.aio.AioRpcError as error:
                lane.note(tags=f"{tags} error".strip())
                return Answer(time.monotonic_ns() - start_ns, None, error.code().name, error.details() or "")
            with lane.span("deserialize", kind="serialization", message_bytes=len(reply)):
                scores = decode_scores(reply, len(request))
            return Answer(time.monotonic_ns() - start_ns, scores)


class Echo:
    """Asks sparse shards in turn for their health: an RPC without content, to set beside those that carry ids. What it
    takes is what gRPC, the network and a busy machine cost by themselves."""

    def __init__(self, addresses: Sequence[str], recorder: Recorder, tls: Tls | None = None) -> None:
        self._channels = [open_channel(address, tls) for address in addresses]
        self._recorder, self._turn = recorder, 0

    async def ask(self, timeout_seconds: float) -> None:
        """One echo, recorded as `echo_ns` where it comes back."""
        if not self._channels:
            return
        self._turn = (self._turn + 1) % len(self._channels)
        start_ns = time.monotonic_ns()
        if await is_serving(self._channels[self._turn], "", timeout_seconds):
            self._recorder.metric("echo_ns", time.monotonic_ns() - start_ns)

    async def close(self) -> None:
        """Close the channels."""
        for channel in self._channels:
            await channel.close()
