"""The house stands: imports go down only, and the light parts load without the heavy libraries.

The rule is read from the source, function-level imports included: an arrow that runs up fails wherever it hides.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BASE = frozenset({"errors", "units", "registry", "settings", "metrics"})
TRACE_WRITERS = frozenset({"trace.recorder", "trace.rundir", "trace.schema"})

# layer -> the layers (or single modules) below it that it may import; every layer may import itself.
BELOW = {
    **dict.fromkeys(BASE, BASE),
    "machine": BASE,
    "costs": BASE,
    "trace": BASE | {"machine", "costs"},
    "analyses": BASE | {"machine", "costs", "trace"},
    "figures": BASE | {"machine", "costs", "trace", "analyses"},
    "report": BASE | {"machine", "costs", "trace", "analyses", "figures"},
    "export": BASE | {"machine", "costs", "trace", "analyses", "figures"},
    "data": BASE | {"machine", "costs"} | TRACE_WRITERS,
    "embeddings": BASE | {"machine", "costs", "data"} | TRACE_WRITERS,
    # A finished workload hands back a Run, which `trace.loader` makes.
    "workloads": BASE | {"machine", "costs", "data", "embeddings", "trace"},
    "studies": BASE | {"machine", "costs", "trace", "analyses", "figures", "report", "data", "embeddings", "workloads"},
}
TOP = frozenset({"cli", "console", "listing", "__main__", "__init__"})
LIGHT = ("workbench", "workbench.trace", "workbench.analyses")
HEAVY = ("torch", "plotly", "dash", "ray", "grpc", "flwr")


def upward_imports(package: Path) -> list[str]:
    """Every import in `package` that its layer may not make, as `file:line: layer -> module`."""
    found = []
    for path in sorted(package.rglob("*.py")):
        layer = path.relative_to(package).with_suffix("").parts[0]
        if layer in TOP:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            for target in _targets(node):
                if not _allowed(layer, target):
                    found.append(f"{path.relative_to(package)}:{node.lineno}: {layer} -> {target}")
    return found


def _targets(node: ast.AST) -> list[str]:
    """Modules below `workbench` that an import statement names."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
        names = [f"{node.module}.{alias.name}" for alias in node.names]
    else:
        return []
    return [name.removeprefix("workbench.") for name in names if name.split(".")[0] in ("workbench", "dashboards")]


def _allowed(layer: str, target: str) -> bool:
    if layer not in BELOW:
        return False
    pieces = target.split(".")
    prefixes = {".".join(pieces[:length]) for length in range(1, len(pieces) + 1)}
    return bool(prefixes & (BELOW[layer] | {layer}))


def test_imports_go_down_only():
    assert upward_imports(ROOT / "workbench") == []


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("trace/planted.py", "from workbench.analyses import time"),
        ("costs/planted.py", "import workbench.trace.schema"),
        ("analyses/planted.py", "def late():\n    from workbench.figures import figure"),
        ("figures/planted.py", "from dashboards.app import make_app"),
        ("workloads/planted.py", "import workbench.analyses"),
        ("analyses/planted.py", "from workbench import workloads"),
        ("unheard_of.py", "import workbench.units"),
    ],
)
def test_a_planted_upward_import_is_found(tmp_path, file, line):
    planted = tmp_path / "workbench" / file
    planted.parent.mkdir(parents=True)
    planted.write_text(line)
    assert len(upward_imports(tmp_path / "workbench")) == 1


def test_dashboards_import_no_workload():
    """Pages look at runs; they never start one."""
    for path in (ROOT / "dashboards").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            assert not [t for t in _targets(node) if t.startswith(("workloads", "embeddings", "data"))], path


@pytest.mark.parametrize("module", LIGHT)
def test_light_parts_load_without_heavy_libraries(module):
    program = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_analyses_work_without_heavy_libraries():
    """Not only the import: discovery and a whole `analyze` run with torch and plotly made unimportable."""
    program = f"""
import sys
for name in {HEAVY!r}: sys.modules[name] = None
import workbench as wb
from pathlib import Path
from workbench.analyses import names
run = wb.Run(path=Path("empty"))
print(all(not wb.analyze(run, name).applies for name in names()), len(names()) > 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]
