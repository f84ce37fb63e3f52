"""A run for other tools: Perfetto (Chrome JSON with counters, roofline and critical path), CSV, Parquet, a notebook
with the code of every figure, OpenTelemetry spans."""

from pathlib import Path

from workbench.errors import InputError
from workbench.export.notebook import write_notebook
from workbench.export.otlp import write_otlp
from workbench.export.perfetto import write_perfetto
from workbench.trace.run import Run

# target -> (suffix of the file, what writes a run to a path)
TARGETS = {
    "perfetto": (".perfetto.json.gz", write_perfetto),
    "csv": (".events.csv", lambda run, path: run.events.to_csv(path, index=False)),
    "parquet": (".events.parquet", lambda run, path: run.events.to_parquet(path, index=False)),
    "notebook": (".ipynb", write_notebook),
    "otlp": (".otlp.json", write_otlp),
}


def export(run: Run, target: str, out: Path | None = None) -> Path:
    """Write `run` for one of TARGETS to `out`, whole or not at all; returns the path.

    Without `out`: `<run>.<suffix>` in the current folder, since a user's trace folder is not ours to write into.
    InputError when it cannot be written there.
    """
    suffix, write = TARGETS[target]
    out = out or Path(run.name + suffix)
    scratch = out.with_name(f".{out.name}.part")
    try:
        write(run, scratch)
        scratch.replace(out)
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}; choose another file with --out") from None
    finally:
        scratch.unlink(missing_ok=True)
    return out
