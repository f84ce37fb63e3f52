"""Every benchmark of this folder, one after the other: each is a script of its own and prints what it measured.

    python tests/benchmarks/run_all.py            # or: make bench

Nothing else should run on the machine meanwhile. A script that fails does not stop the others; the exit code says so.
"""

import subprocess
import sys
import time
from pathlib import Path


def main() -> None:
    failed = []
    for script in sorted(Path(__file__).parent.glob("*.py")):
        if script.name == Path(__file__).name:
            continue
        print(f"\n== {script.name}", flush=True)
        started = time.monotonic()
        if subprocess.run([sys.executable, script]).returncode:
            failed.append(script.name)
        print(f"({time.monotonic() - started:.0f} s)", flush=True)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
