"""A few hundred of the damaged inputs that `tests/benchmarks/mutations.py` makes by the ten thousand."""

import math

import pytest
from mutants import bounded, check, mutant, one_analysis


@pytest.mark.parametrize("hundred", [0, 1])
def test_damaged_inputs_give_an_answer_or_one_line(tmp_path, hundred):
    codes = []
    for number in range(100 * hundred, 100 * hundred + 100):
        folder = tmp_path / str(number)
        folder.mkdir()
        codes.append(check(mutant(number, folder, runs_share=0.01), one_analysis(number)))
    assert set(codes) == {0, 2}  # some can be read in spite of it, some cannot


def test_a_number_brings_its_mutant_back(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        mutant(7, tmp_path / name, runs_share=0)
    assert [path.read_bytes() for path in sorted((tmp_path / "a").iterdir())] == [
        path.read_bytes() for path in sorted((tmp_path / "b").iterdir())
    ]


def test_the_bound_stops_what_does_not_end():
    with pytest.raises(TimeoutError), bounded(0.05):
        while True:
            math.sqrt(2)
