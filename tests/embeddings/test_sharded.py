"""Sharded tables on 2 and 4 gloo ranks against one rank on the concatenated batch, for every scheme.

Forward: equal to the bit, but for row-wise sums. Updates under the same gradients: to the bit table-wise, to summation
order for the others, to the bit for all in fixed order.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sharded_ranks import CASES, KIND_CASES, STEPS, TABLES, rank_main, tables_of, train
from torch import multiprocessing

from workbench.embeddings.sharding import uniform_plan
from workbench.errors import InputError

ROW_WISE = ("row-wise", "table-row-wise", "mixed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sharded")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("GLOO_SOCKET_IFNAME", "lo")
        for ranks in (2, 4):
            multiprocessing.start_processes(rank_main, (ranks, folder), nprocs=ranks)
    return folder


@pytest.fixture(scope="module")
def one_rank() -> Callable[[str], dict]:
    found: dict[str, dict] = {}
    return lambda case: found.setdefault(case, train(case, 0, 1))


def parts(folder: Path, case: str, ranks: int) -> list[dict]:
    return [dict(np.load(folder / f"{case} {rank} of {ranks}.npz")) for rank in range(ranks)]


def whole_tables(ranks: list[dict], what: str, tables=TABLES) -> dict[str, np.ndarray]:
    """Every table's weights or state put together from shards; copies and shared states must agree."""
    found = {}
    for table in tables:
        shape = (table.rows, *((table.dim,) if what == "weight" else table.state_shape))
        joined = np.full(shape, np.nan, dtype=np.float32)
        for name, values in (item for rank in ranks for item in rank.items()):
            if not name.startswith(f"{what} {table.name} "):
                continue
            row, column = map(int, name.split()[2:])
            place = (
                slice(row, row + len(values)),
                *((..., slice(column, column + values.shape[-1])) if values.ndim > 1 else ()),
            )
            known = ~np.isnan(joined[place])
            np.testing.assert_array_equal(joined[place][known], values[known], err_msg=name)
            joined[place] = values
        assert not np.isnan(joined).any(), table.name
        found[table.name] = joined
    return found


def assert_equal(found: np.ndarray, expected: np.ndarray, to_the_bit: bool, what: str) -> None:
    if to_the_bit:
        np.testing.assert_array_equal(found, expected, err_msg=what)
    else:
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6, err_msg=what)


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("case", [case for case in CASES if " by " not in case])
def test_sharded_equals_unsharded(folder, one_rank, case, ranks):
    scheme, options = CASES[case]
    sharded, expected = parts(folder, case, ranks), one_rank(f"table-wise{' in fixed order' * options['fixed_order']}")
    exact = scheme == "table-wise" or options["fixed_order"]
    for what in ("weight", "state"):
        unsharded = whole_tables([expected], what)
        for table, values in whole_tables(sharded, what).items():
            assert_equal(values, unsharded[table], exact, f"{what} of {table}")
    for step in range(STEPS):
        pooled = np.concatenate([rank[f"pooled {step}"] for rank in sharded])
        # From step 1 on the weights may differ, unless updates are exact.
        same_bits = scheme not in ROW_WISE and (step == 0 or exact)
        assert_equal(pooled, expected[f"pooled {step}"], same_bits, f"step {step}")


def assert_trained_alike(ranks: list[dict], one: dict, tables, to_the_bit: bool) -> None:
    row_dtype = tables[0].row_dtype
    # Where gradients are summed in another order a row may be rounded to the other neighbour, once a step.
    step = {"fp32": 2e-5, "fp16": 2.0**-10, "bf16": 2.0**-7, "int8": 2.0 / 255}[row_dtype]
    for what in ("weight", "state"):
        expected = whole_tables([one], what, tables)
        for name, values in whole_tables(ranks, what, tables).items():
            if to_the_bit:
                np.testing.assert_array_equal(values, expected[name], err_msg=f"{what} of {name}")
            else:
                bound = STEPS * step * np.abs(expected[name]).max(initial=0) if row_dtype == "int8" else 2e-6
                np.testing.assert_allclose(values, expected[name], rtol=STEPS * step, atol=bound, err_msg=what)


@pytest.mark.parametrize("case", KIND_CASES)
def test_every_optimizer_and_row_format_is_that_of_one_rank(folder, one_rank, case):
    scheme, options, kind = KIND_CASES[case]
    exact = options["fixed_order"] or (scheme == "column-wise" and kind["optimizer"] != "rowwise_adagrad")
    one = one_rank(case)
    assert_trained_alike(parts(folder, case, 2), one, tables_of(case), exact)
    for step in range(STEPS):
        pooled = np.concatenate([rank[f"pooled {step}"] for rank in parts(folder, case, 2)])
        if exact and scheme not in ROW_WISE:
            np.testing.assert_array_equal(pooled, one[f"pooled {step}"])


