"""The recorder: what is written, what survives a kill, what is refused."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import InputError
from workbench.trace import streams
from workbench.trace.readers import spans
from workbench.trace.recorder import Recorder
from workbench.trace.schema import KINDS, TRAFFIC_COLUMNS, Header, Span


def test_nested_spans_become_events_with_parents(tmp_path):
    with Recorder(tmp_path, "trainer-0", rank=3) as recorder:
        recorder.step = 7
        with recorder.span("step"), recorder.span("lookup", kind="compute", phase="forward", flops=8.0):
            pass
        before_ns = time.time_ns()
    events = spans.read(tmp_path / "trainer-0.spans.jsonl").events.set_index("name")
    assert events.loc["lookup", "parent_id"] == events.loc["step", "event_id"]
    assert events.loc["step", "parent_id"] == -1
    assert list(events["step"]) == [7, 7] and list(events["rank"]) == [3, 3]
    assert events.loc["lookup", ["kind", "phase", "flops", "lane"]].tolist() == [
        "compute",
        "forward",
        8.0,
        "main/spans",
    ]
    assert abs(events.loc["step", "start_ns"] - before_ns) < 60e9  # Unix time


def test_an_exception_closes_its_span_and_passes_on(tmp_path):
    with Recorder(tmp_path, "p") as recorder, pytest.raises(KeyError), recorder.span("bad", tags="gc"):
        raise KeyError
    assert spans.read(tmp_path / "p.spans.jsonl").events["tags"].tolist() == ["gc error"]


def test_wrong_fields_are_refused_when_the_span_opens(tmp_path):
    with Recorder(tmp_path, "p") as recorder:
        for wrong in ({"kind": "magic"}, {"colour": "red"}, {"source": "guessed"}, {"start_ns": 1}):
            with pytest.raises(ValueError, match="span 'x'"):
                recorder.span("x", **wrong)


def test_traffic_is_a_row_a_span_and_tier(tmp_path):
    with Recorder(tmp_path, "p") as recorder:
        moved = {}
        with recorder.span("outer", traffic={"dram": (0, 8)}), recorder.span("fetch", kind="storage", traffic=moved):
            moved |= {"dram": (64, 0), "ssd": (4096, 512)}  # known once it is done
    part = spans.read(tmp_path / "p.spans.jsonl")
    names = part.events.set_index("event_id")["name"].astype("str")
    rows = [(names[row.event_id], row.tier, row.read_bytes, row.write_bytes) for row in part.traffic.itertuples()]
    assert rows == [("fetch", "dram", 64, 0), ("fetch", "ssd", 4096, 512), ("outer", "dram", 0, 8)]
    assert part.traffic.dtypes.astype(str).to_dict() == TRAFFIC_COLUMNS


@pytest.mark.parametrize("traffic", ['{"tape":[1,1]}', '{"ssd":[-1,0]}', '{"ssd":[1]}'])
def test_wrong_traffic_is_damage(tmp_path, traffic):
    with Recorder(tmp_path, "p") as recorder, recorder.span("x"):
        pass
    path = tmp_path / "p.spans.jsonl"
    path.write_text(path.read_text().replace('"kind":"span"', f'"kind":"span","traffic":{traffic}'))
    with pytest.raises(InputError, match="line 2 is no span record"):
        spans.read(path)


def test_off_records_nothing_and_accepts_everything():
    recorder = Recorder(None)
    with recorder.span("x", kind="compute"):
        recorder.metric("loss", 1.0)
        recorder.accesses(0, [1], [2])
    recorder.flush()
    recorder.close()
    assert not recorder.enabled


def test_spans_of_threads_keep_their_lane_and_none_is_lost(tmp_path):
    def work():
        for _ in range(500):
            with recorder.span("x"):
                pass

    with Recorder(tmp_path, "p") as recorder:
        threads = [threading.Thread(target=work, name=f"t{i}") for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            recorder.flush()
            thread.join()
    events = spans.read(tmp_path / "p.spans.jsonl").events
    assert events["lane"].value_counts().to_dict() == {f"t{i}/spans": 500 for i in range(4)}


def test_metrics_and_accesses_round_trip(tmp_path):
    with Recorder(tmp_path, "trainer-1") as recorder:
        recorder.step = 2
        recorder.metric("loss", 0.5)
        recorder.accesses(4, lengths=[2, 0, 1], rows=np.array([9, 9, 1]))
        recorder.accesses(5, lengths=[], rows=[])
    metrics, accesses = streams.read_metrics([tmp_path]), streams.read_accesses([tmp_path])
    assert metrics[["process", "step", "name", "value"]].values.tolist() == [["trainer-1", 2, "loss", 0.5]]
    assert accesses["table"].tolist() == [4, 5] and accesses["step"].tolist() == [2, 2]
    assert accesses["lengths"][0].tolist() == [2, 0, 1] and accesses["rows"][0].tolist() == [9, 9, 1]
    assert len(accesses["rows"][1]) == 0


def test_device_time_wins_where_the_host_ran_ahead(tmp_path):
    class Device:
        name = "cuda:0"

        def mark(self):
            return time.monotonic_ns()

        def elapsed_ns(self, start, end):
            return 5_000_000_000

    with Recorder(tmp_path, "p", device=Device()) as recorder, recorder.span("launch", kind="compute"):
        pass
    events = spans.read(tmp_path / "p.spans.jsonl").events
    assert events["duration_ns"].tolist() == [5_000_000_000] and events["device"].tolist() == ["cuda:0"]


def test_a_killed_process_loses_at_most_the_last_second(tmp_path):
    program = f"""
