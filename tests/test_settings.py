"""Typed settings: what is cast, and what is refused with which words."""

from dataclasses import dataclass
from typing import Literal

import pytest

from workbench.errors import InputError
from workbench.settings import configure, options, split_assignments


@dataclass(frozen=True)
class Config:
    ranks: int = 1
    rate: float = 0.1
    shuffle: bool = False
    data: str | None = None
    layers: tuple[int, ...] = (1, 2)
    kernel: Literal["auto", "torch"] = "auto"


def test_text_becomes_the_annotated_type():
    settings = {"ranks": "1_000", "rate": "1e-3", "shuffle": "yes", "data": "x", "layers": "512,64", "kernel": "torch"}
    assert configure(Config(), settings) == Config(1000, 1e-3, True, "x", (512, 64), "torch")
    assert configure(Config(data="x"), {"data": "none"}).data is None
    assert configure(Config(), {"ranks": 2, "layers": [3]}) == Config(ranks=2, layers=(3,))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rank": "2"}, "unknown setting 'rank' for Config: settings are data, kernel"),
        ({"ranks": "two"}, "setting ranks='two' is not a whole number"),
        ({"ranks": 2.5}, "is not a whole number"),
        ({"ranks": True}, "is not a whole number"),
        ({"rate": "fast"}, "is not a number"),
        ({"shuffle": "maybe"}, "is not true or false"),
        ({"layers": "512,x"}, "setting layers='x' is not a whole number"),
        ({"kernel": "cuda"}, "choose one of auto, torch"),
    ],
)
def test_a_wrong_setting_says_what_would_be_right(settings, words):
    with pytest.raises(InputError, match="setting") as caught:
        configure(Config(), settings)
    assert words in str(caught.value)


def test_assignments_need_an_equals_sign():
    assert split_assignments(["a=1", "b=x=y"]) == {"a": "1", "b": "x=y"}
    with pytest.raises(InputError, match="key=value"):
        split_assignments(["ranks"])


def test_options_are_the_keyword_only_parameters():
    def analysis(run, *, by: Literal["rank", "step"] = "rank", top: int = 5):
        return by, top

    assert options(analysis, {"by": "step", "top": "7"}) == {"by": "step", "top": 7}
    with pytest.raises(InputError, match="unknown setting 'run' for analysis analysis: settings are by, top"):
        options(analysis, {"run": "x"})
