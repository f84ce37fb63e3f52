"""`workbench run inference` and `workbench serve` as users call them."""

import asyncio
import signal
import socket
import subprocess
import sys
import time

import pytest

from workbench import analyze, cli
from workbench.errors import InputError
from workbench.trace.loader import load
from workbench.trace.rundir import read_manifest
from workbench.workloads import start
from workbench.workloads.inference.config import PRESETS
from workbench.workloads.inference.deployment import Deployment
from workbench.workloads.inference.models.exported import ExportedModel
from workbench.workloads.inference.plan import read_plan, write_plan
from workbench.workloads.inference.prepare import exported_model, planned
from workbench.workloads.inference.transport import is_serving, open_channel


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A tiny run over two shards."""
    settings = {"requests": "12", "warmup_requests": "2"}
    return start("inference", "tiny", settings, tmp_path_factory.mktemp("traces"), ceilings=False, py_spy=False)


def test_the_run_directory_holds_every_process_and_the_plan(path):
    manifest = read_manifest(path)
    assert manifest["status"] == "complete" and set(manifest["processes"]) == {"client", "main", "shard-0", "shard-1"}
    assert manifest["results"]["statuses"] == {"OK": 12}
    assert [shard["name"] for shard in manifest["plan"]["shards"]] == ["shard-0", "shard-1"]
    assert sum(shard["bytes"] for shard in manifest["shards"]) == manifest["model"]["embedding_bytes"]


def test_processes_draw_span_ids_of_their_own_and_their_spans_are_one_tree(path):
    events = load(path).events
    ids = set(events["span_id"])
    assert len(ids) == len(events) and set(events["parent_span_id"]) - {0} <= ids
    assert (events["parent_span_id"] == 0).sum() == 14  # the requests


def test_rpcs_are_batches_times_shards_of_every_net(path):
    run = load(path)
    calls = (run.events["name"] == "rpc_operator").groupby(run.events["step"]).sum()
    assert (calls <= run.manifest["rpcs_per_request"]).all() and calls.max() == run.manifest["rpcs_per_request"] == 8


def test_it_runs_where_a_loop_runs_already_as_in_a_notebook(tmp_path):
    async def cell():
        settings = {"requests": "2", "warmup_requests": "1"}
        return start("inference", "tiny", settings, tmp_path, ceilings=False, py_spy=False)

    assert read_manifest(asyncio.run(cell()))["results"]["statuses"] == {"OK": 2}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"strategy": "random"}, "choose one of singular, one_shard"),
        ({"model": "gpt"}, "choose one of drm1-mini"),
        ({"colour": "red"}, "unknown setting 'colour'"),
        ({"shards": "9"}, "9 shards for 8 tables"),
        ({"shard_limit_bytes": "1000"}, "misses"),
        ({"tls_key": "k.pem"}, "TLS needs all"),
    ],
)
def test_wrong_settings_are_one_line_before_anything_starts(tmp_path, settings, words):
    with pytest.raises(InputError, match=words):
        start("inference", "tiny", settings, tmp_path / "traces", ceilings=False, py_spy=False)
    assert not (tmp_path / "traces").exists()


async def until_it_serves(address):
    channel, until = open_channel(address, None), time.monotonic() + 60
    while not await is_serving(channel, "", 0.2):
        assert time.monotonic() < until
    await channel.close()


@pytest.fixture
def serve(tmp_path, monkeypatch, capsys):
    """Run `workbench serve` in this process, in an empty folder: (exit code, what it said)."""

    def _serve(*words):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["workbench", "serve", *words])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return stop.value.code, capsys.readouterr().err

    return _serve


def test_what_servers_are_given_is_prepared(serve, tmp_path):
    assert serve("prepare", "--set", "model=tiny", "--set", "shards=2")[0] == 0
    plan = read_plan(tmp_path / "plan.json")
    assert (plan.main, [shard.addresses for shard in plan.shards]) == (
        "127.0.0.1:50050", [("127.0.0.1:50051",), ("127.0.0.1:50052",)],
    )  # fmt: skip
    plan.check(ExportedModel(tmp_path / "model").config)
    code, said = serve("prepare")
    assert code == 2 and said == "workbench: plan.json exists: name another file with --plan\n"


def test_wrong_serving_is_one_line(serve):
    serve("prepare", "--set", "model=tiny")
    for words, expected in [
        (("shard", "shard-7"), "no shard 'shard-7'"),
        (("shard", "shard-0", "--replica", "3"), "shard-0 has no replica 3"),
        (("main", "--plan", "nowhere.json"), "cannot read the plan nowhere.json"),
        (("main", "--set", "colour=red"), "unknown setting 'colour'"),
        (("queen",), "queen"),
    ]:
        code, said = serve(*words)
        assert code == 2 and said.count("\n") == 1 and expected in said


def test_a_server_from_the_command_line_drains_when_it_is_told_to_stop(serve, tmp_path):
    serve("prepare", "--set", "model=tiny")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    plan = read_plan(tmp_path / "plan.json")
    write_plan(plan.at(plan.main, {"shard-0": (address,), "shard-1": (address,)}), tmp_path / "plan.json")
    words = ["serve", "shard", "shard-1", "--traces", "traces", "--run-id", "one"]
    server = subprocess.Popen([sys.executable, "-m", "workbench", *words], cwd=tmp_path)
    asyncio.run(until_it_serves(address))
    server.send_signal(signal.SIGTERM)
    assert server.wait(20) == 0
    (run,) = tmp_path.glob("traces/*")
    assert read_manifest(run)["status"] == "complete" and read_manifest(run)["run_id"] == "one"


def test_servers_that_run_already_are_driven_by_their_plan(tmp_path):
    config = PRESETS["tiny"]()
    model = exported_model(config, tmp_path / "model")
    with Deployment(model.path, planned(config, model)[0], config, 1, tmp_path, None) as deployment:
        settings = {"plan": str(deployment.plan_path), "exported": str(model.path), "requests": "3", "run_id": "theirs"}
        settings |= {"strategy": "singular", "warmup_requests": "1"}
        path = start("inference", "tiny", settings, tmp_path / "traces", ceilings=False, py_spy=False)
    manifest = read_manifest(path)
    assert manifest["results"]["statuses"] == {"OK": 3} and manifest["run_id"] == "theirs"
    assert manifest["plan"]["main"] == deployment.plan.main and len(manifest["shards"]) == 2
    assert set(manifest["processes"]) == {"client"}


def test_servers_elsewhere_need_the_model_that_they_serve(tmp_path):
    with pytest.raises(InputError, match="name it with exported="):
        start("inference", "tiny", {"plan": "plan.json"}, tmp_path, ceilings=False, py_spy=False)


def test_a_share_of_the_requests_is_traced_and_the_others_count(tmp_path):
    settings = {"requests": "30", "trace_share": "0.3", "strategy": "singular"}
    run = load(start("inference", "tiny", settings, tmp_path, ceilings=False, py_spy=False))
    traced = {process: set(spans["step"]) for process, spans in run.events.groupby("process", observed=True)}
    assert traced["client"] == traced["main"] and 0 < len(traced["main"]) < 25
    assert set(run.metrics.loc[run.metrics["name"] == "latency_ns", "step"]) == set(range(35))
    everything = load(
        start("inference", "tiny", settings | {"trace_share": "1"}, tmp_path, ceilings=False, py_spy=False)
    )
    shares = [analyze(each, "latency").table["cpu_outside_ns"].mean() for each in (run, everything)]
    assert shares[0] < 3 * shares[1]  # what 35 requests took is not put down to those that were traced