import time
from pathlib import Path
from workbench.trace.recorder import Recorder
recorder = Recorder(Path({str(tmp_path)!r}), "victim")
print("ready", flush=True)
for step in range(10**9):
    recorder.step = step
    recorder.metric("step", step)
    with recorder.span("x"):
        time.sleep(0.005)
"""
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    child.stdout.readline()
    time.sleep(1.6)
    os.kill(child.pid, signal.SIGKILL)
    killed_ns = time.time_ns()
    child.wait()
    child.stdout.close()
    events = spans.read(tmp_path / "victim.spans.jsonl").events
    last_end_ns = (events["start_ns"] + events["duration_ns"]).max()
    assert len(events) > 50 and killed_ns - last_end_ns < 1e9
    assert len(streams.read_metrics([tmp_path])) > 50


def test_flipped_bytes_in_a_stream_never_crash_the_reader(tmp_path):
    with Recorder(tmp_path, "p") as recorder:
        for step in range(20):
            recorder.accesses(0, [2, 1], [step, 1, 2])
    path, rng = tmp_path / "p.accesses.arrow", np.random.default_rng(0)
    whole = path.read_bytes()
    for _ in range(300):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), 4):
            damaged[place] = rng.integers(0, 256)
        path.write_bytes(damaged)
        assert len(streams.read_accesses([tmp_path])) <= 20


def test_damaged_span_files(tmp_path):
    path = tmp_path / "p.spans.jsonl"
    with Recorder(tmp_path, "p") as recorder:
        for _ in range(3):
            with recorder.span("x"):
                pass
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    part = spans.read(path)
    assert len(part.events) == 2 and "last line was cut" in part.notes[0]
    path.write_bytes(whole.replace(b'"kind":"span"', b'"kind":"spam"', 1))
    with pytest.raises(InputError, match=r"line 2 is no span record: .*'spam' is not one of"):
        spans.read(path)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="first line is not a header"):
        spans.read(path)
    path.write_bytes(whole.replace(b'"schema":2', b'"schema":99', 1))
    with pytest.raises(InputError, match="schema 99"):
        spans.read(path)


text = st.text(max_size=20)


@given(
    st.lists(
        st.builds(
            Span, name=text, kind=st.sampled_from(KINDS), start_ns=st.integers(0, 2**50), tags=text, lane=text,
            duration_ns=st.integers(0, 2**40), step=st.integers(-1, 2**40), phase=text,
            message_bytes=st.none() | st.floats(0, 1e15),
        ),
        max_size=8,
    )
)  # fmt: skip
def test_any_valid_span_survives_the_file(tmp_path_factory, records):
    import msgspec

    path = tmp_path_factory.mktemp("spans") / "p.spans.jsonl"
    header = Header(schema=1, process="p", rank=0, pid=1, host="h", wall_ns=1000, monotonic_ns=0)
    path.write_bytes(b"\n".join(msgspec.json.encode(record) for record in [header, *records]) + b"\n")
    events = spans.read(path).events
    assert events["name"].tolist() == [record.name for record in records]
    assert events["start_ns"].tolist() == [record.start_ns + 1000 for record in records]
    assert events["step"].tolist() == [record.step for record in records]
