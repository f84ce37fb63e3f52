"""The eight models of DeepRecSys (Gupta et al., ISCA 2020, arXiv:2001.02772), by its released configurations.

Widths, tables and lookups are those of `models/configs/*.json` (github.com/harvard-acc/DeepRecSys), which differ
slightly from the paper's table; rows are a hundredth of them, so that every model fits a laptop: `rows_factor=100`
gives the published sizes. Three departures: NCF, MT-WnD and their like end in one more unit, so that each item gets a
score; NCF takes no dense features, since the released one ignores them; DIN has the 4 tables that its
configuration file yields when it is used alone (`behaviours` sets more).
"""

from workbench.embeddings.tables import TableConfig
from workbench.workloads.inference.models.config import Architecture, ModelConfig, NetConfig

MINI = 100  # our rows: the released ones over this
_DENSE = 512


def rmc1(rows_factor: float = 1.0) -> ModelConfig:
    """DLRM-RMC1: 8 tables of 4 M rows, 80 lookups each, small layers."""
    tables = _tables("table", 8, 4_000_000, 32, rows_factor, lookups=80)
    return _dlrm("rmc1-mini", 128, tables, (64, 32), (256, 64, 1))


def rmc2(rows_factor: float = 1.0) -> ModelConfig:
    """DLRM-RMC2: 32 tables of 500 k rows, 120 lookups each: embeddings dominate."""
    tables = _tables("table", 32, 500_000, 64, rows_factor, lookups=120)
    return _dlrm("rmc2-mini", 256, tables, (128, 64), (128, 64, 1))


def rmc3(rows_factor: float = 1.0) -> ModelConfig:
    """DLRM-RMC3: 10 tables of 2 M rows, 20 lookups each, a wide bottom: layers dominate."""
    tables = _tables("table", 10, 2_000_000, 32, rows_factor, lookups=20)
    return _dlrm("rmc3-mini", 2560, tables, (1024, 256, 32), (512, 256, 1))


def ncf(rows_factor: float = 1.0) -> ModelConfig:
    """Neural collaborative filtering: matrix factorization beside an MLP."""
    users = _tables("user", 2, 140_000, 64, rows_factor)
    items = _tables("item", 2, 28_000, 64, rows_factor)
    tables = (users[0], items[0], users[1], items[1])  # factors of user and item, then the MLP's own
    return _one_net("ncf-mini", 0, "ncf", tables, (256, 256, 128, 64), head_mlp=(64, 1))


def wide_and_deep(rows_factor: float = 1.0) -> ModelConfig:
    """Wide&Deep: dense features as they are beside 27 embeddings, then a wide MLP."""
    return _dlrm("wnd-mini", _DENSE, _tables("table", 27, 1_000_000, 32, rows_factor), (), (1024, 512, 256, 1))


def multitask_wide_and_deep(rows_factor: float = 1.0, tasks: int = 1) -> ModelConfig:
    """Multi-task Wide&Deep: shared layers, then layers for each of `tasks`."""
    tables = _behaviours_and_profiles(rows_factor)
    return _one_net("mt-wnd-mini", _DENSE, "multitask", tables, (1024, 512), head_mlp=(256, 128, 1), tasks=tasks)


def din(rows_factor: float = 1.0, behaviours: int = 1) -> ModelConfig:
    """Deep Interest Network: attention of the advertisement over the user's behaviours."""
    tables = (
        *_tables("profile", 1, 1_000_000, 32, rows_factor, lookups=3),
        *_tables("behaviour", behaviours, 100_000, 32, rows_factor, lookups=3),
        *_tables("ad", 1, 10_000_000, 32, rows_factor, lookups=3),
        *_tables("context", 1, 10_000_000, 32, rows_factor, lookups=3),
    )
    return _one_net("din-mini", 0, "din", tables, (200, 80, 2), hidden=1)


def dien(rows_factor: float = 1.0) -> ModelConfig:
    """Deep Interest Evolution Network: recurrent layers over 41 behaviours."""
    tables = _behaviours_and_profiles(rows_factor)
    return _one_net("dien-mini", _DENSE, "dien", tables, (200, 80, 2), hidden=64)


MODELS = {
    "rmc1-mini": rmc1, "rmc2-mini": rmc2, "rmc3-mini": rmc3, "ncf-mini": ncf, "wnd-mini": wide_and_deep,
    "mt-wnd-mini": multitask_wide_and_deep, "din-mini": din, "dien-mini": dien,
}  # fmt: skip


def _behaviours_and_profiles(rows_factor: float) -> tuple[TableConfig, ...]:
    """41 tables of 500 k rows and two of 5 M."""
    behaviours = _tables("behaviour", 41, 500_000, 32, rows_factor)
    return (*behaviours, *_tables("profile", 2, 5_000_000, 32, rows_factor))


def _dlrm(
    name: str, dense_features: int, tables: tuple[TableConfig, ...], bottom: tuple[int, ...], top: tuple[int, ...]
) -> ModelConfig:
    return _one_net(name, dense_features, "dlrm", tables, top, bottom_mlp=bottom)


def _one_net(
    name: str,
    dense_features: int,
    architecture: Architecture,
    tables: tuple[TableConfig, ...],
    top_mlp: tuple[int, ...],
    **layers,
) -> ModelConfig:
    net = NetConfig(name="ranking", architecture=architecture, tables=tables, top_mlp=top_mlp, **layers)
    return ModelConfig(name=name, dense_features=dense_features, nets=(net,))


def _tables(
    name: str, count: int, published_rows: int, dim: int, rows_factor: float, lookups: int = 1
) -> tuple[TableConfig, ...]:
    rows = max(round(published_rows / MINI * rows_factor), 1)
    return tuple(
        TableConfig(name=f"{name}_{index}", rows=rows, dim=dim, pooling_factor=float(lookups)) for index in range(count)
    )
