"""How fast and in how much memory a large profiler trace opens: here, and in the tools that users would pick instead.

    python tests/benchmarks/traces.py --megabytes 1000
    python tests/benchmarks/traces.py --hta-python /path/to/python --tracelens-python /path/to/python --out traces.json

A small trace is repeated with later steps until the JSON has the size asked for (support/repeated_trace.py). Every open
is a fresh process; tools take turns in random order. Load time is measured inside the process, without its imports;
peak memory is the resident set of the process and all its children, sampled every 5 ms. HTA's load is its
constructor's, TraceLens' that of the tree of calls that its analyses work on.

HTA is `traceinsight` on PyPI, with pandas below 3. TraceLens is installed from AMD-AGI/TraceLens on GitHub: the
`tracelens` on PyPI is another program.
"""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table
from support.repeated_trace import repeated_trace

SAMPLE_SECONDS = 0.005
# (what, ours, figure, peer, times better): what the workbench promises, for traces of 100 MB to 1 GB of JSON.
TARGETS = (
    ("a first open is faster", "workbench cold", "load_s", "HTA", 8),
    ("a first open is faster", "workbench cold", "load_s", "TraceLens", 3),
    ("a later open is faster", "workbench warm", "load_s", "HTA", 50),
    ("a first open takes less memory", "workbench cold", "peak_bytes", "HTA", 2),
)

# The import that proves the tool is there, and what opens a trace. Each prints its load time and what it found.
OURS = """
from workbench.trace.loader import load
open_trace = lambda path: len(load(path).events)
"""
HTA = """
from hta.trace_analysis import TraceAnalysis
open_trace = lambda path: len(TraceAnalysis(trace_files={0: path}, trace_dir="/").t.get_trace(0))
"""
TRACELENS = """
from TraceLens.TreePerf import TreePerfAnalyzer
open_trace = lambda path: len(TreePerfAnalyzer.from_file(path).tree.events)
"""
MEASURE = """
import sys, time
start = time.perf_counter()
rows = open_trace(sys.argv[1])
print("MEASURED", time.perf_counter() - start, rows)
"""


def main() -> None:
    """Build the trace, open it in turns, print and save the figures."""
    options = parse_arguments()
    tools = {"workbench cold": (sys.executable, OURS), "workbench warm": (sys.executable, OURS)}
    for name, python, program in (
        ("HTA", options.hta_python, HTA),
        ("TraceLens", options.tracelens_python, TRACELENS),
    ):
        if python and imports(python, program):
            tools[name] = (python, program)
        else:
            print(f"{name}: not found" + (f" by {python}" if python else ", no interpreter given"), file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "rank-0.json.gz"
        about = repeated_trace(trace, json_bytes=options.megabytes * 1e6)
        measured = [row for turn in range(options.repeats) for row in one_turn(tools, trace, turn)]
    summary = [summarise(name, [row for row in measured if row["tool"] == name], about["json_bytes"]) for name in tools]
    show(summary, about)
    ratios = [row for target in TARGETS if (row := ratio(measured, *target))]
    show_ratios(ratios)
    result = {"trace": about, "machine": machine(), "summary": summary, "ratios": ratios, "measurements": measured}
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=200, help="size of the uncompressed JSON, in 10^6 bytes")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--hta-python", help="interpreter that can import HTA (PyPI: traceinsight)")
    parser.add_argument("--tracelens-python", help="interpreter that can import TraceLens")
    parser.add_argument("--out", type=Path, help="write all measurements as JSON")
    return parser.parse_args()


def imports(python: str, program: str) -> bool:
    """Whether the interpreter can run the tool's imports."""
    try:
        return subprocess.run([python, "-c", program], capture_output=True).returncode == 0
    except OSError:
        return False


def one_turn(tools: dict, trace: Path, turn: int) -> list[dict]:
    """Every tool once, in random order; the warm open comes after a cold one that fills the same cache."""
    names = [name for name in tools if name != "workbench warm"]
    random.Random(turn).shuffle(names)
    rows = []
    for name in names:
        cache = trace.parent / f"cache-{turn}"
        rows.append({"tool": name, "turn": turn} | measure(*tools[name], trace, cache))
        if name == "workbench cold":
            warm = measure(*tools["workbench warm"], trace, cache)
            rows.append({"tool": "workbench warm", "turn": turn} | warm)
    return rows


