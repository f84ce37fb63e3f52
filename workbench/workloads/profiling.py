"""The PyTorch profiler on a schedule, and device time for the recorder.

Sampled, since profiling every step would change what it measures: after the warm-up, `profile_steps` in every
`profile_every`. Window k is written as `<process>.pt.trace.json.gz` (k = 0) or `<process>.w<k>.pt.trace.json.gz`,
with the operators' shapes; compression runs on a thread of its own, off the training loop.
"""

import os
import shutil
import threading
import warnings
from pathlib import Path

import torch
from isal import igzip
from torch.profiler import ProfilerAction, profile

MAX_WINDOWS = 20  # a run of a hundred thousand steps is still loaded in seconds


class StepProfiler:
    """A context manager around the step loop; call `step` after every step. `directory=None`: off.

    `ProfilerStep#n` in the traces is step n, when the first step inside is step 0. There are at most MAX_WINDOWS.
    """

    def __init__(
        self, directory: Path | None, process: str, warmup_steps: int, profile_steps: int, profile_every: int
    ) -> None:
        self._directory, self._process = directory, process
        # The profiler itself needs one step to get ready, so the first window starts one step after the warm-up.
        self._first, self._length, self._every = warmup_steps + 1, min(profile_steps, profile_every), profile_every
        self._windows = 0
        self._compressing: list[threading.Thread] = []
        self._profile = None
        if directory is not None and self._length > 0:
            os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # its notes of every start and stop are not for our users
            warnings.filterwarnings("ignore", message=".*Profiler clears events at the end of each cycle")
            self._profile = profile(schedule=self.action, on_trace_ready=self._save, record_shapes=True)

    def __enter__(self) -> "StepProfiler":
        if self._profile:
            self._profile.__enter__()
        return self

    def __exit__(self, *error) -> None:
        if self._profile:
            self._profile.__exit__(*error)
        for thread in self._compressing:
            thread.join()

    def step(self) -> None:
        """One step is over."""
        if self._profile:
            self._profile.step()

    def action(self, step: int) -> ProfilerAction:
        """What the schedule says for `step`."""
        window, position = divmod(step - self._first, self._every)
        if 0 <= window < MAX_WINDOWS and position < self._length:
            return ProfilerAction.RECORD_AND_SAVE if position == self._length - 1 else ProfilerAction.RECORD
        if -1 <= window < MAX_WINDOWS - 1 and position == self._every - 1:
            return ProfilerAction.WARMUP
        return ProfilerAction.NONE

    def _save(self, finished: profile) -> None:
        window = f".w{self._windows}" if self._windows else ""
        self._windows += 1
        target = self._directory / f"{self._process}{window}.pt.trace.json.gz"
        raw = self._directory / f".{target.name}.raw.json"
        finished.export_chrome_trace(str(raw))
        thread = threading.Thread(target=_compress, args=(raw, target), name="compress")
        thread.start()
        self._compressing.append(thread)


def _compress(raw: Path, target: Path) -> None:
    """Readers see the whole trace or none."""
    scratch = target.with_name(f".{target.name}.part")
    with open(raw, "rb") as source, igzip.open(scratch, "wb", compresslevel=1) as sink:
        shutil.copyfileobj(source, sink, 1 << 20)
    os.replace(scratch, target)
    raw.unlink()


class CudaTimer:
    """The recorder's view of one GPU: marks are events on its current stream."""

    def __init__(self, device: torch.device) -> None:
        self.name = str(device)

    def mark(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def elapsed_ns(self, start: torch.cuda.Event, end: torch.cuda.Event) -> int:
        end.synchronize()
        return round(start.elapsed_time(end) * 1e6)
