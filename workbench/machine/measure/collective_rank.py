"""One rank of the collectives' measurement: `python -m ...collective_rank JOB`, a process with one thread.

Writes (start, end) of every call, int64 ns [repeats, collectives, sizes, 2], on the monotonic clock that all processes
of a host share.
"""

import datetime
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import distributed

_WAIT = datetime.timedelta(seconds=60)


def main(job: dict) -> None:
    """Join the group, run every collective at every size `repeats` times, interleaved, and save the spans."""
    rank, ranks, folder = job["rank"], job["ranks"], Path(job["folder"])
    on_device = job["backend"] == "nccl"
    device = torch.device("cuda", rank) if on_device else torch.device("cpu")
    if on_device:
        torch.cuda.set_device(device)
    torch.set_num_threads(1)  # not pinned: the backend's own threads need room beside this one
    store = f"file://{folder / 'store'}"
    distributed.init_process_group(job["backend"], init_method=store, rank=rank, world_size=ranks, timeout=_WAIT)
    wait = torch.cuda.synchronize if on_device else lambda: None
    calls = [[_call(name, size, ranks, device) for size in job["sizes"]] for name in job["collectives"]]
    spans = np.zeros((job["repeats"] + 1, len(calls), len(job["sizes"]), 2), dtype=np.int64)
    for repeat, number, size in np.ndindex(spans.shape[:3]):
        distributed.barrier()
        wait()
        start_ns = time.monotonic_ns()
        calls[number][size]()
        wait()
        spans[repeat, number, size] = start_ns, time.monotonic_ns()
    np.save(folder / f"{rank}.npy", spans[1:])  # the first round warmed up: connections, buffers
    distributed.destroy_process_group()


def _call(collective: str, message_bytes: int, ranks: int, device: torch.device) -> Callable[[], object]:
    """One collective whose message is `message_bytes` by its own convention, on fp32 buffers."""
    whole = torch.ones(message_bytes // 4, device=device)
    whole = whole[: len(whole) // ranks * ranks]
    out, part = torch.empty_like(whole), torch.ones(len(whole) // ranks, device=device)
    return {
        "all_to_all": lambda: distributed.all_to_all_single(out, whole),
        "all_reduce": lambda: distributed.all_reduce(out),
        "all_gather": lambda: distributed.all_gather_into_tensor(out, part),
        "reduce_scatter": lambda: distributed.reduce_scatter_tensor(part, whole),
        "broadcast": lambda: distributed.broadcast(whole, 0),
    }[collective]


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
