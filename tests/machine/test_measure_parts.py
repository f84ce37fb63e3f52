"""The parts themselves on a tiny plan: what rows they make, that they clean up, that names are the profiler's."""

import numpy as np
import pytest

from workbench.machine.ceilings import COLUMNS, Ceilings
from workbench.machine.measure import collectives, compute, gather, latency, memory, network, overhead, storage
from workbench.machine.measure.plan import Plan
from workbench.machine.measure.sampling import Found, Unavailable


@pytest.fixture
def plan(tmp_path, monkeypatch) -> Plan:
    """One core, a toy cache and memory of 128 KiB, three repeats."""
    monkeypatch.setattr(Plan, "repeats", 3)
    core = Plan.of_this_machine(quick=True).cores[0]
    caches = (
        {"level": 1, "bytes": 8 << 10, "shared_by_cores": 1},
        {"level": 2, "bytes": 32 << 10, "shared_by_cores": 1},
    )
    return Plan((core,), caches, 128 << 10, tmp_path, quick=True)


def made(found: Found) -> Ceilings:
    """As a table, after a look at every row."""
    for row in found.rows:
        assert set(row) <= set(COLUMNS) and row["source"] == "measured" and row["method"] and row["unit"], row
        assert 0 < row["min"] <= row["median"] <= row["max"] and row["min"] <= row["value"] <= row["max"], row
        assert row["repeats"] == 3
    return Ceilings.from_rows(found.rows, {})


def test_memory(plan):
    ceilings = made(memory.measure(plan))
    for tier in ("l1", "l2", "dram"):
        for name in ("read", "write", "copy", "triad"):
            assert ceilings.bandwidth(tier, name).value > 1e8
        triad, fetched = (ceilings.bandwidth(tier, name).value for name in ("triad", "triad_write_allocate"))
        assert fetched == pytest.approx(triad * 32 / 24)
    sweep = ceilings.table[ceilings.table["kind"] == "sweep"]
    assert set(sweep["working_set_bytes"]) == set(plan.sweep())


def test_memory_of_all_cores_is_one_cores_part_times_the_cores(plan):
    found = Found()
    memory._rows(found, "dram", "copy", 4, np.array([1e9, 2e9]), 1 << 20)
    part, whole = found.rows
    assert (part["cores"], part["active"], whole["cores"], whole["active"]) == (1, 4, 4, 1)
    assert part["max"] == 2e9 * 16 and whole["value"] == 4 * part["value"]


def test_gather(plan):
    ceilings = made(gather.measure(plan))
    assert ceilings.gather("l1", 64).value > 1e8 and ceilings.gather("dram", 256).value > 1e8
    assert set(ceilings.table["name"]) == {"gather", "gather_prefetch"}


def test_rows_below_a_line_move_a_line():
    assert [gather.moved_bytes(size) for size in (16, 64, 256)] == [64, 64, 256]


def test_latency(plan):
    table = made(latency.measure(plan)).table
    assert list(table["tier"]) == ["l1", "l2", "dram"]
    assert (table["value"] < 1e4).all()


def test_compute_takes_the_best_shape_and_leaves_emulation_out(plan, monkeypatch):
    monkeypatch.setattr(compute, "_QUICK_SHAPES", ((64, 64, 64), (128, 128, 128)))
    rates = {"fp32": 100.0, "bf16": 200.0, "fp16": 3.0}

    def trial(precision, shape, cores):
        if precision == "int8":
            raise RuntimeError("not implemented for Char\nsecond line")
        return lambda: rates[precision] * shape[0] * 1e9

    monkeypatch.setattr(compute, "_trial", trial)
    found = compute.measure(plan)
    ceilings = made(found)
    assert ceilings.compute("bf16").value == 200e9 * 128 and "128x128x128" in ceilings.compute("bf16").method
    assert ceilings.compute("fp16") is None and ceilings.compute("int8") is None
    assert found.left_out["compute int8"] == "torch cannot: not implemented for Char"
    assert found.left_out["compute fp16"].startswith("emulated: runs at 0.030")


def test_shapes_that_take_too_long_are_not_tried():
    assert compute._worthwhile_shapes(1e6, quick=True) == [(512, 512, 512)]
    slow, fast = (compute._worthwhile_shapes(rate, quick=True) for rate in (1e11, 1e14))
    assert (1024, 1024, 1024) in slow and (2048, 2048, 2048) not in slow and (4096, 4096, 4096) in fast


def test_compute_really_multiplies_and_gives_the_threads_back(plan, monkeypatch):
    import torch

    monkeypatch.setattr(compute, "_QUICK_SHAPES", ((64, 64, 64),))
    threads = torch.get_num_threads()
    assert made(compute.measure(plan)).compute("fp32", cores=1).value > 1e8
    assert torch.get_num_threads() == threads


