"""Shared fixtures. Real inputs come from the folder that WORKBENCH_DATA names; without it their tests skip, counted."""

import os
import shutil
from pathlib import Path

import pytest

from workbench.trace.loader import load
from workbench.trace.run import Run

_SKIP_REASON = "WORKBENCH_DATA names no folder of real traces"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real inputs, or skip."""
    folder = os.environ.get("WORKBENCH_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip(_SKIP_REASON)
    return Path(folder)


@pytest.fixture(autouse=True)
def _private_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests never read or fill the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


def pytest_terminal_summary(terminalreporter) -> None:
    """One line that counts what real data would have tested."""
    skipped = [r for r in terminalreporter.stats.get("skipped", []) if _SKIP_REASON in str(r.longrepr)]
    if skipped:
        terminalreporter.write_line(f"{len(skipped)} tests on real traces were skipped: {_SKIP_REASON}")


@pytest.fixture(scope="session")
def golden_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A committed training run of two ranks, loaded from a copy: loading writes derived tables beside it."""
    folder = tmp_path_factory.mktemp("golden") / "training-2-ranks"
    shutil.copytree(Path(__file__).parent.parent / "traces" / "golden" / "training-2-ranks", folder)
    return load(folder)
