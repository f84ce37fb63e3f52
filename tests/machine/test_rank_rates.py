"""Rates of a rank are the ceilings that hold for it, and what is not known is said."""

import pytest

from workbench.errors import InputError
from workbench.machine.ceilings import Ceilings
from workbench.machine.rank_rates import RankRates

ROWS = [
    {"kind": "bandwidth", "name": "triad", "tier": "dram", "cores": 1, "active": 1, "value": 20e9},
    {"kind": "bandwidth", "name": "triad", "tier": "dram", "cores": 1, "active": 2, "value": 12e9},
    *(
        {"kind": "gather", "name": "gather", "tier": "dram", "cores": 1, "active": 2, "row_bytes": size,
         "working_set_bytes": 2**27, "value": rate}
        for size, rate in ((64, 2e9), (256, 8e9))
    ),
    *(
        {"kind": "collective", "collective": "all_to_all", "group_size": ranks, "message_bytes": size, "value": ns,
         "median": ns, "unit": "ns"}
        for ranks, size, ns in ((2, 1e3, 1e5), (2, 1e6, 5e5), (4, 1e6, 8e5))
    ),
]  # fmt: skip


def ceilings(levels: list[dict], rows: list[dict] = ROWS) -> Ceilings:
    rest = {"source": "measured", "method": "by hand", "unit": "B/s"}
    return Ceilings.from_rows(
        [rest | {"median": row["value"], "min": row["value"], "max": row["value"]} | row for row in rows],
        {"levels": {"cpu": levels}},
    )


DRAM = [{"tier": "dram", "capacity_bytes": None}]


def test_rates_with_all_ranks_at_work():
    rates = RankRates(ceilings(DRAM), active=2, threads=1)
    assert rates.stream_bytes_per_s() == 12e9
    assert rates.gather_bytes_per_s(64, 1e8) == pytest.approx(2e9)
    assert rates.gather_bytes_per_s(128, 1e8) == pytest.approx(4e9)  # halfway on logarithmic axes
    assert RankRates(ceilings(DRAM, ROWS[:2]), active=2, threads=1).gather_bytes_per_s(64, 1e8) == 12e9


def test_collectives_at_their_largest_message_and_the_nearest_smaller_group():
    rates = RankRates(ceilings(DRAM), active=2, threads=1)
    assert rates.collective_bytes_per_s("all_to_all", 2) == (pytest.approx(1e6 / 5e-4), 2)
    assert rates.collective_bytes_per_s("all_to_all", 3) == (pytest.approx(1e6 / 5e-4), 2)
    assert rates.collective_bytes_per_s("all_to_all", 128) == (pytest.approx(1e6 / 8e-4), 4)


def test_what_is_not_known_is_said():
    with pytest.raises(InputError, match="know no all_gather"):
        RankRates(ceilings(DRAM)).collective_bytes_per_s("all_gather", 2)
    with pytest.raises(InputError, match="know no bandwidth of dram"):
        RankRates(ceilings(DRAM, ROWS[2:])).stream_bytes_per_s()
    with pytest.raises(InputError, match="know no device cuda"):
        RankRates(ceilings(DRAM), device="cuda").stream_bytes_per_s()
