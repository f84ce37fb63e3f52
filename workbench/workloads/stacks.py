"""Host stacks by py-spy, when they are asked for: samples of this process as `<process>.stacks.txt` (collapsed).

How many a second it takes of each thread stands in the manifest, for collapsed stacks only count.
"""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from workbench.trace.rundir import RunDirectory

SAMPLES_PER_S = 100
_WAIT_SECONDS = 10.0


class HostStacks:
    """py-spy attached to this process and its children while inside; `directory=None`: off.

    It needs root or the right to trace processes. Where that is denied it says so, and the run goes on.
    """

    def __init__(self, directory: RunDirectory | None, process: str) -> None:
        self._directory = directory
        self._path = directory and directory.path / f"{process}.stacks.txt"
        self.sampler: subprocess.Popen | None = None

    def __enter__(self) -> "HostStacks":
        if self._directory is None:
            return self
        program = shutil.which("py-spy", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
        if program is None:
            _say("py-spy is not installed")
            return self
        command = [program, "record", "--pid", str(os.getpid()), "--subprocesses", "--threads", "--format", "raw"]
        command += ["--rate", str(SAMPLES_PER_S), "--output", str(self._path)]
        self.sampler = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_) -> None:
        if self.sampler is None:
            return
        if self.sampler.poll() is None:
            self.sampler.send_signal(signal.SIGINT)  # it writes its file and ends
        try:
            _, errors = self.sampler.communicate(timeout=_WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            self.sampler.kill()
            _, errors = self.sampler.communicate()
        if not self._path.exists():
            _say((errors.strip().splitlines() or ["py-spy wrote nothing"])[0])
            return
        with self._directory.editing() as manifest:
            manifest["stack_samples_per_s"] = SAMPLES_PER_S


def _say(why: str) -> None:
    sys.stderr.write(f"no host stacks: {why}\n")
