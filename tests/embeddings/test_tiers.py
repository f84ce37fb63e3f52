"""Training from a cache gives the bits of training from whole tables, however small the cache and wherever the rows."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from workbench.embeddings.cache_index import WAYS
from workbench.embeddings.cache_stores import CacheConfig, cache_slots
from workbench.embeddings.jagged import offsets
from workbench.embeddings.kernels import make_lookup
from workbench.embeddings.tables import TableConfig
from workbench.embeddings.tiers import CachedLookup
from workbench.errors import InputError
from workbench.trace import streams
from workbench.trace.readers import spans
from workbench.trace.recorder import Recorder

TABLES = tuple(
    TableConfig(name=f"t{index}", rows=rows, dim=dim) for index, (rows, dim) in enumerate(((400, 8), (90, 4), (700, 8)))
)
BAGS, STEPS = 40, 12


def batches(seed: int):
    """Lengths and indices of STEPS batches: many repeats within and between them, some bags empty."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(STEPS):
        lengths = torch.randint(0, 5, (len(TABLES), BAGS), generator=generator)
        ids = [(table.rows * torch.rand(int(count), generator=generator) ** 3).long()
               for table, count in zip(TABLES, lengths.sum(1), strict=True)]  # fmt: skip
        found.append((torch.cat(ids), offsets(lengths)))
    return found


def train(lookup, announced: bool) -> list[torch.Tensor]:
    """Pooled rows of every batch. Without gradients in the middle: an evaluation, whose lookups are not announced."""
    steps, outputs = batches(seed=3), []
    for step, (indices, starts) in enumerate(steps):
        if announced and step + 1 < STEPS:
            lookup.announce(*steps[step + 1])
        pooled = lookup(indices, starts)
        pooled.backward(torch.sin(torch.arange(pooled.numel(), dtype=torch.float32)).view_as(pooled))
        outputs.append(pooled.detach())
        if step == STEPS // 2:
            with torch.no_grad():
                outputs.append(lookup(*steps[0]))
    return outputs


def cached(folder, kernel="torch", recorder=None, tables=TABLES, **changes) -> CachedLookup:
    config = CacheConfig(**{"share": 0.05, "policy": "lru", "backing": "dram", "folder": folder} | changes)
    make = partial(make_lookup, kernel=kernel, learning_rate=0.1, device="cpu", seed=0)
    return CachedLookup(tables, config, make, seed=1, recorder=recorder or Recorder(None))


@pytest.mark.parametrize("kernel", ["torch", "fbgemm"])
@pytest.mark.parametrize("policy", ["lru", "lfu"])
@pytest.mark.parametrize("where", [{"backing": "dram"}, {"backing": "ssd"}, {"backing": "ssd", "host_share": 0.1}])
def test_training_through_a_cache_is_training_in_memory_bit_for_bit(tmp_path, kernel, policy, where):
    whole = make_lookup(TABLES, kernel, 0.1, "cpu", 1)
    expected = train(whole, announced=False)
    with Recorder(tmp_path, "trainer-0") as recorder:
        lookup = cached(tmp_path, kernel, recorder, policy=policy, **where)
        found = train(lookup, announced=True)
    assert all(map(torch.equal, found, expected))
    for name in ("weights", "states"):
        assert all(map(torch.equal, getattr(lookup, name), getattr(whole, name))), name
    metrics = streams.read_metrics([tmp_path]).groupby("name")["value"].sum()
    assert 0 < metrics["cache_conflicts"] < metrics["cache_misses"] < metrics["cache_unique_rows"]
    assert metrics["cache_lookups"] == sum(len(indices) for indices, _ in batches(seed=3))
    for tier in {"dram"} if where["backing"] == "dram" else {"ssd"} | ({"dram"} if "host_share" in where else set()):
        assert metrics[f"{tier}_read_bytes"] > 0 and metrics[f"{tier}_write_bytes"] > 0


@pytest.mark.parametrize("optimizer", ["adagrad", "adam", "sgd"])
@pytest.mark.parametrize("backing", ["dram", "ssd"])
def test_states_of_every_optimizer_come_and_go_with_their_rows(tmp_path, optimizer, backing):
    tables = [*(replace(table, optimizer=optimizer) for table in TABLES[:2]), TABLES[2]]
    whole, lookup = make_lookup(tables, "torch", 0.1, "cpu", 1), cached(tmp_path, tables=tables, backing=backing)
    assert all(map(torch.equal, train(lookup, announced=True), train(whole, announced=False)))
    assert lookup.steps == whole.steps == STEPS
    for name in ("weights", "states"):
        assert all(map(torch.equal, getattr(lookup, name), getattr(whole, name))), name


def test_announcing_changes_when_rows_come_and_nothing_else(tmp_path):
    lookups = [cached(tmp_path), cached(tmp_path)]
    outputs = [train(lookup, announced) for lookup, announced in zip(lookups, (True, False), strict=True)]
    assert all(map(torch.equal, *outputs))
    assert all(map(torch.equal, *(lookup.weights for lookup in lookups)))


def test_a_cache_for_everything_misses_each_row_once(tmp_path):
    distinct = [set() for _ in TABLES]
    with Recorder(tmp_path, "trainer-0") as recorder:
        lookup = cached(tmp_path, recorder=recorder, share=4.0)
        for indices, starts in batches(seed=3):
            lookup(indices, starts).sum().backward()
            for table, seen in enumerate(distinct):
                seen |= set(indices[starts[table * BAGS] : starts[(table + 1) * BAGS]].tolist())
    metrics = streams.read_metrics([tmp_path]).groupby("name")["value"].sum()
    assert metrics["cache_misses"] == sum(map(len, distinct))
    assert metrics["cache_conflicts"] == metrics["dram_write_bytes"] == 0


def test_waits_and_fetches_are_spans_of_the_prefetch_phase(tmp_path):
    with Recorder(tmp_path, "trainer-0") as recorder:
        train(cached(tmp_path, recorder=recorder, backing="ssd"), announced=True)
    events = spans.read(tmp_path / "trainer-0.spans.jsonl").events
    waits, fetches = (events[events["name"] == name] for name in ("row_wait", "row_fetch"))
    assert set(waits["kind"]) == {"wait"} and set(fetches["kind"]) == {"storage"}
    assert set(events["phase"]) == {"prefetch"} and len(waits) == STEPS + 1
    assert fetches["lane"].str.startswith("prefetch").sum() >= STEPS - 2


def test_rows_can_be_replaced_before_the_first_batch(tmp_path):
    lookup = cached(tmp_path, backing="ssd")
    columns = [torch.full((5, 4), 2.0), torch.arange(5.0)]
    lookup.write_rows(1, 10, columns)
    assert all(map(torch.equal, lookup.read_rows(1, 10, 15), columns))
    pooled = lookup(torch.tensor([3, 12, 0]), offsets(torch.ones(3, 1, dtype=torch.int64)))
    assert pooled[0, 8:12].tolist() == [2.0] * 4


def test_an_id_outside_its_table_is_said(tmp_path):
    with pytest.raises(InputError, match="table t1 has 90 rows, numbered from 0: it has no id 90"):
        cached(tmp_path)(torch.tensor([3, 90, 0]), offsets(torch.ones(3, 1, dtype=torch.int64)))


def test_slots_are_whole_sets():
    assert [cache_slots(1000, share) for share in (0.0001, 0.1, 1.0)] == [WAYS, 3 * WAYS, 31 * WAYS]
