"""Pretty units: the suffix of a key decides."""

import math

import pytest

from workbench.units import format_bytes, format_decimal, format_ns, format_row, format_value


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("duration_ns", 1_230_000, "1.23 ms"),
        ("duration_ns", 0, "0.00 ns"),
        ("message_bytes", 1536, "1.50 KiB"),
        ("read_bytes_per_s", 24.6e9, "24.6 GB/s"),
        ("peak_flops_per_s", 111e9, "111 GFLOP/s"),
        ("flops", 2.5e6, "2.50 MFLOP"),
        ("compute_pct", 7.951, "7.95 %"),
        ("hit_share", 0.5, "50.0 %"),
        ("energy_j", 1200, "1.20 kJ"),
        ("samples_per_s", 11_000.0, "11.0 k/s"),
        ("calls", 12345, "12,345"),
        ("intensity", 0.25, "0.250"),
        ("anything", math.nan, "-"),
        ("anything", None, "-"),
        ("name", "aten::mm", "aten::mm"),
        ("measured", True, "True"),
    ],
)
def test_format_value(key, value, shown):
    assert format_value(key, value) == shown


def test_a_row_may_have_a_unit_of_its_own():
    row = {"quantity": "P50", "ours": 4.47e7, "low": math.nan, "cores": 2.0, "paper": "+1 %", "unit": "ns"}
    assert list(format_row(row).values()) == ["P50", "44.7 ms", "-", "2.00", "+1 %", "ns"]
    assert format_row({"ours": 4.47e7, "unit": "1"})["ours"] == "4.47e+07"


def test_negative_and_huge_values():
    assert format_bytes(-2048) == "-2.00 KiB"
    assert format_decimal(-5e9, "B/s") == "-5.00 GB/s"
    assert format_ns(-2e9) == "-2.00 s"
    assert format_bytes(2**70) == "1.05e+06 PiB"
