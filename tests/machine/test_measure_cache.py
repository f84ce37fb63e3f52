"""Measure once, keep what is done, go on from there - with parts that only pretend to measure."""

import itertools

import pytest

from workbench.machine import measure
from workbench.machine.measure.sampling import Found, Unavailable


class FakeParts:
    """Stands for every part; `ran` lists what was measured, `fail` maps a part to what it raises."""

    def __init__(self) -> None:
        self.ran, self.fail, self._values = [], {}, itertools.count(1)

    def import_module(self, name: str) -> "FakeParts":
        self.part = name.rpartition(".")[2]
        return self

    def measure(self, plan) -> Found:
        self.ran.append(self.part)
        if self.part in self.fail:
            raise self.fail.pop(self.part)
        found = Found(left_out={"compute fp16": "emulated"} if self.part == "compute" else {})
        found.time([float(next(self._values))], "pretended", kind="overhead", name=self.part)
        return found


@pytest.fixture
def parts(monkeypatch, tmp_path) -> FakeParts:
    made = FakeParts()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(measure, "importlib", made)
    return made


def test_everything_is_measured_once(parts):
    first = measure.ceilings(quick=True)
    assert parts.ran == list(measure.PARTS)
    again = measure.ceilings(quick=True)
    assert parts.ran == list(measure.PARTS)
    assert again.table.equals(first.table) and again.about["measured_at"] == first.about["measured_at"]


def test_about_says_what_a_reader_must_know(parts):
    about = measure.ceilings(quick=True).about
    assert about["quick"] is True and about["left_out"] == {"compute fp16": "emulated"}
    assert about["levels"]["cpu"][-1] == {"tier": "dram", "capacity_bytes": None}
    assert about["measured_at"].endswith("+00:00") and len(about["fingerprint"]) == 16
    assert about["host"]["cores"] >= 1 and about["machine"] == about["host"]["hostname"]
    assert 0 <= about["others_share"] <= 1


def test_an_interrupted_measurement_goes_on_where_it_stopped(parts):
    parts.fail["gather"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        measure.ceilings(quick=True)
    assert parts.ran == ["compute", "memory", "gather"]
    parts.ran.clear()
    measure.ceilings(quick=True)
    assert parts.ran == list(measure.PARTS[2:])


def test_a_thorough_measurement_replaces_a_quick_one_and_serves_both(parts):
    measure.ceilings(quick=True)
    parts.ran.clear()
    assert measure.ceilings().about["quick"] is False
    assert parts.ran == list(measure.PARTS)
    parts.ran.clear()
    assert measure.ceilings(quick=True).about["quick"] is False
    assert parts.ran == []


def test_fresh_measures_again(parts):
    measure.ceilings(quick=True)
    measure.ceilings(quick=True, fresh=True)
    assert parts.ran == list(measure.PARTS) * 2


def test_what_cannot_be_measured_is_left_out_with_its_reason(parts):
    parts.fail["storage"] = Unavailable("no space")
    made = measure.ceilings(quick=True)
    assert made.about["left_out"]["storage"] == "no space"
    assert made.overhead_ns("storage") is None and made.overhead_ns("network") is not None


def test_a_damaged_cache_is_measured_again(parts, tmp_path):
    measure.ceilings(quick=True)
    (path,) = tmp_path.rglob("*.json")
    path.write_text('{"version": 1, "parts": {"compute": 5}}')
    measure.ceilings(quick=True)
    assert parts.ran == list(measure.PARTS) * 2


def test_progress_counts_up_to_the_end(parts):
    told = []
    measure.ceilings(quick=True, progress=lambda text, done_share: told.append((text, done_share)))
    shares = [share for _, share in told]
    assert shares[0] == 0 and shares == sorted(shares) and told[-1] == ("measured", 1.0)
    assert [text for text, _ in told[:-1]] == [f"measuring {part}" for part in measure.PARTS]
