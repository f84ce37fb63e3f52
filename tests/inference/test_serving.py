"""A request's way through main and sparse shards: equal scores, exactly counted RPCs, one tree of spans."""

import asyncio
import subprocess

import numpy as np
import pytest
from in_process import deployed, expected_scores, plan_for, serving_of, some_requests

from workbench.trace.readers import spans
from workbench.trace.recorder import Recorder
from workbench.workloads.inference.bags import Bags
from workbench.workloads.inference.client import RankClient
from workbench.workloads.inference.network import Link
from workbench.workloads.inference.plan import Piece, Plan, Shard
from workbench.workloads.inference.protocol.messages import Request
from workbench.workloads.inference.transport import Tls

CUTS = [("singular", 1), ("one_shard", 1)] + [
    (strategy, shards)
    for strategy in ("capacity_balanced", "load_balanced", "net_specific")
    for shards in (2, 4, 8)
]  # fmt: skip


def rank_all(requests):
    """A scenario: all requests one after the other; their answers."""

    async def scenario(deployment):
        return [await deployment.client.rank(number, request, 5.0) for number, request in enumerate(requests)]

    return scenario


def events_of(record, process):
    return spans.read(record / f"{process}.spans.jsonl").events


@pytest.mark.parametrize(("strategy", "shards"), CUTS)
def test_scores_are_those_of_the_whole_model_and_rpcs_are_counted(tiny, tmp_path, strategy, shards):
    model, exported = tiny
    plan, requests = plan_for(model.config, strategy, shards), some_requests(model.config, 3)
    answers = deployed(exported, plan, rank_all(requests), record=tmp_path, batch_items=4)
    for request, answer in zip(requests, answers, strict=True):
        np.testing.assert_allclose(answer.scores, expected_scores(model, request), atol=1e-6)
    # Two batches; in each, for every net, the shards that hold a row which the batch asks for.
    expected = [
        sum(holds_one(shard, request.bags.items(start, stop), tables, model.config)
            for start, stop in ((0, 4), (4, 6)) for tables in model.config.table_ranges for shard in plan.shards)
        for request in requests
    ]  # fmt: skip
    events = events_of(tmp_path, "main")
    calls = events[events["name"] == "rpc_operator"]
    assert [int((calls["step"] == number).sum()) for number in range(3)] == expected
    assert (expected == [0, 0, 0]) == (strategy == "singular")


def holds_one(shard, bags, tables, config):
    """Whether a shard holds any of the ids of these tables, looked at one by one."""
    pieces = {piece.table: piece for piece in shard.pieces}
    return any(
        row % piece.pieces == piece.piece
        for table in tables
        if (piece := pieces.get(config.tables[table].name))
        for row in bags.tables([table]).ids
    )


def test_a_table_cut_by_rows_over_all_shards(tiny):
    model, exported = tiny
    names = [table.name for table in model.config.tables]
    shards = [
        Shard(
            name=f"shard-{k}",
            pieces=(Piece(table="item_1", piece=k, pieces=3), *(Piece(table=n) for n in names[k::3] if n != "item_1")),
        )
        for k in range(3)
    ]
    plan = Plan(strategy="by hand", shards=tuple(shards))
    plan.check(model.config)
    requests = some_requests(model.config, 4)
    for request, answer in zip(requests, deployed(exported, plan, rank_all(requests)), strict=True):
        np.testing.assert_allclose(answer.scores, expected_scores(model, request), atol=1e-6)


def test_shards_that_are_asked_for_nothing_are_not_called(tiny, tmp_path):
    model, exported = tiny
    (request,) = some_requests(model.config, 1)
    empty = Request(request.dense, Bags(np.zeros_like(request.bags.lengths), request.bags.ids[:0]))
    (answer,) = deployed(exported, plan_for(model.config, "load_balanced", 4), rank_all([empty]), record=tmp_path)
    np.testing.assert_allclose(answer.scores, expected_scores(model, empty), atol=1e-6)
    assert "rpc_operator" not in set(events_of(tmp_path, "main")["name"])


