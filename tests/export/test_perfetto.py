"""Perfetto's file: every event, arrows, counters, the roofline's verdicts, the critical path; and it reads back."""

import gzip
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.export import export
from workbench.export.counters import counters
from workbench.export.perfetto import write_perfetto
from workbench.trace.loader import load
from workbench.trace.memory_table import memory_frame
from workbench.trace.run import Run
from workbench.trace.schema import TRAFFIC_COLUMNS, events_frame

# A launch, its kernel and a copy that came before it, then an all-reduce of both ranks; ns since EPOCH_NS.
EPOCH_NS = 1_700_000_000_000_000_000
ROWS = pd.DataFrame(
    [
        ("rank-0", "thread 1", "cpu", "cudaLaunchKernel", "runtime", 0, 2_000, -1, ""),
        ("rank-0", "stream 7", "cuda:0", "gemm", "compute", 5_000, 10_000, 0, ""),
        ("rank-0", "stream 8", "cuda:0", "Memcpy HtoD", "memory", 1_000, 4_000, -1, ""),
        ("rank-0", "stream 9", "cuda:0", "nccl", "communication", 20_000, 10_000, -1, "all_reduce"),
        ("rank-1", "stream 9", "cuda:1", "nccl", "communication", 26_000, 4_000, -1, "all_reduce"),
    ],
    columns=["process", "lane", "device", "name", "kind", "start_ns", "duration_ns", "launch_id", "collective"],
)  # fmt: skip


def hand_made():
    columns = ROWS.assign(
        start_ns=ROWS["start_ns"] + EPOCH_NS, rank=ROWS["process"].str[-1].astype(int),
        message_bytes=ROWS["collective"].map({"all_reduce": 8e6}), group_size=np.where(ROWS["collective"] == "", -1, 2),
    )  # fmt: skip
    memory = {"process": ["rank-0"] * 2, "rank": [0, 0], "device": ["cuda:0"] * 2, "address": [1, 1],
              "time_ns": [EPOCH_NS + 100, EPOCH_NS + 900], "bytes": [512, -512]}  # fmt: skip
    traffic = pd.DataFrame([(2, "pcie", 0.0, 4_000.0)], columns=list(TRAFFIC_COLUMNS)).astype(TRAFFIC_COLUMNS)
    events = events_frame({name: values.tolist() for name, values in columns.items()})
    return Run(Path("hand-made"), events=events, traffic=traffic, memory=memory_frame(memory))


def written(run, tmp_path):
    path = tmp_path / "x.json.gz"
    write_perfetto(run, path)
    return json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]


def of(records, phase, **wanted):
    return [row for row in records if row["ph"] == phase and wanted.items() <= row.items()]


def test_events_and_arrows_by_hand(tmp_path):
    records = written(hand_made(), tmp_path)
    assert Counter(row["ph"] for row in records) >= Counter(X=5, s=1, f=1)
    (kernel,) = of(records, "X", name="gemm")
    assert (kernel["ts"], kernel["dur"], kernel["cat"]) == (5, 10, "compute")
    assert kernel["args"] == {"event_id": 1, "source": "measured"}
    (start,), (finish,) = of(records, "s"), of(records, "f")
    assert (start["ts"], finish["ts"]) == (0, 5) and start["id"] == finish["id"]
    assert (finish["pid"], finish["tid"]) == (kernel["pid"], kernel["tid"])
    names = {row["args"]["name"] for row in of(records, "M")}
    assert {"rank-0", "rank-1", "critical path", "cuda:0 stream 7"} <= names


def test_counters_by_hand():
    found = {(counter.process, counter.name): counter for counter in counters(hand_made())}

    def steps(process, name):
        counter = found[process, name]
        return list(zip((counter.time_ns - EPOCH_NS).tolist(), counter.value.tolist(), strict=True))

    # 8 MB in the 4 us that both ranks took part; the factor of an all-reduce of two is 1.
    for process in ("rank-0", "rank-1"):
        assert steps(process, "bus bandwidth, all_reduce") == [(26_000, pytest.approx(2e12)), (30_000, 0)]
    assert steps("rank-0", "achieved bandwidth, copies over pcie") == [(1_000, 1e9), (5_000, 0)]
    assert steps("rank-0", "queue, cuda:0 stream 7") == [(0, 1), (15_000, 0)]
    assert steps("rank-0", "allocated memory, cuda:0") == [(100, 512), (900, 0)]


