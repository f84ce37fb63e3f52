"""The tiny preset from end to end: what a user finds in the run directory."""

import gzip
import json

import pytest

from workbench.metrics import definitions
from workbench.trace import streams
from workbench.trace.readers import spans
from workbench.trace.rundir import read_manifest
from workbench.workloads import start

STEPS, WARMUP = 12, 3
PHASES = {
    "input": "input",
    "lengths_exchange": "input",
    "indices_exchange": "input",
    "embedding_lookup": "forward",
    "bottom_mlp": "forward",
    "embedding_exchange": "forward",
    "interaction": "forward",
    "top_mlp": "forward",
    "loss": "forward",
    "backward": "backward",
    "gradient_exchange": "backward",
    "optimizer": "optimizer",
}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    settings = {"steps": str(STEPS), "profile_every": "5", "profile_steps": "2", "seed": "1"}
    return start("training", "tiny", settings, tmp_path_factory.mktemp("traces"), ceilings=False, py_spy=False)


def test_manifest(path):
    manifest = read_manifest(path)
    assert (manifest["status"], manifest["workload"], manifest["preset"]) == ("complete", "training", "tiny")
    assert manifest["config"]["steps"] == STEPS and manifest["config"]["threads_per_rank"] >= 1
    assert set(manifest["processes"]) == {"trainer-0", "trainer-1"} and manifest["ranks"] == 2
    assert manifest["samples_per_step"] == 256 and manifest["run_id"] and manifest["host"]["cpu_model"]
    results = manifest["results"]
    # Learned something: between the teacher's own score and that of the base rate.
    assert results["normalized_entropy_floor"] < results["held_out_normalized_entropy"] < 1.0
    assert results["samples_per_s"] > 0


def test_every_phase_of_every_step_is_a_span(path):
    for rank in range(2):
        events = spans.read(path / f"trainer-{rank}.spans.jsonl").events
        inside = events[events["step"] >= 0]
        for name, phase in PHASES.items():
            rows = inside[inside["name"] == name]
            assert (rows["phase"] == phase).all(), name
            if phase == "input":  # of batches ahead: the last steps have none left
                assert rows["step"].is_monotonic_increasing and len(rows) in (STEPS, STEPS + 1), name
            else:
                assert rows["step"].tolist() == list(range(STEPS)), name
        steps = inside[inside["name"] == "step"].set_index("step")
        assert steps["tags"].tolist() == ["warmup"] * WARMUP + [""] * (STEPS - WARMUP)
        # The phases account for the step: what lies between them is small change.
        top = inside[inside["parent_id"].isin(steps["event_id"])]
        assert top["duration_ns"].sum() > 0.8 * steps["duration_ns"].sum()
        reduced = inside[inside["name"] == "gradient_all_reduce"]
        parameters = read_manifest(path)["dense_parameters"]
        # Two buckets, each with two numbers that ride along.
        assert (reduced.groupby("step")["message_bytes"].sum() == 4 * (parameters + 4)).all()
        assert (reduced["group_size"] == 2).all()


def test_profiler_windows_are_those_of_the_schedule(path):
    # After three warm-up steps and one to get ready: steps 4 and 5, then 9 and 10.
    for name, expected in ((".pt", {4, 5}), (".w1.pt", {9, 10})):
        for rank in range(2):
            with gzip.open(path / f"trainer-{rank}{name}.trace.json.gz") as file:
                trace = json.load(file)
            steps = {e["name"] for e in trace["traceEvents"] if str(e.get("name")).startswith("ProfilerStep#")}
            assert steps == {f"ProfilerStep#{step}" for step in expected}
            assert trace["record_shapes"] == 1 and trace["distributedInfo"]["rank"] == rank
    assert not list(path.glob(".*raw*")) and not list(path.glob("*w2*"))


def test_profiler_and_spans_share_one_clock(path):
    events = spans.read(path / "trainer-0.spans.jsonl").events
    step = events[(events["name"] == "step") & (events["step"] == 4)].iloc[0]
    with gzip.open(path / "trainer-0.pt.trace.json.gz") as file:
        trace = json.load(file)
    profiled = next(e for e in trace["traceEvents"] if e.get("name") == "ProfilerStep#4" and e.get("ph") == "X")
    start_ns = trace["baseTimeNanoseconds"] + profiled["ts"] * 1000
    end_ns = start_ns + profiled["dur"] * 1000
    assert start_ns - 2e6 < step["start_ns"] and step["start_ns"] + step["duration_ns"] < end_ns + 2e6


def test_metrics_and_accesses(path):
    metrics = streams.read_metrics([path])
    first = metrics[metrics["process"] == "trainer-0"]
    for name in ("loss", "normalized_entropy", "samples_per_s"):
        assert first[first["name"] == name]["step"].tolist() == list(range(STEPS))
    loss = metrics[metrics["name"] == "loss"].pivot(index="step", columns="process", values="value")
    assert (loss["trainer-0"] == loss["trainer-1"]).all()  # the global batch's, on every rank
    assert set(metrics["name"]) <= {definition.key for definition in definitions("training")}
    tables = read_manifest(path)["tables"]
    accesses = streams.read_accesses([path])
    for process, group in accesses.groupby("process"):
        owned = [index for index, table in enumerate(tables) if f"trainer-{table['rank']}" == process]
        assert sorted(set(group["table"])) == owned
    assert sorted(set(accesses["step"])) == list(range(STEPS))
    assert all(len(row.lengths) == 256 and row.lengths.sum() == len(row.rows) for row in accesses.itertuples())
    assert all(row.rows.max(initial=0) < tables[row.table]["rows"] for row in accesses.itertuples())
