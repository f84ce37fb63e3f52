"""What this process uses of the machine, as time series beside its own metrics."""

import time

import psutil

from workbench.machine.host import usable_cpus
from workbench.trace.recorder import Recorder

_INTERVAL_SECONDS = 0.2


class ProcessMetrics:
    """Records `resident_bytes` and `cpu_share` (of all CPUs that this process may use) a few times a second."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._process = psutil.Process()
        self._cpus = len(usable_cpus())
        self._time, self._cpu = time.monotonic(), time.process_time()

    def record(self) -> None:
        """Call as often as you like."""
        now = time.monotonic()
        if now - self._time < _INTERVAL_SECONDS:
            return
        cpu = time.process_time()
        self._recorder.metric("cpu_share", (cpu - self._cpu) / (now - self._time) / self._cpus)
        self._recorder.metric("resident_bytes", self._process.memory_info().rss)
        self._time, self._cpu = now, cpu
