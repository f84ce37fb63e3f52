"""What training learns of logs whose teacher is known: how far from the base rate's score to the teacher's own.

    python tests/benchmarks/learning.py [--rows 800000] [--steps 300]

The preset teacher, and the preset criteo on a file in Criteo's format that is written here, each on one rank and on
two. Held-out normalized entropy is to go at least nine tenths of the way from 1 to the teacher's, which is at most 0.85
(no model can score less), and to be the same on two ranks as on one to a thousandth of itself.
"""

import argparse
import json
import tempfile
from pathlib import Path

from support.criteo_log import TeachersLog

from workbench.trace.rundir import read_manifest
from workbench.workloads import start
from workbench.workloads.training import PRESETS

IDS = 20  # of each category
LEAST_CLOSED, HIGHEST_FLOOR, SAME = 0.9, 0.85, 1e-3
ALL_BATCHES = 1_000  # of held-out rows, more than any log here has


def entropies(preset: str, traces: Path, settings: dict) -> dict[int, dict]:
    """Results of one run by its number of ranks."""
    paths = {
        ranks: start("training", preset, settings | {"ranks": ranks}, traces, ceilings=False, py_spy=False)
        for ranks in (1, 2)
    }
    return {ranks: read_manifest(path)["results"] for ranks, path in paths.items()}


def judged(results: dict[int, dict], floor: float) -> dict:
    one, two = (results[ranks]["held_out_normalized_entropy"] for ranks in (1, 2))
    closed = {ranks: (1 - entropy) / (1 - floor) for ranks, entropy in ((1, one), (2, two))}
    return {
        "floor": floor, "highest_floor": HIGHEST_FLOOR, "normalized_entropy_by_ranks": {1: one, 2: two},
        "closed_share_by_ranks": closed, "asked": LEAST_CLOSED, "two_over_one_rank": two / one,
        "limit_met": floor <= HIGHEST_FLOOR and min(closed.values()) >= LEAST_CLOSED and abs(two / one - 1) <= SAME,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=800_000)
    parser.add_argument("--steps", type=int, default=300)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        results = entropies("teacher", folder, {"instrument": False})
        found = {"teacher": judged(results, results[1]["normalized_entropy_floor"])}
        log = TeachersLog.write(folder / "day.tsv", chosen.rows, IDS, seed=0)
        settings = {
            "data": str(log.path),
            "steps": chosen.steps,
            "evaluation_batches": ALL_BATCHES,
            "instrument": False,
        }
        found["criteo"] = judged(entropies("criteo", folder, settings), log.floor(PRESETS["criteo"]().seed))
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
