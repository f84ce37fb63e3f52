"""`traces/study-<name>-<scale>-<time>/`: study.json (rows, curves, status), table.csv, and index.html to look at."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from workbench.errors import InputError
from workbench.machine.host import code_revision, host_facts
from workbench.report import section, write_page
from workbench.studies.core.curves import draw
from workbench.studies.core.result import StudyResult, from_json
from workbench.trace.rundir import new_directory

RESULT, TABLE, PAGE = "study.json", "table.csv", "index.html"


@contextmanager
def writing(traces: Path, name: str, scale: str) -> Iterator[tuple[Path, Callable[[StudyResult], None]]]:
    """A new folder, and the function that writes a result into it: to call after each part.

    The status in study.json is running, then complete, interrupted or failed, by how the block is left.
    """
    path = new_directory(traces, f"study-{name}-{scale}")
    fields = {"status": "running", "start_ns": time.time_ns(), "host": host_facts(gpus=True)}
    fields |= {"code_revision": code_revision()}
    last: list[StudyResult] = []

    def write(result: StudyResult) -> None:
        grew = not last or len(result.table) > len(last[0].table) or len(result.curves) > len(last[0].curves)
        last[:] = [result]
        if grew:
            _write(path, result, fields)

    try:
        yield path, write
        fields["status"] = "complete"
    except KeyboardInterrupt:
        fields["status"] = "interrupted"
        raise
    except BaseException:
        fields["status"] = "failed"
        raise
    finally:
        fields["end_ns"] = time.time_ns()
        if last:
            _write(path, last[0], fields)


def _write(path: Path, result: StudyResult, fields: dict) -> None:
    """All three files. study.json is replaced last: who reads it finds the others."""
    result.table.to_csv(path / TABLE, index=False)
    shown = section(result, [draw(curve) for curve in result.curves], rows=len(result.table))
    write_page(
        "study.html", path / PAGE, title=f"study {result.name}", section=shown, question=result.question,
        scale=result.scale, seeds=result.seeds, status=fields["status"],
    )  # fmt: skip
    scratch = path / f".{RESULT}.part"
    scratch.write_text(json.dumps({**fields, **result.to_dict()}, indent=1, allow_nan=False) + "\n")
    scratch.replace(path / RESULT)


@dataclass(frozen=True)
class Written:
    """A study's folder as found: `result` is what it holds so far."""

    path: Path
    start_ns: int
    status: str
    result: StudyResult


class _About(msgspec.Struct):
    status: str = ""
    start_ns: int = 0


def latest(traces: Path) -> dict[str, Written]:
    """The newest readable result of each study below `traces`, by its name; links that lead out of it are left out."""
    found: dict[str, Written] = {}
    for path in Path(traces).glob(f"study-*/{RESULT}"):
        if not path.resolve().is_relative_to(Path(traces).resolve()):
            continue
        try:
            written = read(path.parent)
        except InputError:
            continue  # anything may lie in the folder, and one damaged file must not hide the others
        name = written.result.name
        if name not in found or written.start_ns > found[name].start_ns:
            found[name] = written
    return found


def read(path: Path) -> Written:
    """What lies in the study's folder `path`; InputError where that is no study's."""
    try:
        text = (path / RESULT).read_bytes()
    except OSError as error:
        raise InputError(f"{path} is not a study's folder: {RESULT}: {error.strerror}") from None
    result = from_json(text, str(path / RESULT))
    about = msgspec.json.decode(text, type=_About)
    return Written(path, about.start_ns, about.status, result)
