"""An executed notebook: every breakdown that applies to a run, with the code that made it."""

import html
from pathlib import Path

from workbench.analyses import analyze, names
from workbench.errors import WorkFailed
from workbench.trace.run import Run


def write_notebook(run: Run, path: Path) -> None:
    """Write a notebook to `path`, executed where it will lie: a cell that loads the run, then for each analysis that
    applies one with its figure and table. WorkFailed when a cell fails."""
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    notebook = nbformat.v4.new_notebook(cells=_cells(run))
    quiet = ["--IPKernelApp.log_level=ERROR"]
    client = NotebookClient(notebook, timeout=None, kernel_name="python3", extra_arguments=quiet)
    try:
        client.execute(cwd=str(path.parent.resolve()))
    except CellExecutionError as error:
        raise WorkFailed(f"the notebook's code failed: {error.ename}: {error.evalue}") from None
    nbformat.write(notebook, path)


def _cells(run: Run) -> list:
    """The cells, not yet executed. The run's name is text, whatever a file may be called."""
    from nbformat import v4 as new

    cells = [
        new.new_markdown_cell(f"# {html.escape(run.name)}\n\nWritten by `workbench export --to notebook`."),
        new.new_code_cell(f"import workbench as wb\n\nrun = wb.load({_arguments(run)})\nrun"),
    ]
    for name in names():
        if analyze(run, name).applies:
            code = f'result = wb.analyze(run, "{name}")\ndisplay(wb.figure(result))\nresult'
            cells += [new.new_markdown_cell(f"## {name}"), new.new_code_cell(code)]
    return cells


def _arguments(run: Run) -> str:
    """What `wb.load` was given, in absolute paths: the run's directories or folder, else the files of its ranks."""
    paths = run.directories or [run.path]
    files = [Path(part["file"]) for part in run.parts]
    if not run.directories and not all(file == run.path or run.path in file.parents for file in files):
        paths = files
    return ", ".join(repr(str(path.resolve())) for path in paths)
