"""`workbench run inference` and `workbench serve` as users call them."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time

import pytest

from workbench.errors import InputError
from workbench.trace.loader import load
from workbench.trace.rundir import read_manifest
from workbench.workloads import start
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


def test_servers_from_the_command_line(tmp_path):
    """Prepare, serve a shard, stop it with SIGTERM; its spans are a run of their own."""

    def call(*words):
        return [sys.executable, "-m", "workbench", "serve", *words, "--model", "m", "--plan", "p.json"]

    settings = ("--set", "model=tiny", "--set", "shards=2")
    subprocess.run(call("prepare", *settings), cwd=tmp_path, check=True)
    plan = json.loads((tmp_path / "p.json").read_text())
    assert [shard["addresses"] for shard in plan["shards"]] == [["127.0.0.1:50051"], ["127.0.0.1:50052"]]
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = plan["shards"][1]["addresses"][0] = f"127.0.0.1:{free.getsockname()[1]}"
    (tmp_path / "p.json").write_text(json.dumps(plan))
    again = subprocess.run(call("prepare"), cwd=tmp_path, capture_output=True, text=True)
    unknown = subprocess.run(call("shard", "shard-7"), cwd=tmp_path, capture_output=True, text=True)
    assert (again.returncode, again.stderr) == (2, "workbench: p.json exists: name another file with --plan\n")
    assert unknown.returncode == 2 and "no shard 'shard-7'" in unknown.stderr and unknown.stderr.count("\n") == 1
    server = subprocess.Popen(call("shard", "shard-1", "--traces", "traces", "--run-id", "one"), cwd=tmp_path)
    asyncio.run(until_it_serves(address))
    server.send_signal(signal.SIGTERM)
    assert server.wait(20) == 0
    (run,) = tmp_path.glob("traces/*")
    assert read_manifest(run)["status"] == "complete" and read_manifest(run)["run_id"] == "one"
