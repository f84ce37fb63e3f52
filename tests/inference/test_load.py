"""LoadGen's arrivals, and what a request's latency counts from; against a caller that answers as the test says."""

import asyncio
import operator
import time

import numpy as np
import pytest
from scipy import stats

from workbench.errors import InputError
from workbench.trace.readers import spans
from workbench.trace.recorder import Recorder
from workbench.workloads.inference.client import Answer
from workbench.workloads.inference.config import Config
from workbench.workloads.inference.load import EarlierStarts, drive
from workbench.workloads.inference.models import model_config
from workbench.workloads.inference.requests import _drawn, make_requests, request_sizes
from workbench.workloads.inference.tracing import Lane, TraceContext

pytest.importorskip("mlperf_loadgen")


class Echoless:
    async def ask(self, timeout_seconds):
        pass


class Caller:
    """Answers each request `seconds` after it was sent, one at a time."""

    def __init__(self, seconds, status="OK"):
        self.seconds, self.status = seconds, status
        self.sent_ns, self.asked = {}, []
        self._turn = asyncio.Semaphore(1)

    async def rank(self, number, request, deadline_s):
        start_ns = time.monotonic_ns()
        self.sent_ns[number] = start_ns
        self.asked.append(request)
        async with self._turn:
            if self.seconds:
                await asyncio.sleep(self.seconds)
        return Answer(time.monotonic_ns() - start_ns, status=self.status)


def drove(folder, caller, **settings):
    config = Config(**{"model": "tiny", "warmup_requests": 3, "min_duration_s": 0.05, **settings})
    return asyncio.run(drive(caller, Echoless(), list("abcdefgh"), config, folder / "loadgen"))


def test_poisson_arrivals_have_exponential_gaps(tmp_path):
    caller = Caller(0)
    load = drove(tmp_path, caller, load="server", qps=2000, requests=600)
    meant_ns = np.array([caller.sent_ns[number] - load.delays_ns[number] for number in sorted(caller.sent_ns)])
    gaps_ns = np.diff(meant_ns)
    assert sorted(caller.sent_ns)[:2] == [3, 4] and len(gaps_ns) >= 599
    assert gaps_ns.mean() == pytest.approx(1e9 / 2000, rel=0.15)
    assert gaps_ns.std() / gaps_ns.mean() == pytest.approx(1, abs=0.15)
    assert stats.kstest(gaps_ns, "expon", args=(0, 1e9 / 2000)).pvalue > 0.01
    assert set(caller.asked) == set("abcdefgh")


def test_latency_counts_from_the_intended_moment_and_agrees_with_loadgen(tmp_path):
    load = drove(tmp_path, Caller(0.002), load="server", qps=200, requests=60)
    latencies_ns = [answer.latency_ns for answer in load.answers]
    assert min(load.delays_ns.values()) >= 0 and len(latencies_ns) == len(load.delays_ns) >= 60
    assert load.report["result_50.00_percentile_latency_ns"] == pytest.approx(np.median(latencies_ns), rel=0.25)
    assert load.report["min_duration_s"] == 0.05 and load.report["result_validity"] in ("VALID", "INVALID")


def test_a_quick_failure_is_no_quick_answer(tmp_path):
    load = drove(tmp_path, Caller(0, "RESOURCE_EXHAUSTED"), load="server", qps=500, requests=20, sla_ms=40)
    assert load.report["result_50.00_percentile_latency_ns"] >= 40e6
    assert {answer.status for answer in load.answers} == {"RESOURCE_EXHAUSTED"}


def test_a_single_stream_waits_for_its_answer(tmp_path):
    caller = Caller(0.002)
    load = drove(tmp_path, caller, load="single_stream", requests=15)
    sent_ns = [caller.sent_ns[number] for number in sorted(caller.sent_ns)]
    assert np.diff(sent_ns).min() >= 2e6 and len(load.answers) >= 15


