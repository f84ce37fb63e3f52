"""Serial replay: one request at a time, the next when the last is answered - the paper's main mode.

It shows what distribution itself costs, without the queues that load would add.
"""

from collections import Counter
from collections.abc import Iterable

import numpy as np

from workbench.workloads.inference.client import Answer, Echo, RankClient
from workbench.workloads.inference.config import Config
from workbench.workloads.inference.protocol.messages import Request
from workbench.workloads.progress import ProgressLine

_ECHO_EVERY = 4  # requests


async def warm_up(client: RankClient, requests: Iterable[Request], config: Config) -> None:
    """Requests 0, 1, ... one by one, tagged `warmup`: connections, caches and allocators settle."""
    for number, request in enumerate(requests):
        await client.rank(number, request, config.deadline_s, tags="warmup")


async def replay(client: RankClient, echo: Echo, requests: Iterable[Request], config: Config) -> list[Answer]:
    """Answers in order, numbered after the warm-up; between requests an echo now and then."""
    answers = []
    with ProgressLine() as progress:
        for place, request in enumerate(requests):
            answer = await client.rank(config.warmup_requests + place, request, config.deadline_s)
            answers.append(answer)
            if place % _ECHO_EVERY == 0:
                await echo.ask(config.deadline_s)
            done = f"request {place + 1} of {config.requests}: {answer.latency_ns / 1e6:.2f} ms, {answer.status}"
            progress.update(done, (place + 1) / config.requests)
    return answers


def results(answers: list[Answer]) -> dict:
    """Percentiles of the latency of answered requests, and how many ended with which status."""
    latencies_ns = [answer.latency_ns for answer in answers if answer.status == "OK"]
    percentiles = np.percentile(latencies_ns, [50, 90, 99]) if latencies_ns else [None] * 3
    names = ("latency_p50_ns", "latency_p90_ns", "latency_p99_ns")
    return dict(zip(names, percentiles, strict=True)) | {"statuses": dict(Counter(a.status for a in answers))}
