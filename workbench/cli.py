"""The command line: one thin function a command. Results go to standard output, progress and errors to standard error.

Exit codes: 0 done (also "not applicable"), 1 the work failed, 2 the call or the input was wrong, 130 interrupted.
"""

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from typer._click.exceptions import ClickException

from workbench import console, registry
from workbench.errors import InputError, WorkFailed
from workbench.units import printable

app = typer.Typer(
    name="workbench", help="Characterize recommendation-model infrastructure.", no_args_is_help=False,
    rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False,
)  # fmt: skip

TRACES = Path("traces")


class Format(StrEnum):
    """Output formats of `analyze`."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


class Role(StrEnum):
    """What `serve` does."""

    PREPARE = "prepare"
    MAIN = "main"
    SHARD = "shard"


class Target(StrEnum):
    """What `export` writes."""

    PERFETTO = "perfetto"
    CSV = "csv"
    PARQUET = "parquet"
    NOTEBOOK = "notebook"
    OTLP = "otlp"


class Scale(StrEnum):
    """How much work a study may do."""

    TINY = "tiny"
    SMALL = "small"
    FULL = "full"


Settings = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting.")]
Traces = Annotated[Path, typer.Option(help="Folder that runs are written to and read from.")]
Paths = Annotated[list[Path], typer.Argument(help="A run directory, a trace file, or a folder of one trace a rank.")]
Out = Annotated[Path | None, typer.Option(help="Write to this file.")]
Between = Annotated[
    str | None, typer.Option(metavar="START:END", help="Load only what lies between, in seconds from the first event.")
]
Ranks = Annotated[str | None, typer.Option(metavar="0,3...", help="Load only these ranks.")]
Kinds = Annotated[str | None, typer.Option(metavar="KIND,...", help="Load only events of these kinds.")]

ExecutionTrace = Annotated[
    list[Path] | None,
    typer.Option(metavar="PATH", help="PyTorch execution traces of the same run (a file, or a folder of one a rank)."),
]


@app.command()
def machine(
    quick: Annotated[bool, typer.Option("--quick", help="At most 30 s.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure again, whatever is cached.")] = False,
    style: Annotated[Format, typer.Option("--format")] = Format.TABLE,
) -> None:
    """Measure what this machine can do (cached), and print it beside what its vendor promises."""
    from workbench.machine.measure import ceilings
    from workbench.machine.table import summary_table

    bar, report = console.progress_reporter()
    with bar:
        found = ceilings(quick=quick, fresh=fresh, progress=report)
    if style is Format.JSON:
        sys.stdout.buffer.write(found.dumps() + b"\n")
    elif style is Format.CSV:
        sys.stdout.write(found.table.to_csv(index=False))
    else:
        console.print_frame(console.console(), summary_table(found), rows=500)


@app.command(name="list")
def list_(
    traces: Traces = TRACES,
    definitions: Annotated[bool, typer.Option("--definitions", help="Every metric with formula and source.")] = False,
) -> None:
    """What there is: workloads and presets, analyses, studies, runs - or every metric's definition."""
    from workbench.listing import definition_lines, inventory_lines

    for line in definition_lines() if definitions else inventory_lines(traces):
        sys.stdout.write(line + "\n")


@app.command()
def run(
    workload: str,
    preset: Annotated[str, typer.Option(help="A named configuration (workbench list).")] = "default",
    settings: Settings = None,
    traces: Traces = TRACES,
    no_ceilings: Annotated[bool, typer.Option("--no-ceilings", help="Do not measure the machine first.")] = False,
    py_spy: Annotated[bool, typer.Option("--py-spy", help="Sample host stacks too.")] = False,
) -> None:
    """Run a reference implementation; the last line of standard output is the run directory."""
    path = _start(workload, preset, settings, traces, not no_ceilings, py_spy)
    if os.environ.get("RANK", "0") == "0":  # under torchrun every rank runs this command
        sys.stdout.write(f"{path}\n")


