"""Ten thousand damaged inputs through the readers and every analysis: nothing but an answer or one line comes out.

    python tests/benchmarks/mutations.py
    python tests/benchmarks/mutations.py --count 1 --first 1234     # one of them again

Inputs are small traces of every format, pairs and folders of them, and the golden run: cut, with bits and bytes
changed, pieces doubled, entries reordered, values of a wrong type or size, nesting without end. Each is analysed twice
on the command line, by all analyses and by one more option of one; a failure keeps its input and says its number.
"""

import argparse
import os
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "trace"))

RUNS_SHARE = 0.1
_BATCH = 50


def main() -> None:
    """Run them in batches on all processors; exit code 1 where one failed."""
    options = parse_arguments()
    numbers = range(options.first, options.first + options.count)
    batches = [numbers[start : start + _BATCH] for start in range(0, len(numbers), _BATCH)]
    codes: Counter[str] = Counter()
    with ProcessPoolExecutor(min(options.processes, len(batches))) as pool:
        for done, found in enumerate(pool.map(run_batch, batches, [options.keep] * len(batches)), 1):
            codes.update(found)
            if done % 20 == 0:
                print(f"{done * _BATCH} of {len(numbers)}: {dict(codes)}", file=sys.stderr, flush=True)
    print(f"{len(numbers)} damaged inputs: {codes['0']} analysed, {codes['2']} refused, {codes['failed']} failed")
    sys.exit(1 if codes["failed"] else 0)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first one")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--keep", type=Path, default=Path("failed-mutants"), help="folder for inputs that failed")
    return parser.parse_args()


def run_batch(numbers: range, keep: Path) -> Counter[str]:
    """Exit codes of these mutants, or "failed", with a cache of their own."""
    from mutants import check, mutant, one_analysis

    codes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["XDG_CACHE_HOME"] = str(Path(scratch) / "cache")
        for number in numbers:
            folder = Path(scratch) / str(number)
            folder.mkdir()
            words = mutant(number, folder, RUNS_SHARE)
            try:
                codes[str(max(check(words, chosen) for chosen in ([], one_analysis(number))))] += 1
            except Exception:
                codes["failed"] += 1
                shutil.copytree(folder, keep / str(number), dirs_exist_ok=True)
                print(f"mutant {number} ({' '.join(words)}):\n{traceback.format_exc()}", file=sys.stderr, flush=True)
            shutil.rmtree(folder)
    return codes


if __name__ == "__main__":
    main()