def test_offline_sends_as_much_as_is_taken(tmp_path):
    load = drove(tmp_path, Caller(0), load="offline", requests=50, qps=500, concurrency=2, queue=3)
    assert len(load.answers) >= 50 and load.report["result_samples_per_second"] > 0


def test_the_search_ends_near_what_one_server_can_do(tmp_path):
    """5 ms a request, one at a time: below 200 a second, and above what would bore it."""
    load = drove(tmp_path, Caller(0.005), load="server_peak", requests=30, qps=40, sla_ms=30, sla_percentile=90)
    assert 60 < load.report["result_scheduled_samples_per_sec"] < 260


def test_a_search_that_begins_above_the_peak_says_so(tmp_path):
    with pytest.raises(InputError, match="qps=400: the search begins there, and P90 exceeds sla_ms=10 already"):
        drove(tmp_path, Caller(0.02), load="server_peak", requests=20, qps=400, sla_ms=10, sla_percentile=90)


def test_requests_begin_when_they_were_to_be_sent_and_are_there_before_that_is_known(tmp_path):
    def recorded():
        return spans.read(tmp_path / "client.spans.jsonl").events.set_index("name")

    with Recorder(tmp_path, "client") as recorder:
        starts = EarlierStarts(recorder)
        lane = Lane(starts, "request-0", TraceContext.new(7))

        async def work():
            with lane.span("request"), lane.span("rpc", kind="communication"):
                pass

        asyncio.run(lane.run(work()))
        starts.step = 7
        starts.metric("latency_ns", 4000)
        recorder.flush()
        sent = recorded()
        starts.correct({7: 300})
    corrected = recorded()
    assert sorted(corrected.index) == sorted(sent.index) == ["request", "rpc"]
    assert (sent["start_ns"] - corrected["start_ns"]).to_dict() == {"request": 300, "rpc": 0}
    assert (corrected["duration_ns"] - sent["duration_ns"]).to_dict() == {"request": 300, "rpc": 0}


def test_sizes_of_requests(tmp_path):
    assert request_sizes(Config(items=5), 3) == [5, 5, 5]
    drawn = np.array(request_sizes(Config(items=100, sizes="lognormal"), 20_000))
    assert drawn.mean() == pytest.approx(100, rel=0.05) and np.median(drawn) == pytest.approx(61, rel=0.05)
    file = tmp_path / "sizes.txt"
    file.write_text("4\n1\n9\n")
    assert request_sizes(Config(sizes_file=str(file)), 5) == [4, 1, 9, 4, 1]
    model = model_config("tiny")
    made = list(make_requests(model, [4, 1, 9, 9], seed=1))
    assert [len(request) for request in made] == [4, 1, 9, 9]
    alone = list(make_requests(model, [9] * 4, seed=1))[3]
    np.testing.assert_array_equal(made[3].bags.ids, alone.bags.ids)


@pytest.mark.parametrize(
    ("content", "words"), [("4\nfour\n", "'four'"), ("0\n", "'0'"), ("", "empty"), (None, "cannot")]
)
def test_wrong_sizes_are_said(tmp_path, content, words):
    file = tmp_path / "sizes.txt"
    if content is not None:
        file.write_text(content)
    with pytest.raises(InputError, match=words):
        request_sizes(Config(sizes_file=str(file)), 5)


def test_a_load_needs_loadgen(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install"):
        Config(load="server")


def test_requests_are_drawn_once_for_whoever_asks_again_for_fewer():
    """A study's deployments ask for 36 of the 64 which its planner counts: a chunk in part."""
    model = model_config("tiny")
    planner = list(make_requests(model, [2] * 64, seed=5))
    drawn = _drawn.cache_info().misses
    run = list(make_requests(model, [2] * 36, seed=5))
    again = list(make_requests(model, [2] * 64, seed=5))
    assert _drawn.cache_info().misses == drawn
    assert len(run) == 36 and all(map(operator.is_, run, planner)) and all(map(operator.is_, again, planner))
