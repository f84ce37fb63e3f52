"""Wrong settings stop a run before anything is written, in one line that says what would be right."""

from dataclasses import replace

import pytest

from workbench.errors import InputError
from workbench.settings import configure
from workbench.workloads import start
from workbench.workloads.training import PRESETS


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_documented_and_valid(preset):
    config = PRESETS[preset]()
    assert PRESETS[preset].__doc__ and configure(config, {}) == config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": "2"}, "unknown setting 'rank'.*ranks"),
        ({"ranks": "two"}, "ranks='two' is not a whole number"),
        ({"ranks": "0"}, "ranks=0: must be above 0"),
        ({"ranks": "3"}, "global_batch_size=256 cannot be shared equally by ranks=3"),
        ({"ranks": "4", "host_ranks": "3"}, "host_ranks=3: ranks=4 must be a multiple of it"),
        ({"plan": "nowhere.json"}, "plan=nowhere.json: cannot read it: No such file"),
        ({"sharding": "sideways"}, "choose one of table-wise, row-wise"),
        ({"rows": "10"}, "smallest and the largest"),
        ({"rows": "100,10"}, "smallest and the largest"),
        ({"kernel": "magic"}, "choose one of auto, fbgemm, torch"),
        ({"optimizer": "lamb"}, "choose one of rowwise_adagrad, adagrad, adam, sgd"),
        ({"row_dtype": "fp8"}, "choose one of fp32, fp16, bf16, int8"),
        ({"session_samples": "0.5"}, "1 sample or more"),
        ({"bottom_mlp": "32,0"}, "every width must be above 0"),
        ({"embedding_learning_rate": "-1"}, "embedding_learning_rate=-1.0: must be above 0"),
        ({"seed": "-1"}, "seed=-1: must be 0 or more"),
        ({"threads_per_rank": "0"}, "threads_per_rank=0"),
        ({"data": "x"}, "only source=criteo"),
        ({"source": "criteo"}, "26 tables and 13 dense"),
        ({"source": "criteo", "tables": "26"}, "--set data=PATH"),
        ({"source": "criteo", "tables": "26", "data": "nowhere"}, "cannot read nowhere"),
        ({"instrument": "perhaps"}, "instrument='perhaps' is not true or false"),
    ],
)
def test_wrong_settings(tmp_path, settings, message):
    with pytest.raises(InputError, match=message):
        start("training", "tiny", settings, tmp_path / "traces", False, False)
    assert not (tmp_path / "traces").exists()


def test_planned_sharding_is_a_plan_that_the_rows_can_have():
    config = replace(PRESETS["tiny"](), sharding="planned", ranks=4, dim=64)
    plan = config.plan_for(4)
    plan.check(config.table_configs, 4)
    assert plan == config.plan_for(4)
    in_columns = replace(config, sharding="column-wise", row_dtype="bf16", optimizer="adam")
    assert {table.scheme for table in in_columns.plan_for(4).tables} == {"column-wise"}
    int8 = replace(config, row_dtype="int8")
    assert "column-wise" not in {table.scheme for table in int8.plan_for(4).tables}
    with pytest.raises(InputError, match="table_0 lies in columns, and its int8 rows"):
        replace(int8, sharding="column-wise").plan_for(4)


def test_unknown_names(tmp_path):
    with pytest.raises(InputError, match=r"unknown workload 'gardening'.*training"):
        start("gardening", "tiny", {}, tmp_path, False, False)
    with pytest.raises(InputError, match=r"unknown preset 'magic'.*tiny"):
        start("training", "magic", {}, tmp_path, False, False)


def test_a_gpu_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(InputError, match="2 ranks on this machine need a GPU each, torch sees 1"):
        start("training", "tiny", {"device": "cuda"}, tmp_path, False, False)
