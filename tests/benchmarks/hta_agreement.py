"""Do the numbers agree with HTA's, on every trace that HTA can answer for?

    python tests/benchmarks/hta_agreement.py --hta-python /path/to/python      # one that has traceinsight from PyPI

For each trace under WORKBENCH_DATA: the shares of compute, of all other device work and of idle time, how much of
the communication runs under compute, and who held the others up. Where both answer they agree within 0.05 points,
except for:

* device events whose launch came before the recording began (614 in torchrec_v100_rank1of2): HTA leaves them out,
  here the device counts as busy. Without them both agree (tests/test_real_traces.py).
* MTIA: HTA tells kinds by name, and takes the time in which a queue waits for an event for compute, and the jobs
  called pe_exe for none of its kinds; here a wait is idle and a job is compute.
* late ranks: HTA lists the two ranks whose communication kernels start latest on the whole; here the last to arrive at
  each collective is counted. On dlrm_8x_v100 HTA's list holds rank 2, which never arrives last.

HTA is asked for all steps (it drops the last by default) and for nanoseconds (it rounds to whole microseconds by
default, which shortens every kernel of a newer trace); both differences would be its settings', not its method's.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

import workbench as wb

AGREEMENT_POINTS = 0.05

HTA = """
import json, logging, sys
logging.disable(logging.CRITICAL)
from hta.trace_analysis import TraceAnalysis
def ask(method, **options):
    try:
        return method(**options)
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
def rows(table):
    return table if isinstance(table, str) else table.to_dict("records")
files = {int(rank): path for rank, path in json.loads(sys.argv[1]).items()}
try:
    trace = TraceAnalysis(trace_files=files, trace_dir="/", include_last_profiler_step=True)
except BaseException as error:
    answers = {"error": f"{type(error).__name__}: {error}"}
else:
    answers = {
        "temporal": rows(ask(trace.get_temporal_breakdown, visualize=False)),
        "overlap": rows(ask(trace.get_comm_comp_overlap, visualize=False)),
        "stragglers": ask(trace.get_potential_stragglers),
    }
print("ANSWER", json.dumps(answers, default=str))
"""


def main() -> None:
    """Ask both about each trace and print what differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hta-python", help="interpreter that can import HTA (PyPI: traceinsight)")
    options = parser.parse_args()
    folder = Path(os.environ.get("WORKBENCH_DATA", "")) / "traces"
    if not options.hta_python or not folder.is_dir():
        print("skipped: give --hta-python, and a folder of real traces in WORKBENCH_DATA", file=sys.stderr)
        return
    table = Table(title=f"HTA and the workbench, % of a rank's window; agreement is {AGREEMENT_POINTS} points")
    for column in ("trace", "rank", "figure", "HTA", "workbench", ""):
        table.add_column(column, justify="right" if column in ("HTA", "workbench") else "left")
    for path in sorted(folder.iterdir()):
        for row in compare(path, options.hta_python):
            table.add_row(path.name, *row)
    Console().print(table)


def compare(path: Path, hta_python: str) -> list[tuple[str, str, str, str, str]]:
    """(rank, figure, HTA's, ours, verdict) of one trace or folder of ranks."""
    run = wb.load(path)
    theirs = ask_hta(path, hta_python)
    if isinstance(theirs.get("temporal", ""), str):
        return [("", "", "no answer", "", theirs.get("error", theirs.get("temporal", "no result"))[:60])]
    found = []
    for ours in wb.analyze(run, "time").table.to_dict("records"):
        rank = ours["rank"] if path.is_dir() else 0  # as a single file is handed to HTA
        temporal = next(row for row in theirs["temporal"] if row["rank"] == rank)
        whole_us = temporal["kernel_time(us)"]
        figures = {
            "compute": (temporal["compute_time(us)"] / whole_us, ours["compute_pct"]),
            "other work": (temporal["non_compute_time(us)"] / whole_us, ours["communication_pct"] + ours["copy_pct"]),
            "idle": (temporal["idle_time(us)"] / whole_us, ours["idle_pct"]),
        }
        overlap = next((row["comp_comm_overlap_pctg"] for row in theirs["overlap"] if row["rank"] == rank), None)
        if overlap == overlap and overlap is not None:
            figures["communication under compute"] = (overlap / 100, 100 * ours["overlapped_communication_share"])
        found += [(str(ours["rank"]), name, *verdict(100 * share, pct)) for name, (share, pct) in figures.items()]
    if path.is_dir():
        last = wb.analyze(run, "communication").summary["last_arrivals"]
        found.append(("all", "late ranks", str(theirs["stragglers"]), str(list(last)), f"times last: {last}"))
    return found


def verdict(theirs_pct: float, ours_pct: float) -> tuple[str, str, str]:
    """Both figures as text, and whether they agree."""
    difference = ours_pct - theirs_pct
    agrees = "agrees" if abs(difference) <= AGREEMENT_POINTS else f"{difference:+.2f} points"
    return f"{theirs_pct:.2f}", f"{ours_pct:.2f}", agrees


def ask_hta(path: Path, hta_python: str) -> dict:
    """HTA's answers about a trace, or {"error"}."""
    files = sorted(path.glob("*.json.gz")) if path.is_dir() else [path]
    ranks = {number: str(file.absolute()) for number, file in enumerate(files)}
    answer = subprocess.run(
        [hta_python, "-W", "ignore", "-c", HTA, json.dumps(ranks)], capture_output=True, text=True,
        env=os.environ | {"HTA_DISABLE_NS_ROUNDING": "1", "PYTHONPATH": ""},
    )  # fmt: skip
    line = next((line for line in answer.stdout.splitlines() if line.startswith("ANSWER ")), None)
    return json.loads(line.removeprefix("ANSWER ")) if line else {"error": answer.stderr.strip()[-200:]}


if __name__ == "__main__":
    main()