@app.command()
def serve(
    role: Annotated[Role, typer.Argument(help="prepare: write model and plan; main, shard: serve them.")],
    shard: Annotated[str, typer.Argument(help="Which sparse shard of the plan.")] = "",
    model: Annotated[Path, typer.Option(help="Folder of the exported model.")] = Path("model"),
    plan: Annotated[Path, typer.Option(help="File that says which rows lie where, and who listens where.")] = Path(
        "plan.json"
    ),
    replica: Annotated[int, typer.Option(min=0, help="Which replica of the sparse shard.")] = 0,
    settings: Settings = None,
    traces: Annotated[Path | None, typer.Option(help="Record into this folder.")] = None,
    run_id: Annotated[str | None, typer.Option(help="The run that this server's part belongs to.")] = None,
) -> None:
    """Run one server of a distributed inference deployment until it is told to stop (SIGTERM; SIGHUP reloads)."""
    from workbench.settings import configure, split_assignments
    from workbench.workloads.inference.config import Config, ServerConfig
    from workbench.workloads.inference.prepare import prepare
    from workbench.workloads.inference.serve import serve as serve_role

    values = split_assignments(settings or [])
    if role is Role.PREPARE:
        prepare(configure(Config(), values), model, plan)
    else:
        serve_role(role.value, model, plan, configure(ServerConfig(), values), shard, replica, traces, run_id)


@app.command()
def load(
    paths: Paths,
    between: Between = None,
    ranks: Ranks = None,
    kinds: Kinds = None,
    execution_trace: ExecutionTrace = None,
) -> None:
    """Read a run or trace and say what is in it."""
    from workbench.listing import run_lines
    from workbench.trace.loader import load as load_run

    loaded = load_run(*paths, between=between, ranks=ranks, kinds=kinds, execution_trace=execution_trace)
    for line in run_lines(loaded):
        sys.stdout.write(line + "\n")


@app.command()
def analyze(
    paths: Paths,
    analysis: Annotated[str | None, typer.Option(help="One analysis; without it, all that apply.")] = None,
    settings: Settings = None,
    between: Between = None,
    ranks: Ranks = None,
    kinds: Kinds = None,
    execution_trace: ExecutionTrace = None,
    style: Annotated[Format, typer.Option("--format")] = Format.TABLE,
    out: Out = None,
) -> None:
    """Turn a run or trace into breakdowns."""
    from workbench.analyses import analyze as analyze_run
    from workbench.analyses import names
    from workbench.settings import split_assignments
    from workbench.trace.loader import load as load_run

    options = split_assignments(settings or [])
    if analysis:
        registry.check(analysis, names(), "analysis")
    elif options:
        raise InputError("--set changes one analysis: name it with --analysis")
    with console.telling("reading"):
        loaded = load_run(*paths, between=between, ranks=ranks, kinds=kinds, execution_trace=execution_trace)
    results = []
    for name in [analysis] if analysis else names():
        with console.telling(f"analysing {name}"):
            results.append(analyze_run(loaded, name, **options))
    applying = results if analysis else [result for result in results if result.applies]
    console.write(applying, style, out, single=analysis is not None)


@app.command()
def compare(
    a: Path,
    b: Path,
    fail_above: Annotated[float | None, typer.Option(metavar="PCT", help="Exit 1 when B is slower by more.")] = None,
    settings: Settings = None,
    style: Annotated[Format, typer.Option("--format")] = Format.TABLE,
    out: Out = None,
) -> None:
    """What grew, shrank, appeared or vanished from run A to run B."""
    from workbench.analyses.difference import compare as compare_runs
    from workbench.settings import split_assignments
    from workbench.trace.loader import load as load_run

    with console.telling("reading and comparing"):
        result = compare_runs(load_run(a), load_run(b), **split_assignments(settings or []))
    console.write([result], style, out, single=True)
    change_pct = result.summary.get("change_pct")
    if fail_above is not None and change_pct is not None and change_pct > fail_above:
        sys.stderr.write(f"{b} is {change_pct:.1f} % slower than {a}: more than the {fail_above:g} % allowed\n")
        raise typer.Exit(1)


@app.command()
def export(
    paths: Paths,
    to: Annotated[
        Target,
        typer.Option(
            help="perfetto: Chrome JSON with counters, roofline and critical path; csv, parquet: the events table; "
            "notebook: every breakdown with its code, executed; otlp: spans for Jaeger."
        ),
    ] = Target.PERFETTO,
    out: Out = None,
) -> None:
    """Write a run for other tools; prints the file's path."""
    from workbench.export import export as export_run
    from workbench.trace.loader import load as load_run

    sys.stdout.write(f"{export_run(load_run(*paths), to, out)}\n")


