"""DRM1, DRM2 and DRM3 (Lui et al., ISPASS 2021, arXiv:2011.02084) at a thousandth of their size.

From the paper, as far as it is known here: the number of tables, the bytes of all and of the largest one, two nets in
DRM1 and DRM2 where the second uses the first one's output, the user's net with a sixth of DRM1's bytes but most
lookups, one giant table in DRM3 with about one lookup an item, and embeddings above 97 % of the bytes. Ours, chosen so
that sparse operators take about the paper's share of the operators' time (a tenth, in DRM3 a thirtieth): width 16,
pooling factors, layer widths. Table sizes are lognormal; their spread is set by the paper's largest table.
"""

import numpy as np
from scipy.special import ndtri

from workbench.data.sessions import scatter_stride
from workbench.embeddings.tables import WEIGHT_BYTES, TableConfig
from workbench.workloads.inference.models.config import ModelConfig, NetConfig

DIM = 16
DENSE_FEATURES = 256
BOTTOM_MLP = (512, 256)
USER_OUTPUTS = 64  # what the user's net hands to the item's


def drm1(rows_factor: float = 1.0) -> ModelConfig:
    """257 tables, 208 MB, the largest 3.6 MB; user and item net."""
    user = _lognormal_tables("user", 57, 36e6 * rows_factor, sigma=0.57, pooling_factor=8.0, session_repeat=1.0)
    item = _lognormal_tables("item", 200, 172e6 * rows_factor, sigma=0.57, pooling_factor=1.2)
    return _two_nets("drm1-mini", user, item, top_mlp=(512, 256))


def drm2(rows_factor: float = 1.0) -> ModelConfig:
    """133 tables, 138 MB, the largest 6.7 MB; user and item net."""
    user = _lognormal_tables("user", 33, 24e6 * rows_factor, sigma=0.82, pooling_factor=8.0, session_repeat=1.0)
    item = _lognormal_tables("item", 100, 114e6 * rows_factor, sigma=0.82, pooling_factor=1.5)
    return _two_nets("drm2-mini", user, item, top_mlp=(512, 256))


def drm3(rows_factor: float = 1.0) -> ModelConfig:
    """39 tables, 200 MB; one of them has 178.8 MB and about one lookup an item."""
    giant_rows = round(178.8e6 * rows_factor / (DIM * WEIGHT_BYTES["fp32"]))
    giant = TableConfig(name="giant", rows=giant_rows, dim=DIM, pooling_factor=1.0)
    small = _lognormal_tables("small", 38, 21.2e6 * rows_factor, sigma=0.85, pooling_factor=1.5)
    net = NetConfig(
        name="ranking", architecture="dlrm", tables=(giant, *small), bottom_mlp=BOTTOM_MLP, top_mlp=(1024, 512, 1)
    )
    return ModelConfig(name="drm3-mini", dense_features=DENSE_FEATURES, nets=(net,))


def tiny(rows_factor: float = 1.0) -> ModelConfig:
    """Two nets and eight tables, 160 kB: for tests and first looks."""
    user = _lognormal_tables("user", 3, 64e3 * rows_factor, sigma=0.6, pooling_factor=4.0, session_repeat=1.0)
    item = _lognormal_tables("item", 5, 96e3 * rows_factor, sigma=0.6, pooling_factor=2.0)
    return _two_nets("tiny", user, item, top_mlp=(32,), dense_features=13, bottom_mlp=(32, 16))


MODELS = {"drm1-mini": drm1, "drm2-mini": drm2, "drm3-mini": drm3, "tiny": tiny}


def _two_nets(
    name: str,
    user: tuple[TableConfig, ...],
    item: tuple[TableConfig, ...],
    top_mlp: tuple[int, ...],
    dense_features: int = DENSE_FEATURES,
    bottom_mlp: tuple[int, ...] = BOTTOM_MLP,
) -> ModelConfig:
    nets = tuple(
        NetConfig(name=net, architecture="dlrm", tables=tables, bottom_mlp=bottom_mlp, top_mlp=(*top_mlp, outputs))
        for net, tables, outputs in (("user", user, USER_OUTPUTS), ("item", item, 1))
    )
    return ModelConfig(name=name, dense_features=dense_features, nets=nets)


def _lognormal_tables(
    net: str, count: int, total_bytes: float, sigma: float, pooling_factor: float, session_repeat: float = 0.0
) -> tuple[TableConfig, ...]:
    """`count` tables of `total_bytes` together: the quantiles of a lognormal distribution, scattered over the order.

    `session_repeat` 1 says that all items of a request have the same ids: a feature of the user.
    """
    sizes = np.exp(sigma * ndtri((np.arange(count) + 0.5) / count))
    sizes = sizes[np.arange(count) * scatter_stride(count) % count]
    rows = np.maximum(np.rint(sizes / sizes.sum() * total_bytes / (DIM * WEIGHT_BYTES["fp32"])), 1).astype(int)
    return tuple(
        TableConfig(
            name=f"{net}_{index}", rows=int(rows[index]), dim=DIM, pooling_factor=pooling_factor,
            session_repeat=session_repeat,
        )
        for index in range(count)
    )  # fmt: skip