def test_spans_of_a_request_are_one_tree_over_all_processes(tiny, tmp_path):
    model, exported = tiny
    plan = plan_for(model.config, "load_balanced", 2)
    deployed(exported, plan, rank_all(some_requests(model.config, 2)), record=tmp_path, batch_items=3)
    events = {process: events_of(tmp_path, process) for process in ("client", "main", "shard-0", "shard-1")}
    for step in range(2):
        of_step = [rows[rows["step"] == step] for rows in events.values()]
        assert len({trace for rows in of_step for trace in rows["trace"]}) == 1
        span_ids = [span for rows in of_step for span in rows["span_id"]]
        parents = [parent for rows in of_step for parent in rows["parent_span_id"]]
        assert len(set(span_ids)) == len(span_ids) and set(parents) - {0} <= set(span_ids) and parents.count(0) == 1
    layers = {
        "client": {"request", "send_delay", "serialize", "rpc", "deserialize"},
        "main": {"handler", "queue", "deserialize", "batch_wait", "batch", "net", "cut", "bottom", "rpc_operator",
                 "serialize", "rpc", "rpc_wait", "join", "top"},
        "shard-0": {"handler", "deserialize", "net", "sparse_lookup", "serialize"},
    }  # fmt: skip
    for process, names in layers.items():
        assert set(events[process]["name"]) == names
    assert set(events["main"].loc[events["main"]["name"] == "rpc", "phase"]) == {"user", "item"}


def test_a_request_that_is_not_sampled_leaves_no_span(tiny, tmp_path):
    model, exported = tiny
    requests = some_requests(model.config, 4)

    async def every_other(deployment):
        return [await deployment.client.rank(n, r, 5.0, sampled=n % 2 == 0) for n, r in enumerate(requests)]

    answers = deployed(exported, plan_for(model.config, "load_balanced", 2), every_other, record=tmp_path)
    assert [answer.status for answer in answers] == ["OK"] * 4
    for process in ("client", "main", "shard-0", "shard-1"):
        assert set(events_of(tmp_path, process)["step"]) == {0, 2}


def test_network_time_is_never_below_zero_and_bytes_agree(tiny, tmp_path):
    model, exported = tiny
    plan = plan_for(model.config, "capacity_balanced", 2)
    deployed(exported, plan, rank_all(some_requests(model.config, 5)), record=tmp_path, batch_items=2)
    calls = events_of(tmp_path, "main")
    calls = calls[calls["name"] == "rpc"].set_index("span_id")
    handlers = 0
    for shard in ("shard-0", "shard-1"):
        events = events_of(tmp_path, shard).set_index("event_id")
        for handler in events[events["name"] == "handler"].itertuples():
            call = calls.loc[handler.parent_span_id]
            assert call["duration_ns"] - handler.duration_ns >= 0
            own = events[events["parent_id"] == handler.Index].set_index("name")["message_bytes"]
            assert call["message_bytes"] == own["deserialize"] + own["serialize"]
            handlers += 1
    assert handlers == len(calls)


def test_every_span_has_wall_and_cpu_time(tiny, tmp_path):
    model, exported = tiny
    plan = plan_for(model.config, "load_balanced", 2)
    deployed(exported, plan, rank_all(some_requests(model.config, 3)), record=tmp_path)
    for process in ("client", "main", "shard-0"):
        events = events_of(tmp_path, process)
        assert (events["cpu_ns"] > 0).all() and (events["duration_ns"] > 0).all()
        # A lane is worked on by one thread at a time, so it cannot use more CPU time than passes (clocks tick apart).
        assert (events["cpu_ns"] <= events["duration_ns"] + 100_000).all()


def test_spans_on_one_lane_nest(tiny, tmp_path):
    model, exported = tiny
    requests = some_requests(model.config, 6)

    async def at_once(deployment):
        return await asyncio.gather(*(deployment.client.rank(n, r, 5.0) for n, r in enumerate(requests)))

    deployed(exported, plan_for(model.config, "load_balanced", 2), at_once, record=tmp_path, batch_items=3, queue=6)
    for process in ("client", "main", "shard-0", "shard-1"):
        events = events_of(tmp_path, process)
        for _, lane in events.groupby("lane", observed=True):
            open_until = []
            for row in lane.sort_values(["start_ns", "duration_ns"], ascending=[True, False]).itertuples():
                while open_until and open_until[-1] <= row.start_ns:
                    open_until.pop()
                assert not open_until or row.start_ns + row.duration_ns <= open_until[-1]
                open_until.append(row.start_ns + row.duration_ns)