def measure(python: str, program: str, trace: Path, cache: Path) -> dict:
    """One open in a fresh process: seconds inside and as a whole, peak bytes of the process tree."""
    root = Path(__file__).parents[2]
    environment = os.environ | {"XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(root) if program == OURS else ""}
    start = time.perf_counter()
    process = subprocess.Popen(
        [python, "-c", program + MEASURE, str(trace)], env=environment, text=True, cwd=trace.parent,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    peak_bytes = 0
    while process.poll() is None:
        peak_bytes = max(peak_bytes, tree_bytes(process.pid))
        time.sleep(SAMPLE_SECONDS)
    wall_s = time.perf_counter() - start
    line = next((line for line in process.stdout.read().splitlines() if line.startswith("MEASURED")), None)
    if line is None:
        return {"failed": process.returncode, "wall_s": wall_s, "peak_bytes": peak_bytes}
    _, load_s, rows = line.split()
    return {"load_s": float(load_s), "wall_s": wall_s, "peak_bytes": peak_bytes, "rows": int(rows)}


def tree_bytes(pid: int) -> int:
    """Resident memory of a process and its children, now."""
    total = 0
    try:
        for process in (root := psutil.Process(pid), *root.children(recursive=True)):
            total += process.memory_info().rss
    except psutil.Error:
        pass  # one of them has just ended
    return total


def summarise(name: str, rows: list[dict], json_bytes: int) -> dict:
    """Median, least and most load time, rate, and the largest peak of one tool."""
    opened = [row for row in rows if "load_s" in row]
    if not opened:
        return {"tool": name, "opens": 0, "failed": len(rows)}
    loads = [row["load_s"] for row in opened]
    return {
        "tool": name,
        "opens": len(opened),
        "failed": len(rows) - len(opened),
        "load_s": statistics.median(loads),
        "load_min_s": min(loads),
        "load_max_s": max(loads),
        "wall_s": statistics.median(row["wall_s"] for row in opened),
        "json_bytes_per_s": json_bytes / statistics.median(loads),
        "peak_bytes": max(row["peak_bytes"] for row in opened),
        "rows": opened[0]["rows"],
    }


def ratio(rows: list[dict], what: str, ours: str, figure: str, peer: str, target: float) -> dict | None:
    """Median, least and most of peer / ours over the turns in which both opened the trace; None where none did."""
    by_tool = [
        {row["turn"]: row[figure] for row in rows if row["tool"] == tool and "load_s" in row} for tool in (ours, peer)
    ]
    times = [by_tool[1][turn] / mine for turn, mine in by_tool[0].items() if turn in by_tool[1]]
    if not times:
        return None
    middle = statistics.median(times)
    return {"what": f"{what} than {peer}", "times": middle, "min": min(times), "max": max(times), "target": target}


def show_ratios(ratios: list[dict]) -> None:
    """Each promise and whether the worst turn keeps it."""
    for row in ratios:
        verdict = "met" if row["min"] >= row["target"] else "missed"
        spread = f"{row['times']:.1f} times ({row['min']:.1f} - {row['max']:.1f})"
        print(f"{row['what']}: {spread}, at least {row['target']:g} asked: {verdict}")


def machine() -> dict:
    """Where this was measured."""
    return {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }


def show(summary: list[dict], about: dict) -> None:
    """The table for people."""
    table = Table(
        title=f"{about['json_bytes'] / 1e6:.0f} MB of JSON, {about['events']:,} events, from {about['source']}"
    )
    for column in ("tool", "opens", "load, s (min - max)", "process, s", "MB/s", "peak, GiB", "rows"):
        table.add_column(column, justify="left" if column == "tool" else "right")
    for row in summary:
        if not row["opens"]:
            table.add_row(row["tool"], "failed")
            continue
        load = f"{row['load_s']:.2f} ({row['load_min_s']:.2f} - {row['load_max_s']:.2f})"
        rate, peak = f"{row['json_bytes_per_s'] / 1e6:.0f}", f"{row['peak_bytes'] / 2**30:.2f}"
        table.add_row(row["tool"], str(row["opens"]), load, f"{row['wall_s']:.2f}", rate, peak, f"{row['rows']:,}")
    Console().print(table)


if __name__ == "__main__":
    main()
