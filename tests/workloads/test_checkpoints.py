"""Checkpoints are whole or not there, load into any plan, and say what is wrong; resumed training is the same."""

import functools
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import multiprocessing

from workbench.errors import InputError
from workbench.trace.recorder import Recorder
from workbench.workloads import launch, start
from workbench.workloads.profiling import StepProfiler
from workbench.workloads.training import checkpointing
from workbench.workloads.training.checkpoint import MANIFEST, Checkpoint, Writer, checkpoints_in, newest_checkpoint
from workbench.workloads.training.config import tiny
from workbench.workloads.training.quality import LossSums
from workbench.workloads.training.train import Trainer, run

CONFIG = replace(tiny(), ranks=1, global_batch_size=64, tables=5, rows=(30, 300), dim=8, steps=8)
HALF = 4
KINDS = {
    "fp16 under Adam": {"row_dtype": "fp16", "optimizer": "adam"},
    "bf16": {"row_dtype": "bf16"},
    "int8": {"row_dtype": "int8"},
    "Adam": {"optimizer": "adam"},
}
RESHARDED = {"fp16 under Adam": "mixed", "bf16": "column-wise", "int8": "row-wise"}


def train(config, folder: Path, first: int = 0, resume: Path | None = None, save: Path | None = None):
    """Losses of the steps from `first` on; a checkpoint after HALF."""
    trainer = Trainer(config, Recorder(None), folder)
    if resume:
        checkpointing.restore(trainer, Checkpoint(resume))
    batches, losses = trainer.redistribute(trainer.inputs(first)), []
    for step in range(first, config.steps):
        losses.append(trainer.step(batches).log_loss)
        if save and step + 1 == HALF:
            checkpointing.save(trainer, save, HALF, LossSums(1.0, 2.0, 3.0))
    return losses


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """(the checkpoint after HALF steps of one rank, all losses)."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("saved")
    losses = train(CONFIG, folder, save=folder)
    return folder / f"step-{HALF:08d}", losses


@pytest.fixture(scope="module")
def saved_kind(tmp_path_factory):
    """As `saved`, for one of KINDS."""
    folder = tmp_path_factory.mktemp("kinds")

    @functools.cache
    def saved(kind: str) -> tuple[Path, list[float]]:
        losses = train(replace(CONFIG, **KINDS[kind]), folder, save=folder / kind)
        return folder / kind / f"step-{HALF:08d}", losses

    return saved


@pytest.mark.parametrize("kind", KINDS)
def test_other_rows_and_optimizers_resume_to_the_same_losses(saved_kind, tmp_path, kind):
    path, losses = saved_kind(kind)
    config = replace(CONFIG, **KINDS[kind])
    assert train(config, tmp_path, HALF, resume=path) == losses[HALF:]
    if config.row_dtype == "fp32":
        assert train(replace(config, cache_share=0.1), tmp_path, HALF, resume=path) == losses[HALF:]


def test_a_checkpoint_of_fp32_rows_alone_is_still_read(saved, tmp_path):
    """Schema 1, which did not say that they are fp32."""
    path = tmp_path / saved[0].name
    shutil.copytree(saved[0], path)
    manifest = json.loads((path / MANIFEST).read_text())
    del manifest["settings"]["row_dtype"]
    (path / MANIFEST).write_text(json.dumps(manifest | {"schema": 1}))
    assert train(CONFIG, tmp_path, HALF, resume=path) == saved[1][HALF:]


@pytest.mark.parametrize("changes", [{}, {"cache_share": 0.2, "backing": "ssd"}, {"kernel": "torch"}])
def test_training_resumes_to_the_same_losses(saved, tmp_path, changes):
    path, losses = saved
    found = train(replace(CONFIG, **changes), tmp_path, HALF, resume=path)
    if "kernel" in changes:
        np.testing.assert_allclose(found, losses[HALF:], rtol=1e-5)
    else:
        assert found == losses[HALF:]


def test_a_cached_trainer_saves_what_it_trained(saved, tmp_path):
    path, losses = saved
    cached = replace(CONFIG, cache_share=0.1)
    assert train(cached, tmp_path, save=tmp_path) == losses
    own, whole = Checkpoint(newest_checkpoint(tmp_path)), Checkpoint(path)
    for table in whole.tables:
        for what in ("weight", "state"):
            assert (own.table(table, what) == whole.table(table, what)).all()


def on_two_ranks(rank: int, folder: Path, paths: list[Path]) -> None:
    torch.set_num_threads(1)
    launch.init_process_group("cpu", dist.FileStore(str(folder / "store"), 2), rank, 2)
    config = replace(CONFIG, ranks=2, sharding="mixed")
    losses = train(config, folder, HALF, resume=paths[0])
    kinds = [{"sharding": "mixed"}, *({"sharding": scheme, **KINDS[kind]} for kind, scheme in RESHARDED.items())]
    for number, (path, changes) in enumerate(zip(paths, kinds, strict=True)):
        again = Trainer(replace(config, **changes), Recorder(None), folder)
        checkpointing.restore(again, Checkpoint(path))
        checkpointing.save(again, folder / f"resharded-{number}", HALF, LossSums())
    np.save(folder / f"losses-{rank}.npy", losses)
    dist.destroy_process_group()


def test_a_checkpoint_loads_into_another_plan_and_number_of_ranks_and_back(saved, saved_kind, tmp_path, monkeypatch):
    path, losses = saved
    paths = [path, *(saved_kind(kind)[0] for kind in RESHARDED)]
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    multiprocessing.start_processes(on_two_ranks, (tmp_path, paths), nprocs=2)
    for rank in range(2):
        np.testing.assert_allclose(np.load(tmp_path / f"losses-{rank}.npy"), losses[HALF:], rtol=1e-5)
    for number, kind in enumerate(RESHARDED, 1):
        again = newest_checkpoint(tmp_path / f"resharded-{number}")
        assert train(replace(CONFIG, **KINDS[kind]), tmp_path, HALF, resume=again) == saved_kind(kind)[1][HALF:], kind
    resharded, whole = Checkpoint(newest_checkpoint(tmp_path / "resharded-0")), Checkpoint(path)
    assert {len(resharded.pieces(table, "weight")) for table in whole.tables} == {1, 2}
    for table in whole.tables:
        for what in ("weight", "state"):
            assert (resharded.table(table, what) == whole.table(table, what)).all()
    assert train(CONFIG, tmp_path, HALF, resume=resharded.path) == losses[HALF:]


def damage(name: str, path: Path) -> None:
    array = path / Checkpoint(path)._arrays[0].file
    if name == "a file cut":
        array.write_bytes(array.read_bytes()[:-40])
    elif name == "a file gone":
        array.unlink()
    elif name == "a bit flipped":
        content = bytearray(array.read_bytes())
        content[-5] ^= 1
        array.write_bytes(bytes(content))
    elif name == "a rank gone":
        manifest = json.loads((path / MANIFEST).read_text())
        manifest["arrays"] = [each for each in manifest["arrays"] if each["owner"] != "table_0"]
        (path / MANIFEST).write_text(json.dumps(manifest))
    else:
        (path / MANIFEST).write_text("{")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a file cut", "cut short: rank-0/0.npy has .* of .* bytes"),
        ("a file gone", "cut short: rank-0/0.npy has 0 of"),
        ("a bit flipped", r"rank-0/0.npy is damaged: its CRC-32"),
        ("a rank gone", "cut short: table table_0 is not whole"),
        ("no manifest", "is no checkpoint's manifest"),
    ],
)
def test_damage_is_said_in_one_line(saved, tmp_path, name, message):
    path = tmp_path / saved[0].name
    shutil.copytree(saved[0], path)
    damage(name, path)
    with pytest.raises(InputError, match=message):
        train(CONFIG, tmp_path, HALF, resume=path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dim": "12"}, "is of another model: dim is 8 there, 12 here"),
        ({"row_dtype": "fp16"}, "is of another model: row_dtype is fp32 there, fp16 here"),
        ({"steps": str(HALF - 1)}, "steps=3: checkpoint .* is after step 4"),
        ({"resume": "nowhere"}, "nowhere holds no checkpoint"),
    ],
)
def test_what_cannot_resume_is_said_before_ranks_start(saved, tmp_path, settings, message):
    model = {"ranks": "1", "global_batch_size": "64", "tables": "5", "rows": "30,300", "dim": "8", "steps": "8"}
    settings = model | {"resume": str(saved[0])} | settings
    with pytest.raises(InputError, match=message):
        start("training", "tiny", settings, tmp_path, ceilings=False, py_spy=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("changes", [{}, {"warmup_steps": 0, "cache_share": 0.2}])
def test_after_the_last_step_there_is_only_the_evaluation(saved, tmp_path, changes):
    """As when a rank is killed in the evaluation and torchrun starts it again."""
    config = replace(CONFIG, steps=HALF, resume=str(saved[0]), evaluation_batches=2, **changes)
    trained = Trainer(config, Recorder(None), tmp_path)
    checkpointing.restore(trained, Checkpoint(saved[0]))
    with Recorder(tmp_path, "trainer-0", 0) as recorder:
        results = run(config, recorder, StepProfiler(tmp_path, "trainer-0", config.warmup_steps, 3, 50), tmp_path)
    nothing_trained = {"loss": None, "samples_per_s": None, "wire_bytes_per_step": {}}
    assert results == nothing_trained | trained.evaluate() and results["held_out_normalized_entropy"] > 0


def test_a_checkpoint_is_whole_or_not_there_and_old_ones_go(tmp_path):
    values = np.arange(6, dtype=np.float32).reshape(3, 2)

    def write(step: int, commit: bool) -> None:
        writer = Writer(tmp_path, step, 0)
        writer.prepare()
        writer.add("t", "weight", (3, 2), values.dtype, [values[:2], values[2:]], (0, 3), (0, 2))
        writer.close()
        if commit:
            writer.commit(1, {}, {"t": (3, 2)}, (0.0, 0.0, 0.0))

    for step in (5, 10, 15):
        write(step, commit=True)
    write(20, commit=False)  # killed here
    assert [path.name for path in checkpoints_in(tmp_path)] == ["step-00000010", "step-00000015"]
    assert (Checkpoint(newest_checkpoint(tmp_path)).table("t") == values).all()
    write(20, commit=True)
    assert newest_checkpoint(tmp_path).name == "step-00000020" and not list(tmp_path.glob(".*"))
