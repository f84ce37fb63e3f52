"""Two gloo ranks, spawned once: exchanges move what they should, and training equals one rank's on the same data."""

from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import multiprocessing

from workbench.data.prefetch import Prefetch
from workbench.embeddings.exchange import TableExchange
from workbench.trace.readers import spans
from workbench.trace.recorder import Recorder
from workbench.workloads import launch
from workbench.workloads.training.config import tiny
from workbench.workloads.training.train import Trainer

CONFIG = replace(tiny(), global_batch_size=64, tables=5, rows=(20, 200), dim=8, steps=6, evaluation_batches=2)
PLACEMENT, DIMS = (1, 0, 1), (2, 3, 1)
BAGS = 2  # a rank


def value(table: int, sample: int) -> float:
    """What table's pooled row for a sample of the global batch holds: every pair its own number."""
    return 10.0 * table + sample


def check_exchange(rank: int, recorder: Recorder) -> None:
    exchange = TableExchange(PLACEMENT, DIMS, rank, 2, recorder)
    assert exchange.order == [1, 0, 2] and exchange.local_tables == ([1], [0, 2])[rank]

    # Sample s of the global batch looks up id 100 t + s in table t, s + t % 2 times.
    def lookups(tables, samples):
        bags = [[100 * table + sample] * (sample + table % 2) for table in tables for sample in samples]
        return torch.tensor([len(bag) for bag in bags]).view(len(tables), -1), torch.tensor(list(chain(*bags)))

    mine = range(rank * BAGS, (rank + 1) * BAGS)
    received = exchange.group_by_table(*exchange.send_lookups(*lookups(exchange.order, mine)))
    for found, expected in zip(received, lookups(exchange.local_tables, range(2 * BAGS)), strict=True):
        torch.testing.assert_close(found, expected)

    # Pooled rows arrive at their samples, in placement order; gradients return to the tables.
    pooled = torch.cat(
        [torch.tensor([[value(t, s)] * DIMS[t] for s in range(2 * BAGS)]) for t in exchange.local_tables], dim=1
    ).requires_grad_()
    arrived = torch.cat(exchange.start_embeddings(pooled).wait(), dim=1)
    expected = [[value(t, s) for t in exchange.order for _ in range(DIMS[t])] for s in mine]
    torch.testing.assert_close(arrived, torch.tensor(expected))
    (arrived.square() * (rank + 1)).sum().backward()  # d/dx = 2 x (rank + 1), by the sample's rank
    owner_factor = torch.tensor([1.0, 1.0, 2.0, 2.0])[:, None]
    torch.testing.assert_close(pooled.grad, 2 * pooled.detach() * owner_factor)


def train(config, folder: Path, rank: int) -> None:
    """A few steps and the evaluation; leaves losses, this rank's tables and the MLPs in `folder`."""
    trainer = Trainer(config, Recorder(None), folder)
    with Prefetch(trainer.inputs()) as inputs:
        losses = [trainer.step(inputs).log_loss for _ in range(config.steps)]
    found = {f"table {t}": w for t, w in zip(trainer.exchange.local_tables, trainer.model.lookup.weights, strict=True)}
    found |= {f"mlp {i}": p.detach() for i, p in enumerate(trainer.model.dense_parameters())}
    evaluation = [value or -1 for value in trainer.evaluate().values()]
    np.savez(folder / f"rank-{rank}-of-{config.ranks}.npz", losses=losses, evaluation=evaluation, **found)


def both(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    launch.init_process_group("cpu", dist.FileStore(str(folder / "store"), 2), rank, 2)
    with Recorder(folder, f"trainer-{rank}", rank) as recorder:
        check_exchange(rank, recorder)
    train(CONFIG, folder, rank)
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("GLOO_SOCKET_IFNAME", "lo")
        multiprocessing.start_processes(both, (folder,), nprocs=2)  # raises what a rank's assertion raises
    train(replace(CONFIG, ranks=1), folder, 0)
    return folder


def test_training_is_the_same_for_one_and_two_ranks(folder):
    one = np.load(folder / "rank-0-of-1.npz")
    two = [np.load(folder / f"rank-{rank}-of-2.npz") for rank in range(2)]
    assert one["losses"][-1] < one["losses"][0]
    for ranks in two:
        np.testing.assert_allclose(ranks["losses"], one["losses"], rtol=1e-5)
        np.testing.assert_allclose(ranks["evaluation"], one["evaluation"], rtol=1e-4)
        for name in set(ranks.files) - {"losses", "evaluation"}:
            np.testing.assert_allclose(ranks[name], one[name], atol=1e-4, err_msg=name)
    assert {name for ranks in two for name in ranks.files} == set(one.files)


def test_exchanges_record_what_they_move(folder):
    events = spans.read(folder / "trainer-0.spans.jsonl").events.set_index("name")
    assert list(events.index) == ["input_exchange", "embedding_exchange", "gradient_exchange"]
    assert list(events["kind"]) == ["communication", "wait", "wait"]
    assert list(events["phase"]) == ["input", "forward", "backward"]
    # Rank 0 sends 3 x 2 lengths and (0 + 1) + (1 + 2) + (0 + 1) indices, 8 bytes each.
    assert events.loc["input_exchange", "message_bytes"] == 8 * (6 + 5)
    assert (events["group_size"] == 2).all() and (events["collective"] == "all_to_all").all()
