"""One environment, said once: pyproject, constraints, environment.yml and the README agree."""

import re
import subprocess
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

import workbench

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins() -> dict[str, Version]:
    requirements = [
        Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"
    ]
    return {_name(r.name): Version(str(r.specifier).removeprefix("==")) for r in requirements}


def _name(name: str) -> str:
    return name.lower().replace("_", "-")


def test_every_dependency_is_pinned_within_its_range():
    extras = [line for lines in PROJECT["optional-dependencies"].values() for line in lines]
    for line in [*PROJECT["dependencies"], *extras]:
        requirement = Requirement(line)
        assert requirement.specifier.contains(pins()[_name(requirement.name)]), line


def test_conda_installs_the_same_project_under_the_same_constraints():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (pip_lines,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert pip_lines == ["--constraint constraints.txt", "--editable .[test]"]
    (python,) = [entry for entry in environment["dependencies"] if str(entry).startswith("python=")]
    assert SpecifierSet(PROJECT["requires-python"]).contains(python.removeprefix("python=") + ".7")
    assert environment["channels"] == ["conda-forge"]


def test_public_names():
    expected = {
        "run", "load", "analyze", "compare", "figure", "ceilings", "definitions", "Run", "Result", "InputError",
    }  # fmt: skip
    assert set(workbench.__all__) == expected
    for name in expected:
        assert callable(getattr(workbench, name)), name
    assert workbench.__version__ == PROJECT["version"]


def test_nothing_names_a_machine():
    """Committed text speaks of the project alone: no path of one machine."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    forbidden = re.compile(r"(?<![\w.])/(?:work|root|home)/\w")
    for name in listed:
        path = ROOT / name
        if path.is_file() and path.suffix not in {".gz", ".png", ".arrow", ".zip"}:
            assert not forbidden.search(path.read_text()), name
