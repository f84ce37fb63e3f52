"""Pretty units for people: values stay in base units (ns, bytes, FLOP) until they are shown.

GiB is 2^30 bytes (capacity); GB/s is 10^9 bytes a second (bandwidth), as nccl-tests and vendors count.
"""

import math

_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_DECIMAL = ("", "k", "M", "G", "T", "P", "E")
_COMPARED = ("ours", "low", "high", "paper")  # in the unit that their row names
_TIME = ((1e9, "s"), (1e6, "ms"), (1e3, "us"), (1.0, "ns"))


def format_bytes(value_bytes: float) -> str:
    """Capacity in binary units: 1536 -> '1.50 KiB'."""
    scaled, index = abs(value_bytes), 0
    while scaled >= 1024 and index < len(_BINARY) - 1:
        scaled, index = scaled / 1024, index + 1
    sign = "-" if value_bytes < 0 else ""
    return f"{sign}{_significant(scaled)} {_BINARY[index]}"


def format_decimal(value: float, unit: str) -> str:
    """Rates and counts in decimal units: (1.11e11, 'FLOP/s') -> '111 GFLOP/s'."""
    scaled, index = abs(value), 0
    while scaled >= 1000 and index < len(_DECIMAL) - 1:
        scaled, index = scaled / 1000, index + 1
    sign = "-" if value < 0 else ""
    return f"{sign}{_significant(scaled)} {_DECIMAL[index]}{unit}".rstrip()


def format_ns(value_ns: float) -> str:
    """A duration: 1_230_000 -> '1.23 ms'."""
    for scale, unit in _TIME:
        if abs(value_ns) >= scale:
            return f"{_significant(value_ns / scale)} {unit}"
    return f"{_significant(value_ns)} ns"


def format_value(key: str, value: object) -> str:
    """Show one value by the unit that its key ends in (`_ns`, `_bytes`, `_bytes_per_s`, `_pct`, `_share`...)."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, dict):
        return ", ".join(f"{name}: {format_value('', item)}" for name, item in value.items())
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if math.isinf(value):
        return "unbounded" if value > 0 else "-unbounded"
    for suffix, show in _BY_SUFFIX.items():
        if key == suffix.removeprefix("_") or key.endswith(suffix):
            return show(value)
    return f"{value:,}" if isinstance(value, int) else _significant(value)


def format_row(row: dict) -> dict[str, str]:
    """Every value of a row by its key; of a study's row in ns, the compared values too: 4.47e7 -> '44.7 ms'."""
    times = _COMPARED if row.get("unit") == "ns" else ()
    return {str(key): format_value(f"{key}_ns" if key in times else str(key), value) for key, value in row.items()}


def _significant(value: float) -> str:
    """Three significant digits, without an exponent for everyday sizes."""
    if value != 0 and (abs(value) < 1e-3 or abs(value) >= 1e6):
        return f"{value:.2e}"
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    if 0 < abs(value) < 1:
        digits = 3
    return f"{value:.{digits}f}"


# Longest suffix first: `_bytes_per_s` must win over nothing shorter, and `_per_s` comes after the specific rates.
_BY_SUFFIX = {
    "_bytes_per_s": lambda v: format_decimal(v, "B/s"),
    "_flops_per_s": lambda v: format_decimal(v, "FLOP/s"),
    "_per_s": lambda v: format_decimal(v, "/s"),
    "_bytes": format_bytes,
    "_flops": lambda v: format_decimal(v, "FLOP"),
    "_pct": lambda v: f"{v:.2f} %",
    "_share": lambda v: f"{100 * v:.1f} %",
    "_ns": format_ns,
    "_j": lambda v: format_decimal(v, "J"),
}


def printable(text: str) -> str:
    """`text` for a terminal: what would move its cursor, colour it or turn the direction of reading becomes '?'."""
    return "".join(char if char.isprintable() else "?" for char in text)
