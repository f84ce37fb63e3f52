"""Sparse shards that fail: an error in good time or the right scores from a replica, and never wrong scores."""

import asyncio
import time

import grpc
import numpy as np
import pytest
from in_process import deployed, expected_scores, plan_for, serving_of, some_requests

from workbench.workloads.inference import replicas
from workbench.workloads.inference.bags import Bags
from workbench.workloads.inference.network import Link
from workbench.workloads.inference.protocol.messages import Request
from workbench.workloads.inference.protocol.ranking_pb2 import LookupReply, LookupRequest

DEADLINE_S = 0.4


async def garbage(message, call):
    return b"\xff" * 40


async def nothing(message, call):
    return b""


async def another_version(message, call):
    request = LookupRequest.FromString(message)
    return LookupReply(version="0" * 16, pooled=bytes(4 * 16 * request.items)).SerializeToString()


async def too_short(message, call):
    return LookupReply(version=LookupRequest.FromString(message).version, pooled=bytes(60)).SerializeToString()


async def not_a_number(message, call):
    request = LookupRequest.FromString(message)
    pieces = len(request.lengths) // (4 * request.items)
    rows = np.full((request.items, 16 * pieces), np.nan, dtype=np.float32)
    return LookupReply(version=request.version, pooled=rows.tobytes()).SerializeToString()


async def hangs(message, call):
    await asyncio.sleep(60)


async def crashes(message, call):
    raise ZeroDivisionError


async def overloaded(message, call):
    await call.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too much")


FAULTS = {
    garbage: "DATA_LOSS", nothing: "DATA_LOSS", another_version: "DATA_LOSS", too_short: "DATA_LOSS",
    not_a_number: "DATA_LOSS", hangs: "DEADLINE_EXCEEDED", crashes: "INTERNAL", overloaded: "INTERNAL",
}  # fmt: skip


def ask(requests):
    async def scenario(deployment):
        return [await deployment.client.rank(number, request, DEADLINE_S) for number, request in enumerate(requests)]

    return scenario


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_an_error_within_the_deadline(tiny, fault):
    model, exported = tiny
    plan = plan_for(model.config, "load_balanced", 2)
    started = time.monotonic()
    (answer,) = deployed(exported, plan, ask(some_requests(model.config, 1)), stand_ins={"shard-1/0": fault})
    assert time.monotonic() - started < DEADLINE_S + 0.3
    assert answer.scores is None and answer.status == FAULTS[fault] and "shard-1 failed" in answer.reason


@pytest.mark.parametrize("fault", FAULTS)
def test_a_replica_answers_instead(tiny, tmp_path, fault):
    model, exported = tiny
    plan, requests = plan_for(model.config, "load_balanced", 2), some_requests(model.config, 2)
    answers = deployed(exported, plan, ask(requests), stand_ins={"shard-1/1": fault}, replicas=2)
    for request, answer in zip(requests, answers, strict=True):
        assert answer.status == "OK", answer.reason
        np.testing.assert_allclose(answer.scores, expected_scores(model, request), atol=1e-6)


def test_a_replica_that_failed_is_left_alone_for_a_while_and_then_used_again(tiny, monkeypatch):
    model, exported = tiny
    monkeypatch.setattr(replicas, "_SUSPECT_SECONDS", 0.3)
    plan, requests = plan_for(model.config, "one_shard", 1), some_requests(model.config, 12)
    calls, healthy = [], []

    async def broken_once(message, call):
        calls.append(time.monotonic())
        return b"" if len(calls) == 1 else await healthy[0].lookup(message, call)

    async def scenario(deployment):
        healthy.append(deployment.shards["shard-0"])
        answers = [await deployment.client.rank(n, request, DEADLINE_S) for n, request in enumerate(requests[:6])]
        at_first = len(calls)
        await asyncio.sleep(0.35)
        answers += [await deployment.client.rank(n, request, DEADLINE_S) for n, request in enumerate(requests[6:])]
        return answers, at_first

    stand_ins = {"shard-0/1": broken_once}
    answers, at_first = deployed(exported, plan, scenario, replicas=2, stand_ins=stand_ins)
    assert {answer.status for answer in answers} == {"OK"}
    assert at_first == 1 and len(calls) == 1 + 6  # of the 12 lookups after that (6 requests, 2 nets) half


def test_others_go_on_while_one_shard_hangs(tiny):
    """Requests that need only the healthy shard are answered at once, beside one that waits for the other."""
    model, exported = tiny
    plan = plan_for(model.config, "net_specific", 2)
    request, other = some_requests(model.config, 2)
    user_only = other.bags.lengths.copy()
    user_only[3:] = 0
    needs_one = Request(other.dense, Bags(user_only, other.bags.tables(range(3)).ids))

    async def scenario(deployment):
        waiting = asyncio.create_task(deployment.client.rank(0, request, DEADLINE_S))
        answers = [await deployment.client.rank(n, needs_one, DEADLINE_S) for n in range(1, 6)]
        return await waiting, answers

    waiting, answers = deployed(exported, plan, scenario, stand_ins={"shard-1/0": hangs})
    assert waiting.status == "DEADLINE_EXCEEDED"
    for answer in answers:
        np.testing.assert_allclose(answer.scores, expected_scores(model, needs_one), atol=1e-6)


def test_a_shard_that_is_not_there_is_said_at_once(tiny):
    model, exported = tiny
    (request,) = some_requests(model.config, 1)

    async def scenario(deployment):
        nowhere = deployment.plan.at("", {shard.name: ("127.0.0.1:1",) for shard in deployment.plan.shards})
        deployment.main.serving = serving_of(exported, nowhere, Link(), None)
        return await deployment.client.rank(0, request, 5.0)

    answer = deployed(exported, plan_for(model.config, "one_shard", 1), scenario)
    assert answer.status == "UNAVAILABLE" and answer.latency_ns < 1e9
