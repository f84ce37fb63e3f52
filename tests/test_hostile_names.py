"""Names of events are text, whatever is in them: markup stays text in a report, and control characters leave terminals
alone."""

import json

import pytest

from workbench.analyses import analyze, names
from workbench.console import console, print_result
from workbench.figures import figure
from workbench.listing import run_lines
from workbench.report import write_report
from workbench.trace.loader import load
from workbench.units import printable

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\x1b]0;owned\x07\x1b[31m[bold]\u202e"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A rank whose every name is hostile, the file's own included."""
    events = [
        {"ph": "X", "cat": category, "name": HOSTILE, "pid": pid, "tid": 1, "ts": ts, "dur": 50, "args": args}
        for category, pid, ts, args in (
            ("cpu_op", 1, 0, {"Input Dims": [[2, 2]], "Input type": ["float"]}),
            ("cuda_runtime", 1, 10, {"correlation": 1}),
            ("kernel", 0, 30, {"correlation": 1, "stream": 7}),
        )
    ]
    path = tmp_path_factory.mktemp("hostile") / "<b>\x1b[31m.json"
    path.write_text(json.dumps({"traceEvents": events, "deviceProperties": [{"id": 0, "name": HOSTILE}]}))
    return load(path)


def test_a_report_shows_markup_as_text(run, tmp_path):
    html = write_report(run, tmp_path / "report.html").read_text()
    assert "alert(1)" in html
    for tag in ("<script>alert", "<img src=x", "<b>\x1b"):
        assert tag not in html
    for name in names():
        if (result := analyze(run, name)).applies:
            assert "<script>alert" not in result._repr_html_()
            assert "<script>alert" not in figure(result).to_html(include_plotlyjs=False)


def test_tables_and_listings_hold_no_control_characters(run, capsys):
    for name in names():
        print_result(console(), analyze(run, name))
    print(*run_lines(run), sep="\n")
    shown = capsys.readouterr().out
    assert "alert(1)" in shown and [char for char in shown if not char.isprintable() and char != "\n"] == []
    assert printable("ok \u00e9 \x1b[31m") == "ok \u00e9 ?[31m"
