"""The command line as a user meets it: what it prints, and one line with exit code 2 for every wrong input."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from workbench import cli
from workbench.trace.rundir import RunDirectory


@pytest.fixture
def call(monkeypatch, capsys):
    """Run the command line in this process: (exit code, stdout, stderr)."""

    def _call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["workbench", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        return stop.value.code, captured.out, captured.err

    return _call


@pytest.fixture
def run_path(tmp_path) -> Path:
    """A tiny complete run with spans only."""
    directory = RunDirectory.create(tmp_path / "traces", "training", "tiny", ranks=1)
    with directory.recorder("trainer-0", rank=0) as recorder:
        for step in range(4):
            recorder.step = step
            with recorder.span("step"), recorder.span("lookup", kind="compute", phase="forward"):
                sum(range(20_000))
    directory.finish("complete")
    return directory.path


def assert_one_line(answer: tuple[int, str, str], *words: str) -> None:
    code, out, error = answer
    assert code == 2 and out == "", answer
    error = error.replace("reading ...\n", "").replace("writing the report ...\n", "")  # progress, on a slow machine
    assert error.count("\n") == 1 and error.startswith("workbench: "), error
    for word in words:
        assert word in error


def test_wrong_calls(call):
    assert_one_line(call("frobnicate"), "frobnicate", "--help")
    assert_one_line(call("analyze", "x", "--colour", "red"), "--colour")
    assert_one_line(call("analyze"), "paths")
    assert_one_line(call("analyze", "x", "--format", "xml"), "xml")
    assert_one_line(call("dash", "--port", "99999"), "--port", "65535")


def test_wrong_paths(call, tmp_path):
    (tmp_path / "empty.json").write_text("")
    (tmp_path / "words.json").write_text("hello")
    (tmp_path / "other.json").write_text('{"a": 1}')
    (tmp_path / "folder").mkdir()
    assert_one_line(call("analyze", tmp_path / "missing.json"), "does not exist", "missing.json")
    for name in ("empty.json", "words.json", "other.json"):
        assert_one_line(call("analyze", tmp_path / name), name)
    assert_one_line(call("load", tmp_path / "folder"), "folder", "run.json")


def test_a_file_that_may_not_be_read(call, tmp_path, monkeypatch):
    locked = tmp_path / "locked.json"
    locked.write_text('{"traceEvents": []}')

    def refuse(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied", str(locked))

    monkeypatch.setattr("workbench.trace.files.cached_part", refuse)
    assert_one_line(call("analyze", locked), "locked.json", "Permission denied")


def test_wrong_names_and_settings(call, run_path):
    assert_one_line(call("analyze", run_path, "--analysis", "magic"), "unknown analysis 'magic'", "roofline")
    assert_one_line(call("analyze", run_path, "--set", "by=step"), "--analysis")
    assert_one_line(call("analyze", run_path, "--analysis", "time", "--set", "by=colour"), "by='colour'", "rank")
    assert_one_line(call("analyze", run_path, "--analysis", "time", "--set", "colour=red"), "unknown setting 'colour'")
    assert_one_line(call("analyze", run_path, "--format", "csv"), "--analysis")
    assert_one_line(call("run", "gardening"), "unknown workload 'gardening'", "training")
    assert_one_line(call("run", "training", "--preset", "magic"), "unknown preset 'magic'", "tiny")
    assert_one_line(call("run", "training", "--set", "rank=2"), "unknown setting 'rank'", "ranks")
    assert_one_line(call("run", "training", "--set", "ranks=two"), "ranks='two' is not a whole number")
    assert_one_line(call("study", "magic"), "unknown study 'magic'")


def test_filters(call, run_path):
    assert_one_line(call("load", run_path, "--between", "2:1"), "between='2:1'", "START:END")
    assert_one_line(call("analyze", run_path, "--ranks", "one"), "ranks='one'")
    assert_one_line(call("analyze", run_path, "--kinds", "magic"), "kinds='magic'", "communication")
    code, out, _ = call("load", run_path, "--ranks", "0", "--kinds", "compute")
    assert code == 0 and "4 events" in out and "only this was loaded: ranks 0 and events that are compute" in out
    code, out, _ = call("analyze", run_path, "--between", "50:60", "--analysis", "time", "--format", "json")
    result = json.loads(out)
    assert code == 0 and result["rows"] == [] and "no event is left" in result["notes"][1]


def test_nothing_is_half_written(call, run_path, tmp_path):
    assert_one_line(call("analyze", run_path, "--format", "json", "--out", tmp_path / "no" / "x.json"), "cannot write")
    assert_one_line(call("report", run_path, "--out", tmp_path / "no" / "x.html"), "cannot write")
    assert_one_line(call("export", run_path, "--out", tmp_path / "no" / "x.json.gz"), "cannot write")
    assert not (tmp_path / "no").exists() and not list(tmp_path.glob("**/.*part"))


def test_a_port_in_use(call, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert_one_line(call("dash", "--traces", tmp_path, "--port", port), f"port {port} is in use", "--port")


def test_analyze_prints_json_csv_and_tables(call, run_path, tmp_path):
    code, out, _ = call("analyze", run_path, "--analysis", "time", "--format", "json")
    result = json.loads(out)
    assert code == 0 and set(result) == {"analysis", "summary", "rows", "notes"}
    parts = ("compute_pct", "communication_pct", "copy_pct", "host_pct", "idle_pct")
    assert abs(sum(result["rows"][0][key] for key in parts) - 100) < 0.1
    code, out, _ = call("analyze", run_path, "--analysis", "time", "--format", "csv")
    assert code == 0 and out.startswith("rank,") and len(out.splitlines()) == 2
    code, out, _ = call("analyze", run_path)
    assert code == 0 and "compute_pct" in out
    code, out, _ = call("analyze", run_path, "--format", "json", "--out", tmp_path / "all.json")
    assert code == 0 and out == ""
    assert all("rows" in result for result in json.loads((tmp_path / "all.json").read_text()))


def test_what_does_not_apply_is_an_answer(call, run_path):
    code, out, _ = call("analyze", run_path, "--analysis", "communication", "--format", "json")
    result = json.loads(out)
    assert code == 0 and result["rows"] == [] and result["notes"][0].startswith("not applicable: ")


def test_compare_fails_above_a_limit(call, run_path):
    code, out, _ = call("compare", run_path, run_path, "--format", "json", "--fail-above", "5")
    assert code == 0 and json.loads(out)["summary"]["change_pct"] == 0


def test_report_and_export(call, run_path, tmp_path):
    code, out, _ = call("report", run_path)
    html = (run_path / "report.html").read_text()
    assert code == 0 and out.strip() == str(run_path / "report.html")
    assert '<h2 id="time">' in html and "Plotly.newPlot" in html and "<script src" not in html and "<link" not in html
    for target, name in (("perfetto", "x.json.gz"), ("csv", "x.csv"), ("parquet", "x.parquet")):
        code, out, _ = call("export", run_path, "--to", target, "--out", tmp_path / name)
        assert code == 0 and Path(out.strip()).stat().st_size > 100
    code, out, _ = call("load", tmp_path / "x.json.gz")
    assert code == 0 and "8 events" in out  # what we write for Perfetto, we can read


def test_list_and_definitions(call, run_path):
    code, out, _ = call("list", "--traces", run_path.parent)
    assert code == 0 and run_path.name in out and "tiny" in out and "roofline" in out
    code, out, _ = call("list", "--definitions")
    assert code == 0 and "compute_pct" in out and "Source:" in out


def test_study_and_cache(call):
    code, out, _ = call("study")
    assert code == 0 and out.startswith("neo: ")
    code, out, _ = call("cache", "--clear")
    assert code == 0 and "deleted" in out


def test_python_dash_m_is_the_same(run_path):
    done = subprocess.run(
        [sys.executable, "-m", "workbench", "load", run_path], capture_output=True, text=True, check=True
    )
    assert "8 events" in done.stdout
    wrong = subprocess.run([sys.executable, "-m", "workbench", "load", "nowhere"], capture_output=True, text=True)
    assert wrong.returncode == 2 and "does not exist" in wrong.stderr and wrong.stderr.count("\n") == 1
