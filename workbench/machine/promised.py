"""Vendors' promised peaks (`promised.toml`) as Ceilings: what to hold a foreign trace against, marked as promised.

An unknown device has no roof, and a name that fits several parts only has the figures in which they agree: no guess.
"""

import re
import tomllib
from functools import cache
from pathlib import Path

from workbench.machine.ceilings import Ceilings

_TABLE = Path(__file__).with_suffix(".toml")
_VENDOR = re.compile(r"^((NVIDIA|AMD|Tesla)\s+)+")
# A device reports a little less than its capacity (ECC, reserved memory) and never more.
_REPORTED_SHARE = (0.9, 1.07)


def promised(device_model: str, device: str = "cuda:0", memory_bytes: float | None = None) -> Ceilings | None:
    """Ceilings that the vendor promises for `device_model`, a name as profiler traces bear it; None when unknown.

    `memory_bytes` (a trace's totalGlobalMem) tells parts of one name apart; a name that contradicts it is unknown.
    The memory is called hbm whatever its kind.
    """
    parts = matching_parts(device_model, memory_bytes)
    if not parts:
        return None
    figures = {
        key: value for key, value in _figures(parts[0]).items() if all(_figures(p).get(key) == value for p in parts)
    }
    source = "; or ".join(dict.fromkeys(part["source"] for part in parts))
    rows = [
        {"kind": kind, "precision": what if kind == "compute" else "", "tier": what if kind == "bandwidth" else "",
         "device": device, "unit": unit, "value": value, "method": source, "source": "promised"}
        for (kind, what, unit), value in figures.items() if kind != "capacity"
    ]  # fmt: skip
    l2_bytes = figures.get(("capacity", "l2", "B"))
    levels = [{"tier": "l2", "capacity_bytes": l2_bytes}] if l2_bytes else []
    about = {
        "machine": " or ".join(part["title"] for part in parts),
        "memory_bytes": figures.get(("capacity", "hbm", "B")),
        "levels": {device: [*levels, {"tier": "hbm", "capacity_bytes": None}]},
    }
    return Ceilings.from_rows(rows, about)


def matching_parts(device_model: str, memory_bytes: float | None = None) -> list[dict]:
    """Records of `promised.toml` whose names fit `device_model` and whose capacity fits `memory_bytes`."""
    name = _VENDOR.sub("", device_model.strip())
    return [
        part
        for part in _parts()
        if any(re.fullmatch(pattern, name) for pattern in part["names"]) and _holds(part, memory_bytes)
    ]


def _holds(part: dict, memory_bytes: float | None) -> bool:
    if memory_bytes is None or "memory_gib" not in part:
        return True
    low, high = _REPORTED_SHARE
    return low <= memory_bytes / (part["memory_gib"] * 2**30) <= high


def _figures(part: dict) -> dict[tuple[str, str, str], float]:
    """(kind, precision or tier, unit) -> value."""
    figures = {("compute", precision, "FLOP/s"): value for precision, value in part["flops_per_s"].items()}
    figures["bandwidth", "hbm", "B/s"] = part["memory_bytes_per_s"]
    if "nvlink_bytes_per_s" in part:
        figures["bandwidth", "nvlink", "B/s"] = part["nvlink_bytes_per_s"]
    if "l2_bytes" in part:
        figures["capacity", "l2", "B"] = part["l2_bytes"]
    if "memory_gib" in part:
        figures["capacity", "hbm", "B"] = part["memory_gib"] * 2**30
    return figures


@cache
def _parts() -> list[dict]:
    return tomllib.loads(_TABLE.read_text())["part"]
