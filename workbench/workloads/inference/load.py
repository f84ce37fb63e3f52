"""Load by MLPerf LoadGen (Reddi et al., ISCA 2020; package mlcommons-loadgen), which decides when requests are sent.

`single_stream` sends the next request when the last is answered, `server` sends by a Poisson process of `qps`, and
`offline` hands over all at once and measures throughput. `server_peak` is LoadGen's own search for the largest
rate whose `sla_percentile` latency stays within `sla_ms`.

LoadGen calls from a thread of its own and counts latency from the moment at which it meant to send. It tells those
moments only in its trace, afterwards: the spans that begin with them are corrected then (`EarlierStarts`). Its rules
for submissions (600 s a test) are set aside for `min_duration_s` and `requests`; its logs, in the run's folder
`loadgen`, say so.
"""

import asyncio
import json
import re
import threading
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from workbench.errors import InputError, WorkFailed
from workbench.trace.recorder import Recorder
from workbench.trace.schema import LaneLine
from workbench.workloads.inference.client import Answer, Echo, RankClient
from workbench.workloads.inference.config import Config
from workbench.workloads.inference.protocol.messages import Request

LIBRARY_REQUESTS = 256  # different requests, of which LoadGen draws
_ECHO_SECONDS = 0.05
_TRACED = re.compile(r'"name":"Sample".*"ph":"b".*"ts":([\d.]+),"args":\{"sample_seq":(\d+),')
_LOGGED = ":::MLLOG "


class EarlierStarts:
    """A recorder for `RankClient` that learns only afterwards when its requests were to be sent.

    Spans are recorded as they end, so that a kill loses no more of them than elsewhere. Those that begin when a
    request was to be sent are recorded once more when that is known, and latencies only then.
    """

    def __init__(self, recorder: Recorder) -> None:
        self.enabled, self.process, self.step = recorder.enabled, recorder.process, -1
        self._recorder = recorder
        self._requests: list[LaneLine] = []
        self._latencies: list[tuple[int, float]] = []

    def add_line(self, line: LaneLine) -> None:
        """As `Recorder.add_line`."""
        self._recorder.add_line(line)
        self._requests.append(line)

    def metric(self, name: str, value: float) -> None:
        """As `Recorder.metric`."""
        self._latencies.append((self.step, value))

    def correct(self, delays_ns: dict[int, int]) -> None:
        """Let every request (by number; 0 without) begin `delays_ns` earlier than it was sent."""
        for line in self._requests:
            if delay_ns := delays_ns.get(line.step):
                for span in line.spans:
                    if span.name in ("request", "send_delay"):
                        span.start_ns -= delay_ns
                self._recorder.add_line(line)
        for step, latency_ns in self._latencies:
            self._recorder.step = step
            self._recorder.metric("latency_ns", latency_ns + delays_ns.get(step, 0))


@dataclass(frozen=True)
class Load:
    """What became of a load: the answers, whose latencies count from when they were meant to be sent; how much later
    than that LoadGen sent each, by request number; and what LoadGen itself reports."""

    answers: list[Answer]
    delays_ns: dict[int, int]
    report: dict[str, Any]


async def drive(client: RankClient, echo: Echo, requests: Sequence[Request], config: Config, folder: Path) -> Load:
    """Run LoadGen's scenario `config.load` over the library `requests`, numbered after the warm-up; its logs go to the
    new `folder`. WorkFailed when LoadGen fails, InputError when a search begins above the peak."""
    import mlperf_loadgen

    folder.mkdir(parents=True)
    loop = asyncio.get_running_loop()
    answers: dict[int, Answer] = {}
    sent_ns: dict[int, int] = {}
    asking: set[asyncio.Task] = set()
    # Offline would overrun the server's queue; a caller with a batch to score sends as much as is taken.
    room = asyncio.Semaphore(config.concurrency + config.queue) if config.load == "offline" else nullcontext()
    by_rate = config.load in ("server", "server_peak")

    async def ask(number: int, sample: int, request: Request) -> None:
        async with room:
            sent_ns[number] = time.monotonic_ns()
            answer = answers[number] = await client.rank(number, request, config.deadline_s)
        if answer.status != "OK" and by_rate:
            # LoadGen knows no failures: one that came quickly must not pass for a quick answer.
            await asyncio.sleep(config.sla_ms / 1e3)
        mlperf_loadgen.QuerySamplesComplete([mlperf_loadgen.QuerySampleResponse(sample, 0, 0)])

    def begin(samples: list[tuple[int, int]], number: int) -> None:
        for sample, index in samples:
            task = loop.create_task(ask(number, sample, requests[index]))
            asking.add(task)
            task.add_done_callback(asking.discard)
            number += 1

    issued_ns: list[int] = []

    def issue(samples: list) -> None:  # on LoadGen's thread
        number = config.warmup_requests + len(issued_ns)
        issued_ns.extend([time.monotonic_ns()] * len(samples))
        loop.call_soon_threadsafe(begin, [(sample.id, sample.index) for sample in samples], number)

    echoing = loop.create_task(_echoes(echo, config.deadline_s))
    try:
        await _on_thread(lambda: _test(issue, len(requests), config, folder))
    finally:
        echoing.cancel()
    report = _report(folder, config)
    if config.load == "server_peak" and not report["result_perf_constraints_met"]:
        # LoadGen ends the search there, and its figures would pass for the peak's.
        limit = f"P{config.sla_percentile:g} exceeds sla_ms={config.sla_ms:g}"
        raise InputError(f"setting qps={config.qps:g}: the search begins there, and {limit} already; begin lower")
    meant_ns = _meant_ns(folder, issued_ns)
    delays_ns = {number: sent_ns[number] - meant_ns[number - config.warmup_requests] for number in sent_ns}
    late = [replace(answers[number], latency_ns=answers[number].latency_ns + delays_ns[number]) for number in answers]
    return Load(late, delays_ns, report)


