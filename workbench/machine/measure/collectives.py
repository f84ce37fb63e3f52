"""Collectives between processes of this host: time by type, ranks and message size, and the line through them.

Each rank is a process with one thread (`collective_rank.py`). A collective takes from the last rank's start to the
last rank's end: all ranks are there and the transfer is what is left. Message sizes count as nccl-tests does: the
buffer of one rank for all-reduce, all-to-all and broadcast, the whole array for all-gather and reduce-scatter. The line
t = alpha + beta x bytes (Hockney, "The communication challenge for MPP", 1994) is fitted to relative errors, so that
small messages count as much as large ones.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from workbench.machine.measure.plan import Plan
from workbench.machine.measure.sampling import Found, Unavailable

COLLECTIVES = ("all_to_all", "all_reduce", "all_gather", "reduce_scatter", "broadcast")
_QUICK_MESSAGE_BYTES = tuple(2**power for power in (10, 16, 20, 25))
_MESSAGE_BYTES = tuple(2**power for power in (10, 12, 14, 16, 18, 20, 21, 22, 23, 24, 25))
_PATIENCE_S = 300
_RANK_PROGRAM = "workbench.machine.measure.collective_rank"


def measure(plan: Plan) -> Found:
    """Rows kind collective (10th percentile, median, min, max ns) and collective_fit (alpha in ns, beta in ns/B,
    residual)."""
    import torch

    found = Found()
    sizes = _QUICK_MESSAGE_BYTES if plan.quick else _MESSAGE_BYTES
    worlds = [("gloo", ranks) for ranks in ((2,) if plan.quick else (2, 4))]
    if torch.cuda.device_count() > 1:
        worlds.append(("nccl", torch.cuda.device_count()))
    for backend, ranks in worlds:
        times_ns = run_ranks(backend, ranks, sizes, plan.repeats)
        where = f"{min(ranks, len(plan.cores))} cores" if backend == "gloo" else f"{ranks} devices"
        for number, collective in enumerate(COLLECTIVES):
            same = {"collective": collective, "backend": backend, "group_size": ranks}
            method = f"last start to last end, {ranks} processes of one thread on {where}, one host"
            for samples_ns, message_bytes in zip(times_ns[:, number].T, sizes, strict=True):
                found.least_time(samples_ns, method, kind="collective", message_bytes=message_bytes, **same)
            found.rows += fit_rows(np.array(sizes), np.median(times_ns[:, number], axis=0), same)
    return found


def fit_line(message_bytes: np.ndarray, times_ns: np.ndarray) -> tuple[float, float, float]:
    """(alpha ns, beta ns/B, residual share) of t = alpha + beta x bytes for medians [n]: neither negative, least
    squares of relative errors; the residual is their root mean square."""
    design = np.stack((np.ones(len(times_ns)), message_bytes), axis=1) / times_ns[:, None]
    (alpha_ns, beta_ns_per_byte), norm = nnls(design, np.ones(len(times_ns)))
    return float(alpha_ns), float(beta_ns_per_byte), float(norm / np.sqrt(len(times_ns)))


def fit_rows(message_bytes: np.ndarray, times_ns: np.ndarray, columns: dict) -> list[dict]:
    """The fitted line as rows of its own: alpha, beta and the residual."""
    alpha_ns, beta_ns_per_byte, residual_share = fit_line(message_bytes, times_ns)
    same = {"kind": "collective_fit", "repeats": len(times_ns), "source": "measured", **columns}
    same["method"] = f"alpha + beta x bytes through {len(times_ns)} medians, relative residual {residual_share:.2f}"
    values = {"alpha": (alpha_ns, "ns"), "beta": (beta_ns_per_byte, "ns/B"), "residual": (residual_share, "share")}
    return [{**same, "name": name, "value": value, "unit": unit} for name, (value, unit) in values.items()]


def run_ranks(backend: str, ranks: int, sizes: tuple[int, ...], repeats: int) -> np.ndarray:
    """ns of each collective [repeats, COLLECTIVES, sizes], measured by `ranks` processes that find each other through a
    file and talk over loopback."""
    with tempfile.TemporaryDirectory() as folder:
        common = {"backend": backend, "ranks": ranks, "folder": folder, "collectives": COLLECTIVES, "sizes": sizes}
        processes = []
        try:
            for rank in range(ranks):
                processes.append(_start({**common, "rank": rank, "repeats": repeats}))
            errors = [process.communicate(timeout=_PATIENCE_S)[1] for process in processes]
        except subprocess.TimeoutExpired:
            raise Unavailable(f"{backend} did not finish within {_PATIENCE_S} s") from None
        finally:
            for process in processes:
                process.kill()
                process.wait()
        failed = [error for process, error in zip(processes, errors, strict=True) if process.returncode != 0]
        if failed:
            raise Unavailable(f"{backend}: {(failed[0].strip() or 'no reason given').splitlines()[-1]}")
        spans = np.stack([np.load(Path(folder) / f"{rank}.npy") for rank in range(ranks)])
    return spans[..., 1].max(axis=0) - spans[..., 0].max(axis=0)


def _start(job: dict) -> subprocess.Popen:
    """A process of its own for one rank, not a fork or spawn: the caller's main module is nobody's business."""
    root = str(Path(__file__).parents[3])
    paths = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        [sys.executable, "-m", _RANK_PROGRAM, json.dumps(job)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True, errors="replace", env={**os.environ, "PYTHONPATH": paths, "GLOO_SOCKET_IFNAME": "lo"},
    )  # fmt: skip
