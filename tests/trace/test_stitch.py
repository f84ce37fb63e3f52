"""Spans and profiler windows of one process, stitched: steps, phases and tags worked out by hand."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from workbench.trace.loader import load
from workbench.trace.part import Part
from workbench.trace.schema import events_frame, validate_events
from workbench.trace.stitch import stitch

GOLDEN = Path(__file__).parents[2] / "traces" / "golden" / "training-2-ranks"
US = 1000


def spans_part():
    # Two steps of 100 us: input, then forward around a nested lookup, then backward; a prefetching thread beside.
    table = [
        ("train", "main/spans", -1, "", "", 0, 1000),
        ("step", "main/spans", 4, "", "warmup", 0, 100),
        ("step", "main/spans", 5, "", "", 100, 100),
        ("input", "main/spans", 5, "input", "", 100, 20),
        ("forward", "main/spans", 5, "forward", "", 120, 40),
        ("lookup", "main/spans", 5, "", "", 130, 20),
        ("loss", "main/spans", 5, "loss", "", 150, 5),
        ("prefetch", "loader/spans", 6, "input", "", 110, 80),
        ("step", "main/spans", 6, "", "gc", 200, 100),
        ("step", "main/spans", 7, "", "", 300, 100),
    ]
    name, lane, step, phase, tags, start_us, duration_us = zip(*table, strict=True)
    events = events_frame(
        {
            "name": pd.Categorical(name), "lane": pd.Categorical(lane), "step": step, "phase": pd.Categorical(phase),
            "tags": pd.Categorical(tags), "process": pd.Categorical(["trainer-1"] * len(table)),
            "rank": [1] * len(table),
            "start_ns": np.array(start_us) * US, "duration_ns": np.array(duration_us) * US,
        }
    )  # fmt: skip
    info = {"file": "t.spans.jsonl", "process": "trainer-1", "rank": 1, "host": "h", "pid": 7}
    return Part(events=events, info=info, notes=["from the spans"])


def profile_part(rows, file="t.pt.trace.json.gz"):
    name, step, phase, start_us, duration_us = zip(*rows, strict=True)
    count = len(rows)
    events = events_frame(
        {
            "name": pd.Categorical(name), "lane": pd.Categorical(["thread 9"] * count), "step": step,
            "phase": pd.Categorical(phase), "start_ns": np.array(start_us) * US,
            "duration_ns": np.array(duration_us) * US, "operator_id": [0] * count,
            "parent_id": [-1] + [0] * (count - 1), "kind": pd.Categorical(["span"] + ["compute"] * (count - 1)),
        }
    )  # fmt: skip
    operators = pd.DataFrame(
        {"name": ["op"], "input_dims": ["[[1]]"], "input_types": ['["float"]'], "concrete_inputs": [""]}, dtype="str"
    )
    info = {"file": file, "rank": -1, "world_size": 2, "backend": "gloo", "devices": []}
    return Part(events=events, operators=operators, info=info, notes=["from the profile"])


WINDOW = [
    ("ProfilerStep#5", 5, "", 100, 101),  # reaches 1 us into the next step
    ("aten::copy_", 5, "", 101, 10),
    ("aten::mm", -1, "", 122, 4),
    ("fbgemm::lookup", -1, "", 131, 4),
    ("aten::bce", -1, "", 149, 8),  # its middle lies in the loss
    ("aten::mm", 5, "backward", 170, 10),  # no span has a phase there: its own stays
]


def test_by_hand():
    part = stitch(spans_part(), [profile_part(WINDOW)])
    validate_events(part.events)
    operators = part.events[part.events["lane"] == "thread 9"]
    assert operators[["name", "step", "phase"]].astype("object").values.tolist() == [
        ["ProfilerStep#5", 5, ""],  # longer than the loss in its middle
        ["aten::copy_", 5, "input"],
        ["aten::mm", 5, "forward"],
        ["fbgemm::lookup", 5, "forward"],  # the innermost span with a phase, not the innermost span
        ["aten::bce", 5, "loss"],
        ["aten::mm", 5, "backward"],
    ]
    assert set(operators["process"]) == {"trainer-1"} and set(operators["rank"]) == {1}
    assert set(operators["tags"]) == {"profiled"}
    assert operators["parent_id"].tolist() == [-1] + [10] * 5  # keys are counted on behind the spans


def test_steps_under_a_window_are_tagged_profiled():
    events = stitch(spans_part(), [profile_part(WINDOW)]).events
    steps = events[events["name"] == "step"].set_index("step")["tags"].astype(str)
    assert steps.to_dict() == {4: "warmup", 5: "profiled", 6: "gc", 7: ""}
    assert events.loc[events["name"] == "train", "tags"].tolist() == [""]  # the run as a whole is no step


def test_several_windows():
    late = [("ProfilerStep#6", 6, "", 201, 99), ("aten::mm", -1, "", 210, 4)]
    part = stitch(spans_part(), [profile_part(WINDOW), profile_part(late, file="t.w1.pt.trace.json.gz")])
    validate_events(part.events)
    steps = part.events[part.events["name"] == "step"].set_index("step")["tags"].astype(str)
    assert steps.to_dict() == {4: "warmup", 5: "profiled", 6: "gc profiled", 7: ""}
    assert part.events["step"].tolist()[-1] == 6
    assert len(part.operators) == 1  # equal signatures share a row
    assert part.info["profiles"] == ["t.pt.trace.json.gz", "t.w1.pt.trace.json.gz"]


def test_info_and_notes_of_both():
    part = stitch(spans_part(), [profile_part(WINDOW)])
    assert (part.info["rank"], part.info["process"], part.info["file"]) == (1, "trainer-1", "t.spans.jsonl")
    assert (part.info["world_size"], part.info["backend"]) == (2, "gloo")
    assert part.notes == ["from the spans", "from the profile"]


def test_without_profiles_the_spans_stand_alone():
    spans = spans_part()
    assert stitch(spans, []) is spans


def test_without_spans_the_profile_keeps_what_it_knows():
    spans = spans_part()
    spans.events = spans.events.iloc[:0]
    part = stitch(spans, [profile_part(WINDOW)])
    assert part.events["step"].tolist() == [5, 5, -1, -1, -1, 5]
    assert part.events["phase"].tolist()[-1] == "backward"


def test_a_process_that_recorded_no_span_keeps_its_profile(tmp_path):
    run = tmp_path / "run"
    shutil.copytree(GOLDEN, run, ignore=shutil.ignore_patterns(".*"))
    spans = run / "trainer-0.spans.jsonl"
    spans.write_text(spans.read_text().splitlines(keepends=True)[0])  # its header
    events = load(run).events
    profiled = events[events["process"] == "trainer-0"]
    assert set(profiled["rank"]) == {0} and "aten::bmm" in set(profiled["name"])