async def _echoes(echo: Echo, timeout_seconds: float) -> None:
    while True:
        await echo.ask(timeout_seconds)
        await asyncio.sleep(_ECHO_SECONDS)


async def _on_thread(function: Any) -> None:
    """Call it on a thread that the process need not wait for: LoadGen cannot be interrupted."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def call() -> None:
        try:
            function()
        except Exception as error:
            loop.call_soon_threadsafe(done.set_exception, WorkFailed(f"LoadGen: {error}"))
        else:
            loop.call_soon_threadsafe(done.set_result, None)

    threading.Thread(target=call, name="loadgen", daemon=True).start()
    await done


def _test(issue: Any, library: int, config: Config, folder: Path) -> None:
    """One of LoadGen's tests, from its start to the last answer."""
    import mlperf_loadgen as loadgen

    log = loadgen.LogSettings()
    log.log_output.outdir, log.log_output.copy_summary_to_stdout = str(folder), False
    log.enable_trace = True
    system = loadgen.ConstructSUT(issue, lambda: None)
    samples = loadgen.ConstructQSL(library, library, lambda _: None, lambda _: None)
    try:
        # Named, so that no audit.config of the current folder changes the test.
        audit = str(folder / "audit.config")
        loadgen.StartTestWithLogSettings(system, samples, _settings(config), log, audit)
    finally:
        loadgen.DestroyQSL(samples)
        loadgen.DestroySUT(system)


def _settings(config: Config) -> Any:
    """LoadGen's settings of this configuration."""
    import mlperf_loadgen as loadgen

    scenarios = {"single_stream": "SingleStream", "offline": "Offline"}
    settings = loadgen.TestSettings()
    settings.scenario = getattr(loadgen.TestScenario, scenarios.get(config.load, "Server"))
    search = config.load == "server_peak"
    settings.mode = loadgen.TestMode.FindPeakPerformance if search else loadgen.TestMode.PerformanceOnly
    settings.min_query_count = config.requests
    settings.min_duration_ms = round(config.min_duration_s * 1e3)
    settings.server_target_qps = settings.offline_expected_qps = config.qps
    settings.server_target_latency_ns = round(config.sla_ms * 1e6)
    settings.server_target_latency_percentile = config.sla_percentile / 100
    settings.single_stream_target_latency_percentile = config.sla_percentile / 100
    settings.qsl_rng_seed, settings.sample_index_rng_seed, settings.schedule_rng_seed = (
        config.seed + offset for offset in (1, 2, 3)
    )
    return settings


def _report(folder: Path, config: Config) -> dict[str, Any]:
    """What LoadGen's log says about the result, and the settings that replaced those of a submission."""
    log = (folder / "mlperf_log_detail.txt").read_text()
    entries = [json.loads(line.removeprefix(_LOGGED)) for line in log.splitlines() if line.startswith(_LOGGED)]
    found = {
        entry["key"]: entry["value"] for entry in entries if entry["key"].startswith(("result_", "early_", "found_"))
    }
    return {"min_duration_s": config.min_duration_s, "min_queries": config.requests, **found}


def _meant_ns(folder: Path, issued_ns: Sequence[int]) -> list[int]:
    """When LoadGen meant to send each request, in the order in which it did (`time.monotonic_ns`).

    Its trace counts from a moment of its own. No request is issued before its time, so the one that came closest to it
    says where that moment lies: all are late by what that one was late, some microseconds.
    """
    trace = (folder / "mlperf_log_trace.json").read_text()
    meant_ns = sorted(round(float(start_us) * 1e3) for start_us, _ in _TRACED.findall(trace))
    if len(meant_ns) != len(issued_ns):
        raise WorkFailed(f"LoadGen's trace holds {len(meant_ns)} requests, but it sent {len(issued_ns)}")
    origin_ns = min(issued - meant for issued, meant in zip(issued_ns, meant_ns, strict=True))
    return [meant + origin_ns for meant in meant_ns]
