"""How a request fails."""

import grpc

INVALID = grpc.StatusCode.INVALID_ARGUMENT


class RequestError(Exception):
    """A request that gets no answer: the gRPC status and the one line that its caller is told."""

    def __init__(self, code: grpc.StatusCode, reason: str) -> None:
        super().__init__(f"{code.name}: {reason}")
        self.code, self.reason = code, reason
