"""OTLP spans: what is written is what the reader reads, with ids, parents, failures and kinds."""

import json

import pytest

from workbench.export import export
from workbench.trace.loader import load
from workbench.trace.readers import otlp
from workbench.trace.run import Run
from workbench.trace.schema import events_frame

EPOCH_NS = 1_700_000_000_000_000_000
SAME = ["process", "name", "kind", "start_ns", "duration_ns"]
REQUEST = "0123456789abcdef" * 2


def read_back(run, tmp_path):
    return otlp.read(export(run, "otlp", tmp_path / "spans.json")).events


def by_start(events):
    return events.astype({"process": str, "name": str, "kind": str}).sort_values(SAME[-2:] + SAME[:-2], kind="stable")


def test_a_request_over_processes(tmp_path):
    events = events_frame(
        {
            "name": ["request", "call <b>", "serve"], "process": ["main", "main", "shard-0"], "tags": ["", "error", ""],
            "kind": ["span", "communication", "compute"], "lane": ["main/spans"] * 3,
            "start_ns": [EPOCH_NS, EPOCH_NS + 10, EPOCH_NS + 20], "duration_ns": [100, 50, 30],
            "trace": [REQUEST] * 3, "span_id": [1, 2, 3], "parent_span_id": [0, 1, 2], "parent_id": [-1, 0, 1],
        }
    )  # fmt: skip
    again = read_back(Run(tmp_path, events=events), tmp_path)
    for column in [*SAME, "trace", "span_id", "parent_span_id", "parent_id", "tags"]:
        assert again[column].tolist() == events[column].tolist(), column


def test_our_own_run_keeps_its_spans(golden_run, tmp_path):
    spans = golden_run.events[golden_run.events["lane"].astype(str).str.endswith("/spans")]
    again = read_back(golden_run, tmp_path)
    assert by_start(again)[SAME].to_numpy().tolist() == by_start(spans)[SAME].to_numpy().tolist()
    steps = spans["step"].nunique()
    assert again["trace"].nunique() == steps and again["step"].nunique() == steps
    nested = (again["parent_id"] >= 0).sum()
    assert 0 < nested <= (spans["parent_id"] >= 0).sum()


def test_a_second_export_is_the_same(golden_run, tmp_path):
    first, second = (export(golden_run, "otlp", tmp_path / name).read_bytes() for name in ("a.json", "b.json"))
    assert first == second and json.loads(first)["resourceSpans"][0]["scopeSpans"]


@pytest.mark.parametrize("name", ["gloo_cpu_rank34of300.json.gz", "triton_a100.json.gz"])
def test_a_profile_is_exported_whole(real_data, tmp_path, name):
    run = load(real_data / "traces" / name)
    assert by_start(read_back(run, tmp_path))["name"].tolist() == by_start(run.events)["name"].tolist()
