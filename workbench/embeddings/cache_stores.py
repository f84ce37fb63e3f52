"""How large a cache of rows is, and the stores behind it: host memory, a file, or a host cache before a file."""

from dataclasses import dataclass
from pathlib import Path

from workbench.embeddings.backing import FileStore, Layout, MemoryStore, Store
from workbench.embeddings.cache_index import WAYS, CacheIndex
from workbench.embeddings.host_cache import HostCache


@dataclass(frozen=True)
class CacheConfig:
    """`share` of a rank's rows is cached; `policy` is lru or lfu; `backing` is dram, or ssd for a file in `folder`.

    `host_share` of the rows, if any, is cached in host memory before the file.
    """

    share: float
    policy: str
    backing: str
    folder: Path
    host_share: float | None = None


def make_store(rows: int, layout: Layout, config: CacheConfig) -> Store:
    """Where `rows` rows are that the cache does not hold."""
    if config.backing == "dram":
        return MemoryStore(rows, layout)
    file = FileStore(rows, layout, config.folder)
    if config.host_share is None:
        return file
    return HostCache(CacheIndex(cache_slots(rows, config.host_share) // WAYS, rows, config.policy), layout, file)


def chain(store: Store) -> list[Store]:
    """`store` and those behind it; the last holds every row."""
    return [store, *chain(store.backing)] if isinstance(store, HostCache) else [store]


def cache_slots(rows: int, share: float) -> int:
    """Slots of a cache for `share` of `rows`: whole sets, at least one."""
    return WAYS * max(round(share * rows / WAYS), 1)
