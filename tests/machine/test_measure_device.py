"""The device part without a device: its calls run on the CPU, and each row shows the amount that one call counts."""

from types import SimpleNamespace

import pytest
import torch

from workbench.machine.ceilings import Ceilings
from workbench.machine.measure import device
from workbench.machine.measure.plan import Plan
from workbench.machine.measure.sampling import Found, Unavailable

PLAN = Plan((0,), (), 1 << 20, None, quick=True)
KIB = 1024


@pytest.fixture
def on_cpu(monkeypatch) -> None:
    """Every call takes one second."""

    def rate(call, amount):
        call()
        return lambda: amount

    monkeypatch.setattr(device, "_rate", rate)
    monkeypatch.setattr(device, "DEVICE", "cpu")
    monkeypatch.setattr(device, "_ARRAY_BYTES", 64 * KIB)
    monkeypatch.setattr(device, "_FOOTPRINTS_BYTES", (64 * KIB, 256 * KIB))
    monkeypatch.setattr(device, "_SHAPES", ((64, 32, 16), (32, 32, 32)))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(L2_cache_size=64 * KIB))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (512 * KIB, 1 << 30))
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)


def test_without_a_device_it_says_so(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(Unavailable, match="no CUDA device"):
        device.measure(PLAN)


def test_rows_count_what_the_calls_move(on_cpu):
    found = Found()
    device._compute(found, PLAN)
    device._bandwidth(found, PLAN)
    device._gather(found, PLAN)
    made = Ceilings.from_rows(found.rows, {})
    assert made.compute("fp32", device="cpu").value == 2 * 32**3
    for name, arrays in (("read", 1), ("write", 1), ("copy", 2), ("triad", 3)):
        assert made.bandwidth("hbm", name).value == arrays * 64 * KIB
        assert made.bandwidth("l2", name).value == arrays * 8 * KIB
    assert made.bandwidth("pcie", "host_to_device").value == made.bandwidth("pcie", "device_to_host").value == 32 * KIB
    sets = made.table.loc[made.table["kind"] == "gather", "working_set_bytes"]
    assert set(sets) == {64 * KIB}  # the other is more than a quarter of what is free
    assert made.gather("hbm", 16).value == pytest.approx(64 * KIB // 16 * 64)  # a lookup a row, a line each
    assert made.gather("hbm", 1024).value == pytest.approx(64 * 1024)


def test_the_switch_for_tf32_is_put_back(on_cpu):
    before = torch.backends.cuda.matmul.allow_tf32
    device._compute(Found(), PLAN)
    assert torch.backends.cuda.matmul.allow_tf32 == before


def test_rates_are_by_the_devices_clock(monkeypatch):
    """Each launch advances the clock by 2 ms, whatever the host's clock says."""
    clock = [0.0]

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            self.at_ms = clock[0]

        def synchronize(self) -> None: ...

        def elapsed_time(self, end: "Event") -> float:
            return end.at_ms - self.at_ms

    def launch() -> None:
        clock[0] += 2.0

    monkeypatch.setattr(torch.cuda, "Event", Event)
    assert device._rate(launch, 10.0)() == pytest.approx(10.0 / 2e-3)
