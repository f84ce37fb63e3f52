"""gRPC channels and servers of a deployment: plain text on loopback, or mutual TLS; limits; health; reconnecting."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

from workbench.errors import InputError
from workbench.workloads.inference.protocol.messages import MAX_MESSAGE_BYTES

# gRPC's notes of connections that come and go are not for our users; it reads this when it is first used.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

# Between our limit and this one a message is read and refused with a reason; above it gRPC itself refuses to read it.
_HARD_LIMIT_BYTES = 4 * MAX_MESSAGE_BYTES
_LIMITS = [("grpc.max_receive_message_length", _HARD_LIMIT_BYTES), ("grpc.max_send_message_length", -1)]
# A shard that comes back is used again within a second or two, where gRPC's own back-off grows to two minutes.
_RECONNECTING = [
    ("grpc.initial_reconnect_backoff_ms", 100), ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
]  # fmt: skip


@dataclass(frozen=True)
class Tls:
    """Mutual TLS with PEM files: every process shows `certificate`, and trusts those that `authority` has signed."""

    certificate: Path
    key: Path
    authority: Path

    def _content(self) -> tuple[bytes, bytes, bytes]:
        try:
            return tuple(Path(file).read_bytes() for file in (self.authority, self.key, self.certificate))
        except OSError as error:
            raise InputError(f"cannot read the TLS file {error.filename}: {error.strerror}") from None

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """For those who call."""
        authority, key, certificate = self._content()
        return grpc.ssl_channel_credentials(authority, key, certificate)

    def server_credentials(self) -> grpc.ServerCredentials:
        """For those who answer."""
        authority, key, certificate = self._content()
        return grpc.ssl_server_credentials([(key, certificate)], authority, require_client_auth=True)


def open_channel(address: str, tls: Tls | None) -> grpc.aio.Channel:
    """A channel that connects when it is first used, and again soon after it was broken."""
    options = [*_LIMITS, *_RECONNECTING]
    if tls:
        return grpc.aio.secure_channel(address, tls.channel_credentials(), options)
    return grpc.aio.insecure_channel(address, options)


class Server:
    """One method and the standard health service on one address. A name's health says that it is served."""

    def __init__(self, address: str, method: str, handler: Callable, tls: Tls | None) -> None:
        service, name = method.strip("/").split("/")
        # Without serializers gRPC hands over bytes: decoding is ours, where it is timed and checked.
        methods = {name: grpc.unary_unary_rpc_method_handler(handler)}
        self.health = health_aio.HealthServicer()
        self._server = grpc.aio.server(options=_LIMITS)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        try:
            if tls:
                self.port = self._server.add_secure_port(address, tls.server_credentials())
            else:
                self.port = self._server.add_insecure_port(address)
        except RuntimeError:
            raise InputError(f"cannot listen on {address}: give an address of this machine and a free port") from None

    async def start(self) -> None:
        """Answer calls; nothing is healthy yet."""
        await self.health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
        await self._server.start()

    async def serves(self, version: str) -> None:
        """From now on this server, and `version` by name, are healthy."""
        for name in ("", version):
            await self.health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def drain(self, grace_seconds: float) -> None:
        """Say that no more is served, take no more calls, and finish those under way."""
        await self.health.enter_graceful_shutdown()
        await self._server.stop(grace_seconds)


async def is_serving(channel: grpc.aio.Channel, version: str, timeout_seconds: float) -> bool:
    """Whether the server at the other end is healthy and serves `version`."""
    request = health_pb2.HealthCheckRequest(service=version)
    try:
        answer = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=timeout_seconds)
    except grpc.aio.AioRpcError:
        return False
    return answer.status == health_pb2.HealthCheckResponse.SERVING
