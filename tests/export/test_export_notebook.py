"""The notebook that is exported: executed, a cell with code for every analysis that applies, and safe to open."""

import nbformat
import pytest

from workbench.analyses import analyze, names
from workbench.export import export
from workbench.export.notebook import _arguments, _cells
from workbench.trace.run import Run


@pytest.fixture(scope="module")
def notebook(golden_run, tmp_path_factory):
    path = export(golden_run, "notebook", tmp_path_factory.mktemp("notebook") / "run.ipynb")
    return nbformat.read(path, as_version=4)


def test_every_analysis_that_applies_has_code_and_outputs(notebook, golden_run):
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    applying = [name for name in names() if analyze(golden_run, name).applies]
    assert [name for name in names() if any(f'"{name}"' in cell.source for cell in code)] == applying
    assert all(cell.execution_count for cell in code)
    for cell in code[1:]:
        kinds = {kind for output in cell.outputs for kind in output.get("data", ())}
        assert {"application/vnd.plotly.v1+json", "text/html"} <= kinds, cell.source


def test_it_says_where_the_run_lies(notebook, golden_run):
    assert f"wb.load({str(golden_run.path.resolve())!r})" in notebook.cells[1].source


def test_several_files_are_named_one_by_one(tmp_path):
    files = [tmp_path / "it's\n a.json", tmp_path / "b.json"]
    run = Run(files[0], parts=[{"file": str(path)} for path in files])
    assert _arguments(run) == ", ".join(repr(str(path)) for path in files)
    assert _arguments(Run(tmp_path, parts=run.parts)) == repr(str(tmp_path))


def test_a_name_is_no_markup(tmp_path):
    title, *_ = _cells(Run(tmp_path / "<img src=x>.json"))
    assert "&lt;img src=x&gt;" in title.source and "<img" not in title.source
