"""What a study returns: a result whose rows are quantities, with its curves, and as JSON and back."""

import math
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec
import pandas as pd

from workbench.analyses.core.result import Result, plain
from workbench.errors import InputError
from workbench.studies.core.curves import Curve
from workbench.studies.core.quantities import COLUMNS, NOT_TESTABLE


@dataclass
class StudyResult(Result):
    """One row a quantity (`quantities.COLUMNS`); the summary counts the verdicts. `question` is the paper's."""

    name: str = ""
    question: str = ""
    scale: str = ""
    seeds: int = 0
    curves: list[Curve] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: the study's name, question, scale and seeds beside what every result has, and its curves."""
        about = {"name": self.name, "question": self.question, "scale": self.scale, "seeds": self.seeds}
        return {**about, **super().to_dict(), "curves": [plain(asdict(curve)) for curve in self.curves]}


def make_result(
    name: str, question: str, scale: str, seeds: int, rows: list[dict], curves: list[Curve], notes: list[str]
) -> StudyResult:
    """The result of these rows."""
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype({"paper": object})
    return StudyResult(
        "study", table, verdict_counts(rows), list(notes), name=name, question=question, scale=scale, seeds=seeds,
        curves=list(curves),
    )  # fmt: skip


def verdict_counts(rows: list[dict]) -> dict[str, int]:
    """{'reproduced': 3, ...}: rows by verdict without its reason, each of the four verdicts named."""
    counted = Counter(row["verdict"].partition(":")[0] for row in rows)
    verdicts = {"reproduced": "reproduced", "not_reproduced": "not reproduced", "inconclusive": "inconclusive"}
    verdicts["not_testable"] = NOT_TESTABLE
    return {"quantities": len(rows)} | {key: counted[verdict] for key, verdict in verdicts.items()}


class _Row(msgspec.Struct):
    quantity: str
    unit: str
    source: str
    scale_free: bool
    verdict: str
    ours: float | None = None
    low: float | None = None
    high: float | None = None
    paper: float | str | None = None
    tag: str = ""
    criterion: str = ""


class _File(msgspec.Struct):
    name: str
    question: str
    scale: str
    seeds: int
    rows: list[_Row]
    notes: list[str]
    curves: list[Curve]


def from_json(text: bytes, where: str) -> StudyResult:
    """The result that `to_dict` made this JSON of; InputError, with `where`, for any other."""
    try:
        read = msgspec.json.decode(text, type=_File)
    except msgspec.DecodeError as error:
        raise InputError(f"{where} is not a study's result: {error}") from None
    rows = [msgspec.structs.asdict(row) for row in read.rows]
    for row in rows:
        row |= {key: math.nan for key in ("ours", "low", "high") if row[key] is None}
    return make_result(read.name, read.question, read.scale, read.seeds, rows, read.curves, read.notes)
