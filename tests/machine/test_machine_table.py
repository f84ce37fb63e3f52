"""The printed table: coarse, in order, promised beside measured, honest about what is missing."""

import pytest

from workbench.machine.ceilings import Ceilings
from workbench.machine.table import summary_table
from workbench.metrics import definitions


def row(kind: str, value: float, unit: str, **columns: object) -> dict:
    spread = {"value": value, "median": value, "min": value, "max": value, "repeats": 20}
    return {"kind": kind, "unit": unit, **spread, "method": "by hand", "source": "measured", **columns}


ROWS = [
    row("overhead", 1200, "ns", name="aten::add"),
    row("overhead", 300, "ns", name="aten::view"),
    row("bandwidth", 28e9, "B/s", tier="dram", name="triad", cores=1, active=1),
    row("bandwidth", 17e9, "B/s", tier="dram", name="triad", cores=1, active=2),
    row("bandwidth", 34e9, "B/s", tier="dram", name="triad", cores=2, active=1),
    row("bandwidth", 300e9, "B/s", tier="l1", name="triad", cores=1, active=1),
    row("sweep", 300e9, "B/s", name="triad", working_set_bytes=16384),
    row("compute", 111e9, "FLOP/s", precision="fp32", name="matmul", cores=2),
    *(
        row("collective", ns, "ns", collective="broadcast", backend="gloo", group_size=2, message_bytes=size)
        for size, ns in ((1024, 1e5), (65536, 2e5), (2**25, 1e7))
    ),
]
HOST = {"cpu_model": "Made Up 9000", "gpus": []}


def test_coarse_and_in_order():
    table = summary_table(Ceilings.from_rows(ROWS, {"host": HOST, "left_out": {"device": "no CUDA device"}}))
    assert list(table["what"]) == [
        "cpu compute fp32 matmul, 2 cores",
        "cpu bandwidth l1 triad",
        "cpu bandwidth dram triad",
        "cpu bandwidth dram triad, 2 cores",
        "cpu collective broadcast gloo, 1.00 KiB, 2 ranks",
        "cpu collective broadcast gloo, 32.0 MiB, 2 ranks",
        "cpu overhead aten::add",
        "promised roof",
        "device",
    ]
    assert list(table["value"][:4]) == ["111 GFLOP/s", "300 GB/s", "28.0 GB/s", "34.0 GB/s"]
    assert table["value"][6] == "1.20 us" and table["repeats"][0] == "20"
    assert "Made Up 9000" in table["method"][7] and "no CUDA device" in table["method"][8]


def test_promises_stand_beside_what_was_measured():
    gpu = {"name": "NVIDIA H200", "memory_bytes": 150_000_000_000, "l2_bytes": 2**26}
    measured = row("compute", 600e12, "FLOP/s", precision="bf16", name="matmul", device="cuda:0")
    table = summary_table(Ceilings.from_rows([measured], {"host": HOST | {"gpus": [gpu]}}))
    bf16 = table[table["what"].str.contains("bf16")]
    assert list(bf16["source"]) == ["measured", "promised"]
    assert list(bf16["value"]) == ["600 TFLOP/s", "990 TFLOP/s"]
    assert "promised roof" not in set(table["what"])
    promised = table[table["source"] == "promised"]
    assert (promised["median"] == "-").all() and promised["method"].str.contains("H200 datasheet").all()


@pytest.mark.parametrize(("share", "shown"), [(0.0, False), (0.4, True)])
def test_a_disturbed_measurement_says_so(share, shown):
    table = summary_table(Ceilings.from_rows(ROWS, {"host": HOST, "others_share": share}))
    assert ("disturbed" in set(table["what"])) is shown


def test_a_machine_json_of_little_else_still_prints():
    assert list(summary_table(Ceilings.from_rows([], {}))["what"]) == ["promised roof"]


def test_every_kind_of_row_and_column_is_defined():
    keys = {definition.key for definition in definitions("machine")}
    kinds = {"compute", "bandwidth", "gather", "latency", "collective", "collective_fit", "overhead", "sweep"}
    shown = {"what", "value", "median", "min", "max", "repeats", "method"}
    assert kinds | shown | {"others_share"} <= keys
