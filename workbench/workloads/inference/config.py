"""Every setting of the inference workload, and the presets: functions that change a few of them."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from workbench.errors import InputError
from workbench.workloads.inference.models import MODELS
from workbench.workloads.inference.models.config import TableType
from workbench.workloads.inference.strategies import STRATEGIES


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """Settings of one server: `workbench serve main|shard --set key=value`."""

    threads_per_process: int = 1  # of each operator
    table_type: TableType = "fp32"  # how rows are kept in memory; what is exported stays fp32
    workers: int = 1  # main shard: operators that run at the same time
    batch_items: int | None = None  # main shard: items a batch; none: a request is one batch
    concurrency: int = 4  # main shard: requests that are worked on at the same time
    queue: int = 32  # main shard: requests that may wait; any more are refused
    deadline_s: float = 1.0  # of a request whose caller sets none
    # Main shard: batches and RPCs one after the other, so that none slows another on a machine with few cores. The
    # latency analysis puts them side by side again, as a model of a machine with a core for each.
    uncontended: bool = False
    drain_s: float = 5.0  # what requests under way are given when a server is told to stop
    # A simulated network between the main and the sparse shards, in each direction.
    network_delay_us: float = 0.0
    network_gbit_per_s: float | None = None
    # Mutual TLS between all processes and callers, with PEM files; none of the three: plain text.
    tls_certificate: str | None = None
    tls_key: str | None = None
    tls_authority: str | None = None

    def __post_init__(self) -> None:
        above_zero("threads_per_process", "workers", "concurrency", "deadline_s", of=self)
        if not (self.queue >= 0 and self.drain_s >= 0 and self.network_delay_us >= 0):
            raise InputError("settings queue, drain_s and network_delay_us must be 0 or more")
        if self.batch_items is not None and self.batch_items < 1:
            raise InputError(f"setting batch_items={self.batch_items}: must be 1 or more, or none")
        if self.network_gbit_per_s is not None and not self.network_gbit_per_s > 0:
            raise InputError(f"setting network_gbit_per_s={self.network_gbit_per_s}: must be above 0, or none")
        files = [self.tls_certificate, self.tls_key, self.tls_authority]
        if any(files) and not all(files):
            raise InputError("TLS needs all of the settings tls_certificate, tls_key and tls_authority")


@dataclass(frozen=True, kw_only=True)
class Config(ServerConfig):
    """`workbench run inference --set key=value`; an unknown key or a value that cannot work stops the run."""

    # What is served
    model: str = "drm1-mini"
    rows_factor: float = 1.0  # rows a table, over those of the model as it is named
    exported: str | None = None  # the folder of an exported model, instead of `model`
    # Servers that run already (`workbench serve`): their plan file and `exported`, instead of any of our own. `run_id`
    # is theirs, where they record their parts of the run.
    plan: str | None = None
    run_id: str | None = None
    # How it is cut
    strategy: str = "load_balanced"
    shards: int = 2
    replicas: int = 1  # of every sparse shard
    shard_limit_bytes: int | None = None  # memory of a sparse shard
    # What is asked. serial: one request at a time, each when the one before has been answered; else a scenario of
    # LoadGen's, which draws from a library and goes on until there were `requests` and `min_duration_s` has passed.
    load: Literal["serial", "single_stream", "server", "offline", "server_peak"] = "serial"
    requests: int = 300
    warmup_requests: int = 30  # before them; tagged, and left out of the results
    items: int = 32  # a request; the mean, where sizes differ
    sizes: Literal["fixed", "lognormal"] = "fixed"  # of requests, in items
    sizes_file: str | None = None  # their sizes, a number a line, instead
    qps: float = 50.0  # server: requests a second; server_peak: where the search begins; offline: the expected rate
    sla_ms: float = 100.0  # server, server_peak: what `sla_percentile` of the requests must not exceed
    sla_percentile: float = 99.0
    min_duration_s: float = 10.0
    seed: int = 0
    trace_share: float = 1.0  # of requests that leave spans, drawn at random; W3C's sampled flag tells every process
    instrument: bool = True  # false records nothing: only to measure what recording costs

    def __post_init__(self) -> None:
        super().__post_init__()
        above_zero("rows_factor", "shards", "replicas", "requests", "items", of=self)
        for name, known in (("model", MODELS), ("strategy", STRATEGIES)):
            if getattr(self, name) not in known:
                raise InputError(f"setting {name}={getattr(self, name)!r}: choose one of {', '.join(known)}")
        if self.exported is not None and not Path(self.exported).is_dir():
            raise InputError(f"setting exported={self.exported}: there is no such folder")
        if self.plan is not None and self.exported is None:
            raise InputError(f"setting plan={self.plan}: its servers serve an exported model; name it with exported=")
        above_zero("qps", "sla_ms", "min_duration_s", of=self)
        if not 0 <= self.trace_share <= 1:
            raise InputError(f"setting trace_share={self.trace_share}: must lie between 0 and 1")
        if not 0 < self.sla_percentile < 100:
            raise InputError(f"setting sla_percentile={self.sla_percentile}: must lie between 0 and 100")
        if self.load != "serial" and importlib.util.find_spec("mlperf_loadgen") is None:
            raise InputError(f"load={self.load} needs LoadGen: pip install 'recsys-workbench[load]', or load=serial")
        if self.warmup_requests < 0 or self.seed < 0:
            raise InputError("settings warmup_requests and seed must be 0 or more")


def above_zero(*names: str, of: object) -> None:
    """InputError unless all these settings are."""
    for name in names:
        if not getattr(of, name) > 0:
            raise InputError(f"setting {name}={getattr(of, name)}: must be above 0")


def drm1() -> Config:
    """DRM1 over two load-balanced shards, 300 requests one by one."""
    return Config()


def tiny() -> Config:
    """Eight small tables over two shards, seconds: for tests and first looks."""
    return Config(model="tiny", requests=40, warmup_requests=5, items=8, batch_items=4)


def drm2() -> Config:
    """DRM2 over two load-balanced shards."""
    return Config(model="drm2-mini")


def drm3() -> Config:
    """DRM3, its giant table cut by rows over three of four shards."""
    return Config(model="drm3-mini", strategy="net_specific", shards=4)


def server() -> Config:
    """DRM1 in one process under Poisson arrivals: 50 a second, at least 10 s."""
    return Config(strategy="singular", load="server", sizes="lognormal")


def data_centre() -> Config:
    """DRM1 behind a simulated network: 50 us each way, 25 Gbit/s."""
    return Config(network_delay_us=50.0, network_gbit_per_s=25.0)


PRESETS = {
    "default": drm1, "tiny": tiny, "drm1-mini": drm1, "drm2-mini": drm2, "drm3-mini": drm3, "data-centre": data_centre,
    "server": server,
}  # fmt: skip
