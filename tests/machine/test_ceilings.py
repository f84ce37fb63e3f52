"""Look-ups on machines written by hand; machine.json there and back; damaged files."""

import json
import math

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import InputError
from workbench.machine.ceilings import CEILINGS_VERSION, COLUMNS, TEXT, Ceilings

LEVELS = {"cpu": [{"tier": "l1", "capacity_bytes": 32768}, {"tier": "dram", "capacity_bytes": None}]}


def row(kind: str, value: float, **columns: object) -> dict:
    spread = {"value": value, "median": value, "min": value / 2, "max": value * 2, "repeats": 20}
    return {"kind": kind, **spread, "source": "measured", "method": "by hand", **columns}


def ceilings(*rows: dict) -> Ceilings:
    return Ceilings.from_rows(rows, {"levels": LEVELS})


def test_compute_by_cores():
    made = ceilings(
        row("compute", 50e9, precision="fp32", cores=1, unit="FLOP/s"),
        row("compute", 160e9, precision="fp32", cores=4, unit="FLOP/s"),
        row("sweep", 999e9, precision="fp32", cores=1, unit="FLOP/s"),
    )
    assert made.compute().value == 160e9
    assert made.compute(cores=1).value == 50e9
    assert made.compute(cores=2).value == 100e9
    assert made.compute(cores=4).value == 160e9  # not 4 x 50
    assert made.compute(cores=3).value == 150e9
    assert made.compute(cores=8).value == 160e9
    assert made.compute("bf16") is None
    assert made.compute(device="cuda:0") is None


def test_a_peak_that_states_no_cores_holds_for_any():
    made = ceilings(row("compute", 19.5e12, precision="fp32", device="cuda:0", unit="FLOP/s"))
    assert made.compute(device="cuda:0").value == made.compute(cores=4, device="cuda:0").value == 19.5e12


# One thread alone gets 28; four at work get 9 each, 36 together.
DRAM = [row("bandwidth", 28.0, tier="dram", name="triad", cores=1, active=1, unit="B/s"),
        row("bandwidth", 9.0, tier="dram", name="triad", cores=1, active=4, unit="B/s"),
        row("bandwidth", 36.0, tier="dram", name="triad", cores=4, active=1, unit="B/s")]  # fmt: skip


@pytest.mark.parametrize(
    ("active", "cores", "expected"),
    [
        (1, 1, 28), (4, 1, 9), (1, 4, 36), (1, None, 36), (4, None, 9),  # as measured
        (2, 1, 18), (3, 1, 12),  # in between: an equal part of the total of more, at most what fewer got
        (1, 2, 36), (2, 2, 18),  # a process of two threads counts as two
        (8, 1, 4.5), (8, None, 4.5),  # beyond: an equal part of the largest total
    ],
)  # fmt: skip
def test_bandwidth_is_shared_by_what_is_at_work(active, cores, expected):
    found = ceilings(*DRAM).bandwidth("dram", active=active, cores=cores)
    assert found.value == pytest.approx(expected)
    assert (found.low, found.high) == (pytest.approx(expected / 2), pytest.approx(expected * 2))


def test_a_private_level_is_not_shared():
    made = ceilings(
        row("bandwidth", 100.0, tier="l1", name="triad", cores=1, active=1, unit="B/s"),
        row("bandwidth", 98.0, tier="l1", name="triad", cores=1, active=16, unit="B/s"),
    )
    assert made.bandwidth("l1", active=2, cores=1).value == 100
    assert made.bandwidth("l1", active=16, cores=1).value == 98


def test_rows_without_cores_speak_of_whole_processes():
    made = ceilings(
        row("bandwidth", 28.0, tier="dram", name="triad", active=1, unit="B/s"),
        row("bandwidth", 17.0, tier="dram", name="triad", active=2, unit="B/s"),
    )
    assert [made.bandwidth("dram", active=n, cores=c).value for n, c in ((1, None), (1, 8), (2, 1), (4, 1))] == [
        28, 28, 17, 8.5,
    ]  # fmt: skip


def test_bandwidth_of_what_was_not_measured():
    made = ceilings(*DRAM)
    assert made.bandwidth("l2") is None
    assert made.bandwidth("dram", "copy") is None
    assert made.bandwidth("dram", device="cuda:0") is None


def test_a_vendors_bandwidth_names_no_pattern():
    promised = row("bandwidth", 900e9, tier="hbm", device="cuda:0", unit="B/s")
    assert ceilings(promised).bandwidth("hbm", "copy", device="cuda:0").value == 900e9


def gather_row(value: float, row_bytes: int, size: int, active: int = 1, name: str = "gather") -> dict:
    return row("gather", value, tier="dram", name=name, row_bytes=row_bytes, working_set_bytes=size, cores=1,
               active=active, unit="B/s")  # fmt: skip