def test_a_simulated_network_adds_what_it_says_and_says_so(tiny, tmp_path):
    model, exported = tiny
    link = Link(delay_ns=3_000_000, bytes_per_s=1e9)
    requests = some_requests(model.config, 2)
    answers = deployed(exported, plan_for(model.config, "one_shard", 1), rank_all(requests), record=tmp_path, link=link)
    assert [answer.status for answer in answers] == ["OK", "OK"]
    events = events_of(tmp_path, "main")
    simulated = events[events["source"] == "simulated"]
    assert set(simulated["name"]) == {"rpc", "network"}
    crossings = simulated[simulated["name"] == "network"]
    assert len(crossings) == 2 * 2 * 2  # requests x nets x directions
    assert (crossings["duration_ns"] >= 3_000_000 + crossings["message_bytes"]).all()
    assert set(events.loc[events["name"] == "sparse_lookup", "source"]) <= {"measured"}


def test_requests_under_way_outlive_a_reload(tiny):
    model, exported = tiny
    plan = plan_for(model.config, "net_specific", 2)
    requests = some_requests(model.config, 8)

    async def scenario(deployment):
        before = [asyncio.create_task(deployment.client.rank(n, r, 5.0)) for n, r in enumerate(requests[:4])]
        await asyncio.sleep(0.03)  # they are on their way: a crossing takes 20 ms
        for shard in deployment.shards.values():
            shard.load(exported, plan)
        placed = plan.at("", {shard.name: shard.addresses for shard in deployment.plan.shards})
        old, deployment.main.serving = deployment.main.serving, serving_of(exported, placed, Link(), None)
        assert not any(task.done() for task in before)
        after = [await deployment.client.rank(n, r, 5.0) for n, r in enumerate(requests[4:])]
        answers = await asyncio.gather(*before)
        await old.retire()
        return answers + after

    slow = Link(delay_ns=20_000_000)
    answers = deployed(exported, plan_for(model.config, "capacity_balanced", 2), scenario, concurrency=8, link=slow)
    for request, answer in zip(requests, answers, strict=True):
        np.testing.assert_allclose(answer.scores, expected_scores(model, request), atol=1e-6)


def test_a_full_house_refuses_at_once_and_answers_those_inside(tiny):
    model, exported = tiny
    requests = some_requests(model.config, 12)

    async def scenario(deployment):
        return await asyncio.gather(*(deployment.client.rank(n, r, 5.0) for n, r in enumerate(requests)))

    slow = Link(delay_ns=20_000_000)
    plan = plan_for(model.config, "one_shard", 1)
    answers = deployed(exported, plan, scenario, concurrency=1, queue=3, link=slow)
    statuses = [answer.status for answer in answers]
    assert statuses.count("OK") == 4 and statuses.count("RESOURCE_EXHAUSTED") == 8
    refused = [answer.latency_ns for answer in answers if answer.status != "OK"]
    assert max(refused) < min(answer.latency_ns for answer in answers if answer.status == "OK")
    for request, answer in zip(requests, answers, strict=True):
        if answer.status == "OK":
            np.testing.assert_allclose(answer.scores, expected_scores(model, request), atol=1e-6)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """A certificate for 127.0.0.1, which is its own authority."""
    folder = tmp_path_factory.mktemp("tls")
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-days", "2", "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", folder / "key.pem", "-out", folder / "certificate.pem"]
    try:
        subprocess.run([*make, *names, *files], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    return Tls(folder / "certificate.pem", folder / "key.pem", folder / "certificate.pem")


def test_tls_answers_those_who_show_a_certificate_and_nobody_else(tiny, certificates):
    model, exported = tiny
    (request,) = some_requests(model.config, 1)

    async def scenario(deployment):
        stranger = RankClient(deployment.address, model.config, Recorder(None))
        refused = await stranger.rank(0, request, 1.0)
        await stranger.close()
        return refused, await deployment.client.rank(1, request, 5.0)

    refused, answer = deployed(exported, plan_for(model.config, "load_balanced", 2), scenario, tls=certificates)
    assert refused.status in ("UNAVAILABLE", "DEADLINE_EXCEEDED") and refused.scores is None
    np.testing.assert_allclose(answer.scores, expected_scores(model, request), atol=1e-6)
