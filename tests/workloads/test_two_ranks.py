"""Two gloo ranks, spawned once: training equals one rank's on the same data, and exchanges record what they move."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import multiprocessing

from workbench.data.prefetch import Prefetch
from workbench.trace.readers import spans
from workbench.trace.recorder import Recorder
from workbench.workloads import launch
from workbench.workloads.training.config import teacher, tiny
from workbench.workloads.training.train import Trainer

CONFIG = replace(tiny(), global_batch_size=64, tables=5, rows=(20, 200), dim=8, steps=6, evaluation_batches=2)


LEARN = teacher()


def train(config, folder: Path, rank: int) -> None:
    """A few steps and the evaluation; leaves losses, this rank's tables and the MLPs in `folder`."""
    recorder = Recorder(folder, f"{config.steps} steps, trainer-{rank} of {config.ranks}", rank)
    with recorder, Prefetch((trainer := Trainer(config, recorder, folder)).inputs()) as prepared:
        batches = trainer.redistribute(prepared)
        losses = [trainer.step(batches).log_loss for _ in range(config.steps)]
    found = {f"table {held.table}": held.weight for tables in trainer.tables.sets for held in tables.held()}
    found |= {f"mlp {i}": p.detach() for i, p in enumerate(trainer.model.dense_parameters())}
    evaluation = [value or -1 for value in trainer.evaluate().values()]
    np.savez(
        folder / f"{config.steps} steps, rank {rank} of {config.ranks}.npz",
        losses=losses,
        evaluation=evaluation,
        **found,
    )


def both(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    launch.init_process_group("cpu", dist.FileStore(str(folder / "store"), 2), rank, 2)
    for config in (CONFIG, LEARN):
        train(config, folder, rank)
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("GLOO_SOCKET_IFNAME", "lo")
        multiprocessing.start_processes(both, (folder,), nprocs=2)  # raises what a rank's assertion raises
    for config in (CONFIG, LEARN):
        train(replace(config, ranks=1), folder, 0)
    return folder


def test_training_is_the_same_for_one_and_two_ranks(folder):
    one = np.load(folder / f"{CONFIG.steps} steps, rank 0 of 1.npz")
    two = [np.load(folder / f"{CONFIG.steps} steps, rank {rank} of 2.npz") for rank in range(2)]
    assert one["losses"][-1] < one["losses"][0]
    for ranks in two:
        np.testing.assert_allclose(ranks["losses"], one["losses"], rtol=1e-5)
        np.testing.assert_allclose(ranks["evaluation"], one["evaluation"], rtol=1e-4)
        for name in set(ranks.files) - {"losses", "evaluation"}:
            np.testing.assert_allclose(ranks[name], one[name], atol=1e-4, err_msg=name)
    assert {name for ranks in two for name in ranks.files} == set(one.files)


def test_learning_comes_near_the_teachers_own_entropy(folder):
    """Held-out normalized entropy goes at least nine tenths of the way from 1 to the floor, on 1 and on 2 ranks."""
    found = [np.load(folder / f"{LEARN.steps} steps, rank 0 of {ranks}.npz")["evaluation"] for ranks in (1, 2)]
    for entropy, floor in found:
        assert 0.5 < floor < 0.85
        assert (1 - entropy) / (1 - floor) >= 0.9
    np.testing.assert_allclose(*found, rtol=1e-3)


def test_exchanges_record_what_they_move(folder):
    events = spans.read(folder / f"{CONFIG.steps} steps, trainer-0 of 2.spans.jsonl").events
    moved = events[events["collective"] != ""].drop_duplicates("name").set_index("name")
    names = ["lengths_exchange", "indices_exchange", "embedding_exchange", "gradient_exchange", "gradient_all_reduce"]
    assert set(moved.index) == set(names)
    assert list(moved.loc[names, "phase"]) == ["input", "input", "forward", "backward", "backward"]
    assert set(moved["kind"]) == {"wait"} and (moved["group_size"] == 2).all()
    assert list(moved.loc[names, "collective"]) == 4 * ["all_to_all"] + ["all_reduce"]
    # Rank 0 has 32 samples: lengths of 5 tables, int32.
    assert moved.loc["lengths_exchange", "message_bytes"] == 5 * 32 * 4
    held = [name for name in np.load(folder / f"{CONFIG.steps} steps, rank 0 of 2.npz").files if "table" in name]
    assert moved.loc["embedding_exchange", "message_bytes"] == 64 * CONFIG.dim * len(held) * 4
    # All of the top MLP's gradients, with the two sums that ride along.
    top = (8 + 5 * 6 // 2 + 1) * 32 + 32 + 1
    assert moved.loc["gradient_all_reduce", "message_bytes"] == 4 * (top + 2)
