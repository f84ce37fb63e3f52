"""The table of vendors' promises: each part found by its own names, nothing guessed."""

import itertools
import re
import tomllib

import pytest

from workbench.machine import promised as module
from workbench.machine.promised import matching_parts, promised

PARTS = tomllib.loads(module._TABLE.read_text())["part"]
GIB = 2**30


def device_names(pattern: str) -> list[str]:
    """Names that a pattern of the table stands for: its alternatives and optional characters written out."""
    expanded = itertools.product(*[
        group.strip("()").split("|") if group.startswith("(") else [group]
        for group in re.findall(r"\([^)]*\)|[^(]+", pattern)
    ])  # fmt: skip
    return ["".join(pieces).replace(" ?/ ?", "/") for pieces in expanded]


NAMES = sorted({name for part in PARTS for pattern in part["names"] for name in device_names(pattern)})
# Names that vendors gave to more than one part.
SHARED = {"A100-PG509-200": 2, "Instinct MI250X/MI250": 2}


@pytest.mark.parametrize("name", NAMES)
def test_each_name_fits_one_part(name):
    assert len(matching_parts(name)) == SHARED.get(name, 1)
    assert matching_parts(f"NVIDIA {name}") == matching_parts(name)


@pytest.mark.parametrize(
    ("name", "memory_bytes", "title", "fp32", "hbm"),
    [
        ("Tesla V100-SXM2-32GB", 34079899648, "NVIDIA V100 SXM2 32 GB", 15.7e12, 900e9),
        ("Tesla V100-SXM2-16GB", 16945512448, "NVIDIA V100 SXM2 16 GB", 15.7e12, 900e9),
        ("NVIDIA A100-PG509-200", 42297524224, "NVIDIA A100 SXM4 40 GB", 19.5e12, 1555e9),
        ("NVIDIA H100 80GB HBM3", 85018279936, "NVIDIA H100 SXM5 80 GB", 66.9e12, 3350e9),
        ("AMD Instinct MI300X VF", 205571227648, "AMD Instinct MI300X", 163.4e12, 5300e9),
        ("NVIDIA GeForce RTX 2080 Ti", 11554586624, "NVIDIA GeForce RTX 2080 Ti (reference clocks)", 13.4e12, 616e9),
        ("Tesla T4", 15634661376, "NVIDIA T4", 8.1e12, 320e9),
    ],
)
def test_devices_as_profiler_traces_name_them(name, memory_bytes, title, fp32, hbm):
    found = promised(name, memory_bytes=memory_bytes)
    assert found.about["machine"] == title
    assert found.compute("fp32", device="cuda:0").value == fp32
    assert found.compute("fp32", device="cuda:0").source == "promised"
    assert found.bandwidth("hbm", "triad", device="cuda:0").value == hbm
    assert found.tiers("cuda:0")[-1] == ("hbm", float("inf"))


@pytest.mark.parametrize(
    "name",
    ["AMD Radeon Graphics", "NVIDIA A10G", "NVIDIA A100-SXM4-40GB MIG 1g.5gb", "NVIDIA H100", "NVIDIA H20", "MTIA", "",
     "AMD EPYC"],
)  # fmt: skip
def test_an_unknown_device_has_no_roof(name):
    assert promised(name) is None


def test_a_shared_name_has_only_the_figures_in_which_its_parts_agree():
    found = promised("NVIDIA A100-PG509-200")
    assert found.compute("bf16", device="cuda:0").value == 312e12
    assert found.bandwidth("hbm", device="cuda:0") is None  # 1555 or 2039 GB/s: not said
    assert found.about["memory_bytes"] is None
    both = promised("NVIDIA A100-PG509-200", memory_bytes=80 * GIB)
    assert both.bandwidth("hbm", device="cuda:0").value == 2039e9


def test_a_name_that_contradicts_the_memory_is_unknown():
    assert promised("Tesla V100-SXM2-16GB", memory_bytes=34079899648) is None


def test_rows_stand_for_the_device_that_was_asked_for():
    found = promised("NVIDIA H200", device="cuda:3")
    assert set(found.table["device"]) == {"cuda:3"} and list(found.about["levels"]) == ["cuda:3"]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part["title"])
def test_figures_are_plausible(part):
    """Slips of a unit or a digit: rates grow as precision shrinks, and everything has a source."""
    rates = [part["flops_per_s"][p] for p in ("fp64", "fp32", "tf32", "fp16", "fp8") if p in part["flops_per_s"]]
    assert rates == sorted(rates) and rates[0] > 1e12 and rates[-1] < 1e16
    assert 1e11 < part["memory_bytes_per_s"] < 1e13
    assert part.get("nvlink_bytes_per_s", 0) < part["memory_bytes_per_s"] / 2
    assert re.search(r"20\d\d", part["source"])
