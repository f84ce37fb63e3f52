"""The RPC operator: one call to one sparse shard, on whichever of its replicas answers within the deadline.

Each attempt may use its share of the time that is left, so that a replica which hangs leaves time for the next. A
replica that fails is asked last for a second. Whatever does not add up in an answer counts as a failure: a request
gets correct embeddings or an error, never a guess.
"""

import time
from dataclasses import dataclass

import grpc
import torch
from torch import Tensor

from workbench.workloads.inference.bags import Bags
from workbench.workloads.inference.network import Link
from workbench.workloads.inference.plan import Shard
from workbench.workloads.inference.protocol.messages import LOOKUP, decode_pooled, encode_lookup
from workbench.workloads.inference.protocol.status import RequestError
from workbench.workloads.inference.tracing import Lane
from workbench.workloads.inference.transport import Tls, is_serving, open_channel

_SUSPECT_SECONDS = 1.0


@dataclass
class _Replica:
    address: str
    channel: grpc.aio.Channel
    suspect_until: float = 0.0

    def __post_init__(self) -> None:
        self.call = self.channel.unary_unary(LOOKUP)


class ShardClient:
    """Calls one shard for one version of model and plan. `uplink` and `downlink` are the caller's, shared by all."""

    def __init__(self, shard: Shard, version: str, uplink: Link, downlink: Link, tls: Tls | None) -> None:
        self.name, self.version, self.uplink, self.downlink = shard.name, version, uplink, downlink
        self._replicas = [_Replica(address, open_channel(address, tls)) for address in shard.addresses]
        self._turn = 0

    async def lookup(self, net: int, bags: Bags, width: int, deadline: float, lane: Lane) -> Tensor:
        """Pooled rows [B, width] of `bags` [pieces, B]. `deadline` is in `time.monotonic` seconds.

        RequestError with the last replica's reason when none answered in time.
        """
        with lane.span("rpc_operator"):
            with lane.span("serialize", kind="serialization"):
                message = encode_lookup(self.version, net, bags)
                lane.note(message_bytes=len(message))
            replicas = self._in_order()
            for number, replica in enumerate(replicas):
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                try:
                    reply = await self._call(replica, message, left / (len(replicas) - number), lane)
                    with lane.span("deserialize", kind="serialization", message_bytes=len(reply)):
                        pooled = decode_pooled(reply, self.version, bags.lengths.shape[1], width)
                    return torch.from_numpy(pooled.copy())  # torch takes no read-only memory
                except grpc.aio.AioRpcError as error:
                    failure = RequestError(error.code(), error.details() or "")
                except RequestError as error:
                    failure = error
                replica.suspect_until = time.monotonic() + _SUSPECT_SECONDS
            raise self._explained(failure)

    async def ready(self, timeout_seconds: float) -> bool:
        """Whether a replica serves this version."""
        for replica in self._replicas:
            if await is_serving(replica.channel, self.version, timeout_seconds):
                return True
        return False

    async def close(self) -> None:
        """Close the channels; calls under way are cancelled."""
        for replica in self._replicas:
            await replica.channel.close()

    async def _call(self, replica: _Replica, message: bytes, timeout: float, lane: Lane) -> bytes:
        with lane.span("rpc", kind="communication", source=self.uplink.source):
            await self.uplink.cross(lane, len(message))
            reply = await replica.call(message, timeout=timeout, metadata=lane.context.metadata)
            await self.downlink.cross(lane, len(reply))
            lane.note(message_bytes=len(message) + len(reply))
        return reply

    def _in_order(self) -> list[_Replica]:
        """Replicas in turn, those that failed a moment ago last."""
        self._turn = (self._turn + 1) % len(self._replicas)
        now = time.monotonic()
        in_turn = self._replicas[self._turn :] + self._replicas[: self._turn]
        return sorted(in_turn, key=lambda replica: replica.suspect_until > now)

    def _explained(self, failure: RequestError) -> RequestError:
        """What the request's caller is told: a shard's refusal is our fault, not the caller's."""
        passed_on = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.DATA_LOSS)
        code = failure.code if failure.code in passed_on else grpc.StatusCode.INTERNAL
        return RequestError(code, f"{self.name} failed on each of its {len(self._replicas)} replicas: {failure.reason}")
