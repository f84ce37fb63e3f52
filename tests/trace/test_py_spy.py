"""Both formats of stacks that py-spy writes, of one real program; skips where it may not trace processes."""

import shutil
import subprocess
import sys

import pytest

from workbench.analyses import analyze
from workbench.trace.loader import load

# Three quarters of the work in `often`, the rest in `seldom`, on a thread of its own.
PROGRAM = """
import threading, time

def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass

def often(): burn(0.3)
def seldom(): burn(0.1)

often()
thread = threading.Thread(target=seldom, name="loader")
thread.start()
thread.join()
"""


@pytest.mark.parametrize("style", ["raw", "speedscope"])
def test_what_py_spy_writes(tmp_path, style):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    out = tmp_path / "stacks"
    sampler = shutil.which("py-spy")
    if sampler is None:
        pytest.skip("py-spy is not on PATH")
    command = [sampler, "record", "--threads", "--rate", "100", "--format", style, "--output", out, "--"]
    done = subprocess.run([*command, sys.executable, program], capture_output=True, text=True)
    if not out.exists():
        pytest.skip(f"py-spy may not trace processes here: {done.stderr.strip().splitlines()[:1]}")
    run = load(out)
    totals = analyze(run, "stacks").table.set_index("function")["total_samples"]
    assert totals["often"] > totals["seldom"] > 0
    assert totals["often"] + totals["seldom"] == pytest.approx(totals["burn"], abs=2)
    threads = analyze(run, "stacks", by="thread")
    assert any("loader" in thread for thread in threads.table["thread"])
    interval_ns = threads.summary["interval_ns"]
    assert interval_ns == pytest.approx(1e7) if style == "speedscope" else interval_ns != interval_ns
