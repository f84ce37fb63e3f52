"""What the profiler's log in a trace says of events that it lost."""

import pytest

from workbench.trace.readers import kineto
from workbench.trace.readers.about import complaints

COUNTS = (
    "INFO:2024-05-22 17:15:23 29:29 CuptiActivityProfiler.cpp:333] Record counts: Out-of-range = 4181, Blocklisted "
    "runtime = 37458, Invalid ext correlations = 0, CPU GPU out-of-order = 2, Unexpected CUDA events = 0, CUPTI "
    "stopped early? = 1"
)


def test_records_that_were_lost_or_doubted():
    said = "Out-of-range = 4181, CPU GPU out-of-order = 2, CUPTI stopped early? = 1"
    assert complaints({"INFO": ["INFO: other", COUNTS]}) == [
        f"the profiler left out or doubted events, by its own count: {said}"
    ]


def test_warnings_and_errors_in_one_short_line_each():
    dropped = "WARNING:2024-05-22 17:15:23 29:29 CuptiActivityApi.cpp:120] Dropped 512 activity\nrecords"
    log = {"WARNING": [dropped, "odd " * 100], "ERROR": ["one", "two", "three"]}
    notes = complaints(log)
    assert notes[0] == "the profiler logged this warning: Dropped 512 activity records"
    assert len(notes[1]) < 220 and notes[2].endswith("error: one")
    assert notes[3] == "the profiler logged 2 more warnings and errors"


@pytest.mark.parametrize("log", [{}, {"INFO": "text", "ERROR": {"a": 1}, "WARNING": None}, {"INFO": [None, 3, []]}])
def test_nothing_to_complain_about(log):
    assert complaints(log) == []


def test_public_traces_that_say_so(real_data):
    notes = kineto.read(real_data / "traces" / "ddp_a100_rank0of2_nccl_args.json.gz").notes
    assert any(note.endswith("by its own count: Out-of-range = 4181") for note in notes)
    notes = kineto.read(real_data / "traces" / "mtia_inference.json.gz").notes
    assert any("logged this error: gpuGetDeviceCount failed" in note for note in notes)
