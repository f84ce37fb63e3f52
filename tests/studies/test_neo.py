"""Study neo: what each part finds at scale tiny, against what is known beforehand."""

import pytest

from workbench.studies.neo_parts import capacity


def rows_of(part) -> dict[str, dict]:
    """Rows by the name of their quantity."""
    return {row["quantity"]: row for row in part.rows}


def said(text: str, share: float) -> None:
    assert text and 0 <= share <= 1


def test_capacity_is_the_papers_arithmetic():
    rows = rows_of(capacity.run("tiny", range(1), said))
    assert rows[capacity.STATE_SHARE.name]["ours"] == pytest.approx(0.0039, rel=0.01)  # the sheet's 0.4 %
    assert rows[capacity.SAVING.name]["ours"] == pytest.approx(8 / (2 + 4 / 256))
    assert {row["verdict"] for row in rows.values()} == {"reproduced"}
