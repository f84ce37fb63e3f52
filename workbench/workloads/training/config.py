"""Every setting of the training workload, and the presets: functions that change a few of them."""

from dataclasses import dataclass
from typing import Literal

from workbench.data.criteo import CATEGORIES, DENSE
from workbench.embeddings.tables import TableConfig, synthetic_tables
from workbench.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Config:
    """`workbench run training --set key=value`; an unknown key or a value that cannot work stops the run."""

    # Where it runs. Under torchrun `ranks` is the world size.
    ranks: int = 2
    device: Literal["cpu", "cuda"] = "cpu"
    threads_per_rank: int | None = None  # none: the usable cores, shared equally by this machine's ranks
    kernel: Literal["auto", "fbgemm", "torch"] = "auto"
    # Data: our own click log, or the Criteo log at `data`.
    source: Literal["sessions", "criteo"] = "sessions"
    data: str | None = None
    global_batch_size: int = 4096  # samples a step over all ranks: what is learned does not depend on `ranks`
    session_samples: float = 1.15  # mean a session in a batch: 1.15 is RecD's unclustered log, 16.5 its clustered one
    # Model
    tables: int = 26
    rows: tuple[int, ...] = (1_000, 100_000)  # smallest and largest table; Criteo values hash to the largest
    dim: int = 64
    pooling_factor: float = 8.0  # mean over the tables
    dense_features: int = 13
    bottom_mlp: tuple[int, ...] = (512, 256)  # hidden widths; `dim` follows
    top_mlp: tuple[int, ...] = (512, 256)  # hidden widths; one logit follows
    # Memory. With `cache_share` a rank's tables are in host memory (dram) or a file in the run directory (ssd), and so
    # much of their rows in a cache on the device; before a file, `host_cache_share` of them in host memory too.
    cache_share: float | None = None
    cache_policy: Literal["lru", "lfu"] = "lru"
    backing: Literal["dram", "ssd"] = "dram"
    host_cache_share: float | None = None
    # Learning
    steps: int = 100
    warmup_steps: int = 5  # tagged, and left out of throughput
    evaluation_batches: int = 4  # held-out global batches after the last step
    dense_learning_rate: float = 0.01
    embedding_learning_rate: float = 0.05
    seed: int = 0
    # Instruments. `instrument=false` records nothing: only to measure what recording costs.
    instrument: bool = True
    profile_steps: int = 3
    profile_every: int = 50
    accesses_limit_bytes: int = 64 << 20  # a rank's sampled embedding accesses

    def __post_init__(self) -> None:
        for name in ("ranks", "global_batch_size", "tables", "dim", "pooling_factor", "dense_features", "steps",
                     "dense_learning_rate", "embedding_learning_rate", "profile_every"):  # fmt: skip
            if not getattr(self, name) > 0:
                raise InputError(f"setting {name}={getattr(self, name)}: must be above 0")
        for name in ("warmup_steps", "evaluation_batches", "profile_steps", "accesses_limit_bytes", "seed"):
            if not 0 <= getattr(self, name) < 2**63:
                raise InputError(f"setting {name}={getattr(self, name)}: must be 0 or more, below 2^63")
        for name in ("bottom_mlp", "top_mlp"):
            if not all(width > 0 for width in getattr(self, name)):
                raise InputError(f"setting {name}={getattr(self, name)}: every width must be above 0")
        if self.global_batch_size % self.ranks:
            raise InputError(
                f"setting global_batch_size={self.global_batch_size} cannot be shared equally by ranks={self.ranks}"
            )
        if self.tables < self.ranks:
            raise InputError(f"setting tables={self.tables}: each of ranks={self.ranks} needs a table of its own")
        if len(self.rows) != 2 or not 1 <= self.rows[0] <= self.rows[1]:
            raise InputError(f"setting rows={self.rows}: give the smallest and the largest table, such as 1000,100000")
        if self.session_samples < 1:
            raise InputError(f"setting session_samples={self.session_samples}: a session has 1 sample or more")
        if self.threads_per_rank is not None and self.threads_per_rank < 1:
            raise InputError(f"setting threads_per_rank={self.threads_per_rank}: must be 1 or more")
        if self.source == "criteo" and (self.tables, self.dense_features) != (len(CATEGORIES), len(DENSE)):
            raise InputError(f"source=criteo has {len(CATEGORIES)} tables and {len(DENSE)} dense features: leave them")
        for name in ("cache_share", "host_cache_share"):
            share = getattr(self, name)
            if share is not None and not 0 < share <= 1:
                raise InputError(f"setting {name}={share}: must be above 0 and at most 1")
        if self.cache_share is None and (self.backing == "ssd" or self.host_cache_share is not None):
            raise InputError("settings backing=ssd and host_cache_share need a cache: give its size with cache_share")
        if self.host_cache_share is not None and self.backing != "ssd":
            raise InputError("setting host_cache_share: host memory is a cache only before a file: set backing=ssd")
        if self.data is not None and self.source != "criteo":
            raise InputError(f"setting data={self.data}: only source=criteo reads a file")

    @property
    def table_configs(self) -> tuple[TableConfig, ...]:
        """The tables, in the order of the batch's features."""
        if self.source == "criteo":
            return tuple(TableConfig(name=name, rows=self.rows[1], dim=self.dim) for name in CATEGORIES)
        return synthetic_tables(self.tables, self.rows, self.dim, self.pooling_factor, self.seed)

    @property
    def bottom_sizes(self) -> tuple[int, ...]:
        """Widths of the bottom MLP, input first."""
        return (self.dense_features, *self.bottom_mlp, self.dim)

    @property
    def top_sizes(self) -> tuple[int, ...]:
        """Widths of the top MLP, input first: the bottom's output and every pair of the tables + 1 vectors."""
        return (self.dim + self.tables * (self.tables + 1) // 2, *self.top_mlp, 1)


def tiny() -> Config:
    """Two ranks, seconds: for tests and first looks."""
    return Config(
        global_batch_size=256, tables=8, rows=(100, 2_000), dim=16, pooling_factor=4.0, bottom_mlp=(32,), top_mlp=(32,),
        steps=30, warmup_steps=3, evaluation_batches=8, profile_every=20, embedding_learning_rate=0.1,
    )  # fmt: skip


def small() -> Config:
    """Two ranks, half a minute on two cores: the demonstration."""
    return Config()


def criteo() -> Config:
    """Learn a Criteo log: --set data=PATH."""
    return Config(source="criteo", pooling_factor=1.0)


def torchrec_peer() -> Config:
    """The defaults' shape, which is compared with TorchRec: 2,048 samples a rank; long enough to measure."""
    return Config(steps=200)


PRESETS = {"default": small, "tiny": tiny, "small": small, "criteo": criteo, "torchrec-peer": torchrec_peer}