def test_gather_interpolates_row_sizes_on_logarithmic_axes():
    made = ceilings(gather_row(2e9, 64, 2**27), gather_row(8e9, 1024, 2**27))
    assert made.gather("dram", 64).value == pytest.approx(2e9)
    assert made.gather("dram", 256).value == pytest.approx(4e9)  # halfway on both axes
    assert made.gather("dram", 4096).value == pytest.approx(8e9)  # not beyond what was measured
    assert made.gather("l3", 64) is None


def test_gather_takes_the_nearest_footprint():
    made = ceilings(gather_row(6e9, 256, 2**27), gather_row(2e9, 256, 2**31))
    assert made.gather("dram", 256).value == pytest.approx(6e9)
    assert made.gather("dram", 256, footprint_bytes=2**33).value == pytest.approx(2e9)
    assert made.gather("dram", 256, footprint_bytes=2**28).value == pytest.approx(6e9)


def test_gather_with_and_without_prefetch_whichever_is_faster():
    made = ceilings(
        gather_row(4e9, 64, 2**27), gather_row(7e9, 64, 2**27, name="gather_prefetch"),
        gather_row(9e9, 1024, 2**27), gather_row(8e9, 1024, 2**27, name="gather_prefetch"),
    )  # fmt: skip
    assert made.gather("dram", 64).value == pytest.approx(7e9)
    assert made.gather("dram", 1024).value == pytest.approx(9e9)


def test_gather_shares_among_active_processes():
    made = ceilings(gather_row(6e9, 256, 2**27), gather_row(4e9, 256, 2**27, active=2))
    assert made.gather("dram", 256, active=1, cores=1).value == pytest.approx(6e9)
    assert made.gather("dram", 256, active=1, cores=2).value == pytest.approx(8e9)
    assert made.gather("dram", 256, active=2).value == pytest.approx(4e9)
    assert made.gather("dram", 256, active=8).value == pytest.approx(1e9)


def test_collective_between_and_beyond_measured_sizes():
    rows = [row("collective", ns, collective="all_reduce", backend="gloo", group_size=2, message_bytes=size, unit="ns")
            for size, ns in ((1000, 10_000), (2000, 14_000), (4000, 22_000))]  # fmt: skip
    made = ceilings(*rows)
    assert made.collective_ns("all_reduce", 2, 1500).value == 12_000
    assert made.collective_ns("all_reduce", 2, 100).value == 10_000
    assert made.collective_ns("all_reduce", 2, 8000).value == 44_000
    assert made.collective_ns("all_reduce", 4, 1500) is None
    assert made.collective_ns("broadcast", 2, 1500) is None
    assert made.collective_ns("all_reduce", 2, 1500, backend="nccl") is None


def test_overhead_of_an_operator():
    made = ceilings(row("overhead", 1200.0, name="aten::add", unit="ns"))
    assert made.overhead_ns("aten::add").value == 1200
    assert made.overhead_ns("aten::mm") is None


def test_tiers():
    assert ceilings().tiers() == [("l1", 32768), ("dram", math.inf)]
    assert ceilings().tiers("cuda:0") == []


numbers = st.floats(min_value=0, max_value=1e18, allow_nan=False) | st.just(math.nan)
texts = st.text(max_size=12)
records = st.lists(
    st.fixed_dictionaries({}, optional={name: texts if name in TEXT else numbers for name in COLUMNS}), max_size=5
)


@settings(max_examples=40, deadline=None)
@given(records, st.dictionaries(texts.filter(lambda key: key not in ("version", "ceilings")), texts, max_size=3))
def test_machine_json_there_and_back(tmp_path_factory, rows, about):
    made = Ceilings.from_rows(rows, about)
    path = tmp_path_factory.mktemp("machine") / "machine.json"
    path.write_bytes(made.dumps())
    back = Ceilings.read(path)
    pd.testing.assert_frame_equal(back.table, made.table)
    assert back.about == about


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\xff\xfe", b"{", b"[]", b"3", b"{}", b'{"version": 1}',
        b'{"version": 1, "ceilings": 5}',
        b'{"version": 1, "ceilings": [5]}',
        b'{"version": 1, "ceilings": [{"value": [1]}]}',
        b'{"version": 1, "ceilings": [{"value": "many"}]}',
        json.dumps({"version": CEILINGS_VERSION + 1, "ceilings": []}).encode(),
        b'{"ceilings": []}',
    ],
)  # fmt: skip
def test_a_damaged_machine_json_is_one_line(tmp_path, content):
    path = tmp_path / "machine.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"machine\.json") as caught:
        Ceilings.read(path)
    assert "\n" not in str(caught.value)


def test_a_missing_machine_json(tmp_path):
    with pytest.raises(InputError, match="holds no ceilings"):
        Ceilings.read(tmp_path / "machine.json")
