"""TorchRec trains the same model on the same data under the same plan: the loss is ours, step by step."""

import pytest

import workbench as wb
from workbench.errors import InputError
from workbench.workloads import start


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ranks": 1}, "set ranks=2 or more"),
        ({"sharding": "data-parallel"}, "not data-parallel"),
        ({"optimizer": "adam"}, "no optimizer=adam"),
        ({"row_dtype": "bf16"}, "row_dtype=bf16 is not for engine=torchrec: leave it fp32"),
    ],
)
def test_what_the_engines_do_not_share_is_said(tmp_path, settings, message):
    with pytest.raises(InputError, match=message):
        start("training", "tiny", {"engine": "torchrec", **settings}, tmp_path, False, False)


def test_without_torchrec_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install --no-deps torchrec"):
        start("training", "tiny", {"engine": "torchrec"}, tmp_path, False, False)


@pytest.mark.parametrize("sharding", ["table-wise", "row-wise"])
def test_losses_are_ours(tmp_path, sharding):
    pytest.importorskip("torchrec")

    def losses(engine: str) -> list[float]:
        settings = {"engine": engine, "sharding": sharding, "steps": 5, "evaluation_batches": 1}
        metrics = wb.load(start("training", "tiny", settings, tmp_path, False, False)).metrics
        return metrics.loc[metrics["name"] == "loss"].groupby("step")["value"].first().tolist()

    assert losses("torchrec") == pytest.approx(losses("workbench"), rel=1e-5)
