"""Servers as processes of their own: killed, stopped, told to reload and to end, while requests go on."""

import asyncio
import os
import signal
import time

import numpy as np
import pytest
from in_process import expected_scores, plan_for, some_requests

from workbench.trace.recorder import Recorder
from workbench.workloads.inference.client import RankClient
from workbench.workloads.inference.config import ServerConfig
from workbench.workloads.inference.deployment import Deployment
from workbench.workloads.inference.network import precise_loop
from workbench.workloads.inference.transport import is_serving, open_channel

PATIENCE_S = 5.0


@pytest.fixture(scope="module")
def deployment(tiny, tmp_path_factory):
    """Two sparse shards and the main shard; a message between them takes 20 ms."""
    model, exported = tiny
    config = ServerConfig(network_delay_us=20_000.0)
    plan = plan_for(model.config, "capacity_balanced", 2)
    folder = tmp_path_factory.mktemp("deployment")
    with Deployment(exported.path, plan, config, 1, folder, None) as deployment:
        play(tiny, deployment, lambda rank: until(lambda: serves(deployment), 60.0))
        yield deployment


def play(tiny, deployment, scenario):
    """Run `scenario(rank)`: `rank(number)` asks for scores and, where they come, checks them."""
    model, exported = tiny
    requests = some_requests(model.config, 4)

    async def playing():
        client = RankClient(deployment.plan.main, exported.config, Recorder(None))

        async def rank(number, deadline_s=PATIENCE_S):
            request = requests[number % len(requests)]
            answer = await client.rank(number, request, deadline_s)
            if answer.status == "OK":
                np.testing.assert_allclose(answer.scores, expected_scores(model, request), atol=1e-6)
            return answer

        try:
            return await scenario(rank)
        finally:
            await client.close()

    with asyncio.Runner(loop_factory=precise_loop) as loop:
        return loop.run(playing())


async def serves(deployment, version="", address=None):
    deployment.check()
    channel = open_channel(address or deployment.plan.main, None)
    try:
        return await is_serving(channel, version, 0.2)
    finally:
        await channel.close()


async def until(holds, patience_s=PATIENCE_S):
    """Ask `await holds()` until it is so."""
    started = time.monotonic()
    while not await holds():
        assert time.monotonic() - started < patience_s
        await asyncio.sleep(0.02)


def test_a_killed_shard_is_an_error_and_is_used_again_when_it_is_back(tiny, deployment):
    async def scenario(rank):
        assert (await rank(0)).status == "OK"
        deployment.send("shard-1", signal.SIGKILL)
        lost = await rank(1, 2.0)
        assert lost.status == "UNAVAILABLE" and "shard-1" in lost.reason and lost.latency_ns < 2e9
        deployment.start("shard", "shard-1")

        async def answered():
            return (await rank(2)).status == "OK"

        await until(answered)

    play(tiny, deployment, scenario)


def test_a_stopped_shard_costs_its_requests_the_deadline_and_no_more(tiny, deployment):
    async def scenario(rank):
        deployment.send("shard-0", signal.SIGSTOP)
        try:
            hung = await rank(0, 0.3)
        finally:
            deployment.send("shard-0", signal.SIGCONT)
        assert hung.status == "DEADLINE_EXCEEDED" and hung.latency_ns < 0.6e9
        assert (await rank(1)).status == "OK"

    play(tiny, deployment, scenario)


def test_a_reload_drops_no_request(tiny, deployment):
    model, exported = tiny
    new = plan_for(model.config, "net_specific", 2)

    async def scenario(rank):
        version = new.version(exported.version)
        assert not await serves(deployment, version)
        deployment.reload(new)
        answers, reloaded = [], asyncio.create_task(until(lambda: serves(deployment, version)))
        while not reloaded.done():
            answers.append(await rank(len(answers)))
        await reloaded
        answers += [await rank(number) for number in range(3)]
        assert {answer.status for answer in answers} == {"OK"}

    play(tiny, deployment, scenario)


def test_a_server_that_is_told_to_end_answers_what_it_has_begun(tiny, deployment):
    async def scenario(rank):
        begun = [asyncio.create_task(rank(number)) for number in range(3)]
        await asyncio.sleep(0.03)  # each takes 80 ms at least, for two nets
        deployment.send("main", signal.SIGTERM)
        assert [answer.status for answer in await asyncio.gather(*begun)] == ["OK"] * 3
        assert (await rank(3, 0.2)).status in ("UNAVAILABLE", "DEADLINE_EXCEEDED")

    play(tiny, deployment, scenario)


def test_servers_end_with_the_process_that_started_them(tiny, deployment):
    """The operating system closes a dead launcher's end of the pipe; here the test does."""
    shards = [deployment._processes[name] for name in ("shard-0", "shard-1")]
    assert all(process.is_alive() for process in shards)
    os.close(os.dup(deployment._ours.fileno()))  # a copy that closes changes nothing
    assert all(process.is_alive() for process in shards)
    deployment._ours.close()
    for process in shards:
        process.join(PATIENCE_S)
        assert process.exitcode == 0