@app.command()
def report(paths: Paths, out: Out = None) -> None:
    """Write one self-contained HTML file with every breakdown that applies; prints its path."""
    from workbench.report import write_report
    from workbench.trace.loader import load as load_run

    with console.telling("writing the report"):
        written = write_report(load_run(*paths), out)
    sys.stdout.write(f"{written}\n")


@app.command()
def study(
    name: Annotated[str | None, typer.Argument(help="Without one: which there are.")] = None,
    scale: Annotated[Scale, typer.Option(help="Seconds, minutes on two cores, or a machine with a GPU.")] = Scale.SMALL,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Repeats that intervals come from; without it, as the study says.")
    ] = None,
    traces: Traces = TRACES,
) -> None:
    """Answer a paper's question beside its own figures; the last line of standard output is the study's folder."""
    from workbench import studies
    from workbench.studies.core.folder import read

    if name is None:
        for known in studies.names():
            sys.stdout.write(f"{known}: {studies.question(known)}\n")
        return
    bar, show = console.progress_reporter()
    with bar:
        path = studies.run(name, scale.value, seeds, traces, show)
    console.print_result(console.console(), read(path).result, rows=500)
    sys.stdout.write(f"{path}\n")


@app.command()
def dash(
    traces: Traces = TRACES,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8050,
) -> None:
    """Serve the pages on 127.0.0.1."""
    from dashboards.app import serve

    serve(traces, port)


@app.command()
def demo(
    traces: Traces = TRACES,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8050,
    no_serve: Annotated[bool, typer.Option("--no-serve", help="Stop after the report.")] = False,
) -> None:
    """Measure, train on two ranks, break the run down, write the report, serve the pages."""
    from workbench.analyses import analyze as analyze_run
    from workbench.machine.measure import ceilings
    from workbench.report import write_report
    from workbench.trace.loader import load as load_run

    bar, progress = console.progress_reporter()
    with bar:
        ceilings(quick=True, progress=progress)
    path = _start("training", "default", [], traces, True, False)
    with console.telling("reading the run"):
        loaded = load_run(path)
    screen = console.console()
    for name in ("time", "roofline", "memory_tiers", "communication"):
        with console.telling(f"analysing {name}"):
            result = analyze_run(loaded, name)
        console.print_result(screen, result, rows=12)
    with console.telling("writing the report"):
        written = write_report(loaded)
    sys.stdout.write(f"\nreport: {written}\n")
    if not no_serve:
        dash(traces, port)


@app.command()
def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Delete the tables made from users' traces.")] = False,
) -> None:
    """Where derived tables are kept, how big they are; --clear deletes them."""
    from workbench.trace import cache as trace_cache
    from workbench.units import format_bytes

    files, size_bytes = trace_cache.clear() if clear else trace_cache.usage()
    verb = "deleted" if clear else "holds"
    sys.stdout.write(f"{trace_cache.folder()} {verb} {files} tables, {format_bytes(size_bytes)}\n")


def _start(workload: str, preset: str, settings: list[str] | None, traces: Path, ceilings: bool, py_spy: bool) -> Path:
    from workbench.settings import split_assignments
    from workbench.workloads import start

    return start(workload, preset, split_assignments(settings or []), traces, ceilings, py_spy)


def main() -> None:
    """Entry point: wrong calls and wrong inputs become one line and exit code 2."""
    try:
        code = app(standalone_mode=False) or 0
    except InputError as error:
        code = _fail(str(error))
    except WorkFailed as error:
        code = _fail(str(error), code=1)
    except ClickException as error:
        code = _fail(f"{error.format_message()} (workbench --help shows the commands)")
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        # The reader of our output went away (`| head`): nothing is wrong; keep Python from complaining at exit.
        sys.stdout = open("/dev/null", "w")  # noqa: SIM115
        code = 0
    sys.exit(code)


def _fail(message: str, code: int = 2) -> int:
    sys.stderr.write("workbench: " + printable(" ".join(message.split())) + "\n")
    return code