@pytest.mark.parametrize("case", [case for case in KIND_CASES if case.startswith("data-parallel")])
def test_a_single_copy_is_updated_as_a_table_of_one_rank_to_the_bit(one_rank, case):
    """Whatever is summed densely: also of rows whose gradient is zero."""
    assert_trained_alike([one_rank(case)], train(case, 0, 1, "table-wise"), tables_of(case), to_the_bit=True)


def test_columns_of_int8_rows_are_refused():
    tables = [replace(table, row_dtype="int8") for table in TABLES]
    with pytest.raises(InputError, match="table t0 lies in columns, and its int8 rows have one scale a row"):
        uniform_plan(tables, 2, "column-wise").check(tables, 2)


@pytest.mark.parametrize("case", [case for case in CASES if " by " in case])
def test_coded_payloads_are_close(folder, one_rank, case):
    sharded, expected = parts(folder, case, 2), one_rank("table-wise")
    pooled = np.concatenate([rank["pooled 0"] for rank in sharded])
    step = 2**-10 if "fp16" in case else 1 / 255  # half a unit of fp16; of int8, a unit of a row's range, of two sums
    assert np.abs(pooled - expected["pooled 0"]).max() <= step * np.abs(expected["pooled 0"]).max() * 2
    assert not np.array_equal(pooled, expected["pooled 0"])


def through_int8(rows: np.ndarray) -> np.ndarray:
    """Rows [n, columns] float32 as they come out of int8: each 32 columns in 256 even steps of their own range."""
    found = np.empty_like(rows)
    for start in range(0, rows.shape[1], 32):
        block = rows[:, start : start + 32]
        smallest = block.min(axis=1, keepdims=True)
        unit = (block.max(axis=1, keepdims=True) - smallest) / np.float32(255)
        steps = np.rint((block - smallest) / np.maximum(unit, np.finfo(np.float32).tiny))
        found[:, start : start + 32] = steps * unit + smallest
    return found


def test_int8_exchange_to_the_bit(folder, one_rank):
    """A row that travels is what one rank has pooled of a sample: the columns of its tables, in their order."""
    sharded, whole = parts(folder, "table-wise by int8", 2), one_rank("table-wise")["pooled 0"]
    starts = np.cumsum([0, *(table.dim for table in TABLES)])
    expected = np.empty_like(whole)
    for rank in sharded:
        held = [number for number, table in enumerate(TABLES) if f"weight {table.name} 0 0" in rank]
        columns = np.concatenate([np.arange(starts[number], starts[number + 1]) for number in held])
        expected[:, columns] = through_int8(whole[:, columns])
    np.testing.assert_array_equal(np.concatenate([rank["pooled 0"] for rank in sharded]), expected)


def test_replicas_agree_and_training_moves(folder, one_rank):
    start = one_rank("table-wise")
    weights = whole_tables([start], "state")
    assert all((state > 0).any() for state in weights.values())
    whole_tables(parts(folder, "data-parallel", 4), "weight")  # compares the copies


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("case", CASES)
def test_bytes_of_lookups_by_scheme_are_all_bytes(folder, case, ranks):
    for rank in parts(folder, case, ranks):
        assert rank["input bytes"] == rank["input bytes by scheme"]


def sent_bytes(folder: Path, case: str, ranks: int, direction: str) -> int:
    return sum(int(rank[f"{direction} bytes by scheme"][0]) for rank in parts(folder, case, ranks))


def test_bytes_on_the_wire_by_hand(folder):
    """3 steps of 24 samples, 48 columns; each of W ranks has 24 / W samples."""
    step_bytes = STEPS * 24 * 48 * 4
    for ranks in (2, 4):
        # A sample's columns come from the other ranks: on average (W - 1) / W of them where tables are spread evenly.
        column_wise = sent_bytes(folder, "column-wise", ranks, "forward")
        assert column_wise == sent_bytes(folder, "column-wise", ranks, "backward")
        # Row-wise: every rank sends its partial sums of all columns for all others' samples, and gets gradients back.
        assert sent_bytes(folder, "row-wise", ranks, "forward") == (ranks - 1) * step_bytes
        assert sent_bytes(folder, "row-wise", ranks, "backward") == (ranks - 1) * step_bytes
        assert sent_bytes(folder, "data-parallel", ranks, "forward") == 0
    # Half of the bytes in fp16; in int8 of 2 ranks, two blocks of 32 columns a row, and 8 bytes more for each.
    assert sent_bytes(folder, "row-wise by fp16", 2, "forward") == step_bytes // 2
    assert sent_bytes(folder, "row-wise by int8", 2, "backward") == STEPS * 24 * 2 * (32 + 8)
    # In a host of 2, 48 columns cross once a sample; between hosts, those of the other host's tables.
    in_host = 2 * STEPS * 24 * 48 * 4 // 2
    assert sent_bytes(folder, "table-row-wise", 2, "forward") == step_bytes
    assert in_host < sent_bytes(folder, "table-row-wise", 4, "forward") < sent_bytes(folder, "row-wise", 4, "forward")
