"""Defined once, and everything that is shown is defined."""

import re

import pytest

import workbench as wb
from workbench import registry
from workbench.analyses import names
from workbench.metrics import define, definitions

_UNIT_OF_SUFFIX = {"_ns": "ns", "_bytes": "B", "_bytes_per_s": "B/s", "_pct": "%", "_share": "1", "_j": "J"}


def test_every_definition_says_formula_unit_and_source():
    assert len(definitions()) > 50
    for definition in definitions():
        where = f"{definition.analysis}.{definition.key}"
        assert definition.title and definition.formula and definition.source, where
        suffix = re.search(r"_(bytes_per_s|bytes|ns|pct|share|j)$", definition.key)
        if suffix:
            assert definition.unit == _UNIT_OF_SUFFIX[suffix.group()], where


def test_keys_are_defined_once():
    keys = [(definition.analysis, definition.key) for definition in definitions()]
    assert len(set(keys)) == len(keys)
    common = {definition.key for definition in definitions("common")}
    assert not [key for analysis, key in keys if analysis != "common" and key in common]


@pytest.mark.parametrize("name", names())
def test_every_key_shown_is_defined(name, golden_run):
    result = wb.analyze(golden_run, name)
    for key in [*result.table.columns, *result.summary]:
        assert define(name, str(key)), f"{name} shows {key!r}, which metrics/{name}.toml does not define"


def test_every_analysis_has_a_figure():
    assert set(names()) <= set(registry.functions("workbench.figures"))
