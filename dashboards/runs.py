"""The folder of runs that an app shows: listing, choosing by exact name, and results that are computed once.

Data stay on disk and in this process; the browser holds names only. A name is looked up among the listed directories
and never joined to a path, so no page input can reach outside the folder.
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from threading import Lock

from dashboards.entry import RunEntry
from dashboards.headline import headline
from dashboards.options import options_of
from workbench.analyses import analyze
from workbench.analyses.core.result import Result
from workbench.errors import InputError
from workbench.trace.loader import load
from workbench.trace.rundir import MANIFEST

_HEADLINES, _RUNS, _RESULTS = 2048, 4, 64


class RunsFolder:
    """Runs below `path`, and what was loaded and computed from them lately."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        # Keyed by the run's stamp, so that a run that grew is read again. In memory only: results on disk would have
        # to be unpickled.
        self._locks: dict[Path, Lock] = {}
        self._headline = lru_cache(_HEADLINES)(lambda path, stamp: headline(RunEntry.read(path)))
        self._load = lru_cache(_RUNS)(lambda path, stamp: load(path))
        self._analyze = lru_cache(_RESULTS)(self._compute)

    def entries(self) -> list[RunEntry]:
        """The run directories, newest first, unreadable ones last. Links that lead out of the folder are left out."""
        if not self.path.is_dir():
            return []
        root = self.path.resolve()
        manifests = [manifest for manifest in self.path.glob(f"*/{MANIFEST}") if manifest.is_file()]
        inside = [manifest.parent for manifest in manifests if manifest.resolve().is_relative_to(root)]
        return sorted(map(RunEntry.read, inside), key=lambda entry: (-entry.start_ns, entry.name))

    def choose(self, name: str | None) -> RunEntry | None:
        """The run called `name`, or the newest one without a name; None when there is no run at all.

        InputError when no run has that name.
        """
        entries = self.entries()
        if name is None:
            return entries[0] if entries else None
        for entry in entries:
            if entry.name == name:
                return entry
        raise InputError(f"no run {name!r} in {self.path}: choose one of the {len(entries)} that are there")

    def headline(self, entry: RunEntry) -> dict:
        """The run's row in the table of runs."""
        return self._headline(entry.path, entry.stamp)

    def analyze(self, entry: RunEntry, analysis: str, options: Mapping[str, str] | None = None) -> Result:
        """The result of `analysis` with `options` (text is cast, another run is named): shared between requests, so not
        to be changed.

        InputError when the run cannot be read or an option is wrong.
        """
        if entry.error:
            raise InputError(entry.error)
        known, chosen = options_of(analysis), dict(options or {})
        others = {key: self.choose(name) for key, name in chosen.items() if key in known and known[key].takes_run}
        chosen |= {key: other.path for key, other in others.items()}
        stamp = (entry.stamp, *(other.stamp for other in others.values()))
        # One at a time for each run: who asks for the same meanwhile finds it in the cache.
        with self._lock(entry):
            return self._analyze(entry.path, stamp, analysis, tuple(sorted(chosen.items())))

    def busy(self, entry: RunEntry) -> bool:
        """Whether something is being computed of this run right now."""
        return self._lock(entry).locked()

    def _lock(self, entry: RunEntry) -> Lock:
        return self._locks.setdefault(entry.path, Lock())

    def _compute(self, path: Path, stamp: tuple, analysis: str, options: tuple) -> Result:
        return analyze(self._load(path, stamp[0]), analysis, **dict(options))