def test_operators_of_the_overhead_are_named_as_the_profiler_names_them():
    import torch

    calls = overhead.near_empty_calls()
    with torch.inference_mode(), torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        for name, call in calls.items():
            with torch.profiler.record_function(f"calling {name}"):
                call()
    inside = {event.name: _below(event) for event in profile.events()}
    assert [name for name in calls if name not in inside[f"calling {name}"]] == []


def _below(event) -> set[str]:
    return {name for child in event.cpu_children for name in {child.name, *_below(child)}}


def test_overhead(plan, monkeypatch):
    import torch

    one = torch.ones(1)
    monkeypatch.setattr(overhead, "near_empty_calls", lambda: {"aten::add": lambda: torch.add(one, one)})
    assert 10 < made(overhead.measure(plan)).overhead_ns("aten::add").value < 1e7


def test_network(plan):
    ceilings = made(network.measure(plan))
    assert ceilings.bandwidth("network", "send").value > 1e6
    assert set(ceilings.table["kind"]) == {"bandwidth", "latency"}


@pytest.mark.parametrize("direct", [True, False])
def test_storage_measures_and_leaves_nothing_behind(plan, monkeypatch, direct):
    if not direct:
        monkeypatch.delattr("os.O_DIRECT")
    found = storage.measure(plan)
    ceilings = made(found)
    for name in ("read", "write", "random_read"):
        assert ceilings.bandwidth("ssd", name).value > 1e4
    methods = set(ceilings.table["method"].str.contains("posix_fadvise"))
    assert direct or methods == {True}
    assert list(plan.directory.iterdir()) == []


def test_storage_cleans_up_after_a_failure(plan, monkeypatch):
    def broken(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(storage, "_read_block", broken)
    with pytest.raises(Unavailable, match="Input/output error"):
        storage.measure(plan)
    assert list(plan.directory.iterdir()) == []


@pytest.mark.parametrize(("alpha", "beta"), [(50_000.0, 0.7), (1_000.0, 0.001), (0.0, 2.0)])
def test_the_fit_recovers_a_planted_line(alpha, beta):
    sizes = np.array([2.0**power for power in range(10, 26, 3)])
    found_alpha, found_beta, residual = collectives.fit_line(sizes, alpha + beta * sizes)
    assert found_alpha == pytest.approx(alpha, rel=1e-6, abs=1e-3)
    assert found_beta == pytest.approx(beta, rel=1e-6)
    assert residual == pytest.approx(0, abs=1e-9)


def test_the_fit_under_noise_is_never_negative_and_states_its_residual():
    random = np.random.default_rng(0)
    sizes = np.array([2.0**power for power in range(10, 26)])
    noisy = (20_000 + 0.5 * sizes) * random.lognormal(0, 0.1, len(sizes))
    alpha, beta, residual = collectives.fit_line(sizes, noisy)
    assert alpha == pytest.approx(20_000, rel=0.2) and beta == pytest.approx(0.5, rel=0.2)
    assert 0.03 < residual < 0.2
    assert min(collectives.fit_line(sizes, sizes**2)[:2]) >= 0


def test_collectives_from_planted_times(plan, monkeypatch):
    """Times that lie on a line by construction come out as rows and as that line."""
    sizes = np.array(collectives._QUICK_MESSAGE_BYTES)
    times = np.broadcast_to(1000.0 + 0.25 * sizes, (3, len(collectives.COLLECTIVES), len(sizes)))
    monkeypatch.setattr(collectives, "run_ranks", lambda *_: times)
    found = collectives.measure(plan)
    table = Ceilings.from_rows(found.rows, {})
    assert table.collective_ns("all_gather", 2, 2**20).value == 1000 + 0.25 * 2**20
    fits = table.table[(table.table["kind"] == "collective_fit") & (table.table["collective"] == "broadcast")]
    assert dict(zip(fits["name"], fits["value"], strict=True)) == pytest.approx(
        {"alpha": 1000, "beta": 0.25, "residual": 0}, abs=1e-6
    )
    assert set(fits["unit"]) == {"ns", "ns/B", "share"}


def test_two_real_ranks():
    times_ns = collectives.run_ranks("gloo", 2, (1024, 4096), 2)
    assert times_ns.shape == (2, len(collectives.COLLECTIVES), 2)
    assert (times_ns > 0).all() and (times_ns < 60e9).all()


def test_ranks_that_fail_say_why(monkeypatch):
    monkeypatch.setattr(collectives, "_RANK_PROGRAM", "carrier_pigeon")
    with pytest.raises(Unavailable, match=r"gloo: .*carrier_pigeon"):
        collectives.run_ranks("gloo", 1, (1024,), 1)