def test_the_critical_path_is_a_track_without_holes(tmp_path):
    records = written(hand_made(), tmp_path)
    begins, ends = of(records, "b"), of(records, "e")
    assert [row["ts"] for row in begins][1:] == [row["ts"] for row in ends][:-1]
    assert (begins[0]["ts"], ends[-1]["ts"]) == (0, 30)
    assert begins[-1]["name"] == "nccl" and begins[-1]["args"]["kind"] == "communication"


def test_our_own_run_with_verdicts_is_read_back(golden_run, tmp_path):
    path = export(golden_run, "perfetto", tmp_path / "x.json.gz")
    records = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    verdicts = [row["args"]["roofline"] for row in records if "roofline" in row.get("args", {})]
    assert all(set(verdict) == {"bound", "intensity", "headroom_ns"} for verdict in verdicts)
    assert {verdict["bound"] for verdict in verdicts} <= {"compute", "memory", "overhead", "inefficient"}
    assert verdicts and all(verdict["headroom_ns"] is not None for verdict in verdicts)
    assert "achieved bandwidth, operators (compulsory bytes)" in {row["name"] for row in of(records, "C")}
    again = load(path)
    assert len(again.events) == len(golden_run.events)
    assert sorted(again.events["name"].astype(str)) == sorted(golden_run.events["name"].astype(str))
    assert (np.sort(again.events["start_ns"]) - np.sort(golden_run.events["start_ns"]) == 0).mean() > 0.5
    assert abs(again.events["duration_ns"].sum() - golden_run.events["duration_ns"].sum()) < len(again.events)


TEXT = st.text(max_size=20).filter(lambda text: text.encode("utf-8", "ignore").decode() == text)


@given(st.lists(TEXT, min_size=1, max_size=5))
@settings(max_examples=8, deadline=None)
def test_names_stay_text(tmp_path_factory, names):
    names = [*names, "<script>alert(1)</script>", 'a"b\\c\x00\x1b[31m\n', "=1+1,2"]
    start_ns = [EPOCH_NS + n for n in range(len(names))]
    events = events_frame({"name": names, "start_ns": start_ns, "duration_ns": [1] * len(names)})
    run = Run(path=tmp_path_factory.mktemp("names"), events=events)
    assert [row["name"] for row in of(written(run, run.path), "X")] == names
    parquet = pd.read_parquet(export(run, "parquet", run.path / "x.parquet"))
    assert parquet["name"].astype(str).tolist() == names
    assert len(run.events.columns) == len(parquet.columns)


def test_tables_are_read_back(golden_run, tmp_path):
    parquet = pd.read_parquet(export(golden_run, "parquet", tmp_path / "x.parquet"))
    pd.testing.assert_frame_equal(parquet.astype(golden_run.events.dtypes), golden_run.events)
    csv = pd.read_csv(export(golden_run, "csv", tmp_path / "x.csv"), keep_default_na=False, na_values={"flops": ""})
    assert csv["name"].tolist() == golden_run.events["name"].astype(str).tolist()
    assert (csv["start_ns"] == golden_run.events["start_ns"]).all()


def test_a_run_without_events(tmp_path):
    assert written(Run(tmp_path), tmp_path) == []


@pytest.mark.parametrize("name", ["dlrm_8x_v100", "mtia_inference.json.gz", "minitoy_mi250.json.gz"])
def test_public_traces(real_data, tmp_path, name):
    run = load(real_data / "traces" / name)
    records = written(run, tmp_path)
    assert len(of(records, "X")) == len(load(tmp_path / "x.json.gz").events) == len(run.events)
    assert of(records, "b") and any(row["name"].startswith("queue") for row in of(records, "C"))
