"""Every setting of the training workload, and the presets: functions that change a few of them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from workbench.costs.sharding import StepShape
from workbench.data.criteo import CATEGORIES, DENSE
from workbench.embeddings.plan import SCHEMES, Plan
from workbench.embeddings.sharding import uniform_plan
from workbench.embeddings.tables import OptimizerName, RowDtype, TableConfig, log_spaced, synthetic_tables
from workbench.errors import InputError

# AdaGrad's first step moves every weight by the learning rate itself: through wide layers, or many, the default's 0.01
# makes the next losses several nats, or tens, and what follows depends on the last bit.
CALM_LEARNING_RATE = 0.001


@dataclass(frozen=True, kw_only=True)
class Config:
    """`workbench run training --set key=value`; an unknown key or a value that cannot work stops the run."""

    # Where it runs. Under torchrun `ranks` is the world size.
    ranks: int = 2
    device: Literal["cpu", "cuda"] = "cpu"
    threads_per_rank: int | None = None  # none: the usable cores, shared equally by this machine's ranks
    kernel: Literal["auto", "fbgemm", "torch"] = "auto"
    engine: Literal["workbench", "torchrec"] = "workbench"  # torchrec: its DistributedModelParallel, where installed
    # Sharding: one scheme for all tables ("mixed": one after the other), a scheme for each by the planner ("planned",
    # every byte counted the same, so that no measurement decides), or the plan in the JSON file `plan`.
    sharding: Literal[
        "table-wise", "row-wise", "column-wise", "table-row-wise", "data-parallel", "mixed", "planned"
    ] = "table-wise"
    host_ranks: int | None = None  # ranks that table-row-wise takes for one host; none: this run's ranks
    plan: str | None = None
    forward_wire: Literal["fp32", "fp16", "bf16", "int8"] = "fp32"  # what pooled rows travel as
    backward_wire: Literal["fp32", "fp16", "bf16", "int8"] = "fp32"  # what their gradients travel as
    fixed_order: bool = False  # the same bits for any plan and number of ranks, given the same gradients; slower
    pipeline: bool = True  # exchanges of the next batches and sums of gradients hide behind compute
    # Data: our own click log, or the Criteo log at `data`.
    source: Literal["sessions", "criteo", "log-uniform"] = "sessions"
    data: str | None = None
    global_batch_size: int = 4096  # samples a step over all ranks: what is learned does not depend on `ranks`
    prepared_batches: int = 0  # made before the first step and trained on in turn; 0: every step has a new one
    session_samples: float = 1.15  # mean a session in a batch: 1.15 is RecD's unclustered log, 16.5 its clustered one
    # Model
    tables: int = 26
    rows: tuple[int, ...] = (1_000, 100_000)  # smallest and largest table; Criteo values hash to the largest
    dim: int = 64  # width of the bottom MLP's output, and of tables
    dims: tuple[int, ...] = ()  # smallest and largest width of tables, where they differ
    pooling_factor: float = 8.0  # mean over the tables
    zipf_exponent: float | None = None  # skew of the ids of all tables of the click log; none: each table its own
    history_tables: int = 0  # so many of the tables, the last ones, are un-pooled histories under attention
    history_length: int = 20  # ids that are kept of a history
    interaction: Literal["dot", "concatenate"] = "dot"
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
    dense_optimizer: Literal["adagrad", "sgd"] = "adagrad"
    dense_learning_rate: float = 0.01
    embedding_learning_rate: float = 0.05
    optimizer: OptimizerName = "rowwise_adagrad"  # of the tables; the MLPs have AdaGrad
    row_dtype: RowDtype = "fp32"  # what tables are stored as; arithmetic and optimizer state are fp32
    seed: int = 0
    # Checkpoints, every so many steps (0: none), into a folder (none: `checkpoints` in the run directory, of the first
    # attempt under torchrun). `resume` is a checkpoint, a folder of them or a run directory; when torchrun restarts
    # ranks, they resume from the newest in the folder, if there is one.
    checkpoint_every: int = 0
    checkpoints: str | None = None
    resume: str | None = None
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
        for name in ("warmup_steps", "evaluation_batches", "profile_steps", "accesses_limit_bytes", "seed",
                     "prepared_batches", "history_tables", "checkpoint_every"):  # fmt: skip
            if not 0 <= getattr(self, name) < 2**63:
                raise InputError(f"setting {name}={getattr(self, name)}: must be 0 or more, below 2^63")
        for name in ("bottom_mlp", "top_mlp"):
            if not all(width > 0 for width in getattr(self, name)):
                raise InputError(f"setting {name}={getattr(self, name)}: every width must be above 0")
        if self.global_batch_size % self.ranks:
            raise InputError(
                f"setting global_batch_size={self.global_batch_size} cannot be shared equally by ranks={self.ranks}"
            )
        if self.host_ranks is not None and (self.host_ranks < 1 or self.ranks % self.host_ranks):
            raise InputError(f"setting host_ranks={self.host_ranks}: ranks={self.ranks} must be a multiple of it")
        self._check_model()
        if self.engine == "torchrec":
            self._check_torchrec()
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

    def _check_model(self) -> None:
        if self.dims and (len(self.dims) != 2 or not 1 <= self.dims[0] <= self.dims[1]):
            raise InputError(f"setting dims={self.dims}: give the narrowest and the widest table, such as 4,384")
        if self.dims and self.interaction == "dot":
            raise InputError(
                "setting interaction=dot takes tables of one width: set interaction=concatenate, or no dims"
            )
        if self.history_tables and (self.dims or self.history_tables >= self.tables or self.history_length < 1):
            raise InputError(
                f"setting history_tables={self.history_tables}: fewer than tables={self.tables}, all of width dim, "
                "with history_length of 1 or more"
            )

    def _check_torchrec(self) -> None:
        """InputError for what TorchRec's engine does not share with ours."""
        if self.ranks < 2:
            raise InputError("setting engine=torchrec shards over ranks: set ranks=2 or more")
        if self.sharding not in ("table-wise", "row-wise", "column-wise"):
            raise InputError(f"setting engine=torchrec takes table-wise, row-wise and column-wise, not {self.sharding}")
        if self.optimizer == "adam":
            raise InputError("setting engine=torchrec has no optimizer=adam")
        ours = {"kernel": "auto", "row_dtype": "fp32", "forward_wire": "fp32", "backward_wire": "fp32",
                "fixed_order": False, "interaction": "dot", "history_tables": 0, "cache_share": None,
                "checkpoint_every": 0, "resume": None}  # fmt: skip
        for name, value in ours.items():
            if getattr(self, name) != value:
                raise InputError(f"setting {name}={getattr(self, name)} is not for engine=torchrec: leave it {value}")

    @property
    def table_configs(self) -> tuple[TableConfig, ...]:
        """The tables, in the order of the batch's features."""
        if self.source == "criteo":
            tables = tuple(TableConfig(name=name, rows=self.rows[1], dim=self.dim) for name in CATEGORIES)
        elif self.source == "log-uniform":
            tables = tuple(
                TableConfig(name=f"table_{number}", rows=rows, dim=dim, pooling_factor=self.pooling_factor)
                for number, (rows, dim) in enumerate(
                    zip(log_spaced(self.tables, self.rows), self.table_dims, strict=True)
                )
            )
        else:
            tables = synthetic_tables(self.tables, self.rows, self.table_dims, self.pooling_factor, self.seed)
        if self.zipf_exponent is not None:
            tables = tuple(replace(table, zipf_exponent=self.zipf_exponent) for table in tables)
        return tuple(replace(table, optimizer=self.optimizer, row_dtype=self.row_dtype) for table in tables)

    @property
    def table_dims(self) -> tuple[int, ...]:
        """Width of every table: `dim`, or multiples of 4 spread log-uniformly over `dims`."""
        if not self.dims:
            return (self.dim,) * self.tables
        return tuple(max(round(dim / 4) * 4, 4) for dim in log_spaced(self.tables, self.dims))

    def plan_for(self, ranks: int) -> Plan:
        """Where the tables lie; InputError where `plan` is no plan of these tables for these ranks."""
        if self.plan is not None:
            try:
                plan = Plan.from_json(Path(self.plan).read_bytes())
            except OSError as error:
                raise InputError(f"setting plan={self.plan}: cannot read it: {error.strerror}") from None
        elif self.sharding == "planned":
            plan = self._planned(ranks)
        else:
            plan = uniform_plan(self.table_configs, ranks, self.sharding, self.host_ranks)
        plan.check(self.table_configs, ranks)
        return plan

    def _planned(self, ranks: int) -> Plan:
        # Imported here: listing presets needs no solver.
        from workbench.embeddings.planner import plan_tables

        step = StepShape(ranks, self.global_batch_size // ranks, self.host_ranks or ranks)
        # The one scale of an int8 row is not shared by its columns.
        schemes = [scheme for scheme in SCHEMES if self.row_dtype != "int8" or scheme != "column-wise"]
        return plan_tables(self.table_configs, step, schemes=schemes).plan

    @property
    def bottom_sizes(self) -> tuple[int, ...]:
        """Widths of the bottom MLP, input first."""
        return (self.dense_features, *self.bottom_mlp, self.dim)

    @property
    def top_sizes(self) -> tuple[int, ...]:
        """Widths of the top MLP, input first: the bottom's output, and every pair of the tables + 1 vectors or all
        tables' columns."""
        pairs = self.tables * (self.tables + 1) // 2
        return (self.dim + (pairs if self.interaction == "dot" else sum(self.table_dims)), *self.top_mlp, 1)


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
    return Config(source="criteo", pooling_factor=1.0, dense_learning_rate=CALM_LEARNING_RATE)


def torchrec_peer() -> Config:
    """The shape that is compared with TorchRec: 2,048 samples a rank, one id a feature, one thread a rank."""
    return Config(
        source="log-uniform", prepared_batches=16, rows=(100_000, 100_000), pooling_factor=1.0, threads_per_rank=1,
        top_mlp=(512, 512, 256), dense_optimizer="sgd", steps=200, warmup_steps=20, evaluation_batches=0,
    )  # fmt: skip


def teacher() -> Config:
    """Learn what there is to learn, in seconds: a small log whose teacher's own normalized entropy is the floor."""
    return Config(
        global_batch_size=1024, tables=4, rows=(20, 100), dim=8, dense_features=4, pooling_factor=2.0, bottom_mlp=(32,),
        top_mlp=(32,), steps=300, evaluation_batches=16, profile_every=100, dense_learning_rate=0.03,
        embedding_learning_rate=0.1,
    )  # fmt: skip


def model_a() -> Config:
    """Model-A of Neo, scaled: tables of many widths, 20 wide layers; 16 tables for about 1,000."""
    return Config(
        global_batch_size=128, tables=16, rows=(1_000, 50_000), dims=(4, 384), pooling_factor=15.0,
        interaction="concatenate", bottom_mlp=(448,) * 4, top_mlp=(448,) * 14, steps=20, evaluation_batches=1,
        profile_every=10, dense_learning_rate=CALM_LEARNING_RATE,
    )  # fmt: skip


def model_f() -> Config:
    """Model-F of Neo, all but its rows: 10 tables of width 256, 7 layers of about 490, little compute a sample."""
    return Config(
        global_batch_size=512, tables=10, rows=(20_000, 100_000), dim=256, pooling_factor=20.0,
        interaction="concatenate", bottom_mlp=(490,) * 2, top_mlp=(490,) * 3, steps=20, evaluation_batches=1,
        profile_every=10,
    )  # fmt: skip


def model_i() -> Config:
    """Model-I of Neo, scaled: long bags, 43 layers; 8 tables for about 100. Too deep to learn without residuals."""
    return Config(
        global_batch_size=512, tables=8, rows=(1_000, 100_000), dim=92, pooling_factor=70.0,
        interaction="concatenate", bottom_mlp=(232,) * 10, top_mlp=(232,) * 31, steps=20, evaluation_batches=1,
        profile_every=10, dense_learning_rate=CALM_LEARNING_RATE,
    )  # fmt: skip


def sequence() -> Config:
    """Histories of up to 20 ids beside pooled features: rows travel un-pooled, attention pools them."""
    return Config(
        global_batch_size=512, tables=12, rows=(1_000, 50_000), dim=32, history_tables=4, history_length=20,
        bottom_mlp=(128,), top_mlp=(256, 128), steps=40, profile_every=20,
    )  # fmt: skip


PRESETS = {
    "default": small, "tiny": tiny, "small": small, "criteo": criteo, "torchrec-peer": torchrec_peer,
    "model-a": model_a, "model-f": model_f, "model-i": model_i, "sequence": sequence,
    "teacher": teacher,
}  # fmt: skip
