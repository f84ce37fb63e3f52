"""The callbacks of the app, called as the browser calls them."""

import socket
import subprocess
import sys
import time
from http.client import HTTPConnection
from threading import Thread

import pytest
from browser import components, frame, navigate, show, texts
from pages.made_runs import HOSTILE, SERVING, make_run

from dashboards import view
from dashboards.app import make_app, serve
from dashboards.pages import PAGES, analyses
from dashboards.runs import RunsFolder
from workbench.analyses import names
from workbench.errors import InputError
from workbench.trace.rundir import RunDirectory

PATHS = [page.path for page in PAGES if page.of_run]
# What these ask for is in the run that serves, and what the others ask for in the one that trains.
SERVED = ("/kernels", "/memory", "/latency")
# Key figures that are there when a change, a baseline or another table was asked for.
WITH_OPTIONS = {"length_after_ns", "saved_pct", "cpu_overhead_pct", "sent_bytes"}


@pytest.fixture
def app(traces):
    return make_app(traces)


def run_of(path):
    return SERVING if path in SERVED else "one"


@pytest.mark.parametrize("path", PATHS)
def test_every_page_draws_the_figure_and_the_table_of_its_run(app, path):
    page = show(app, path, view.write({"run": run_of(path)}))["answer"]["children"]
    assert list(components(page, "Graph"))
    assert all(grid["rowData"] for grid in components(page, "AgGrid"))
    assert "This page failed" not in " ".join(texts(page))


@pytest.mark.parametrize("page", analyses.PAGES, ids=lambda page: page.title)
def test_every_key_figure_and_first_column_is_there(traces, page):
    analysis, key_figures, first_columns = page.answer.args
    folder = RunsFolder(traces)
    result = folder.analyze(folder.choose(run_of(page.path)), analysis)
    assert set(key_figures) - set(result.summary) == set(key_figures) & WITH_OPTIONS
    assert set(first_columns) <= set(result.table)


def test_every_analysis_of_a_run_has_a_page():
    assert {page.answer.args[0] for page in analyses.PAGES} | {"time"} == set(names())


def test_pages_of_a_group_stand_together_below_its_name(app):
    words = components(frame(app, "/")["navigation"]["children"], "Text")
    assert [text["children"] for text in words] == [
        "Where time goes", "Where bytes are", "Between ranks", "Serving", "Papers",
    ]  # fmt: skip


def test_the_overview_has_its_key_figures(app):
    page = show(app, "/", "?run=one")["answer"]["children"]
    assert len([box for box in components(page, "Box") if box.get("className") == "tile"]) == 7


@pytest.mark.parametrize("path", PATHS)
def test_without_runs_every_page_says_how_to_make_one(tmp_path, path):
    page = " ".join(texts(show(make_app(tmp_path), path)["answer"]["children"]))
    assert "No run yet" in page
    assert f"workbench run training --preset tiny --traces {tmp_path}" in page


def test_without_a_name_the_newest_run_is_shown(app):
    assert "killed" in texts(show(app, "/communication")["subject"]["children"])
    picker = next(components(frame(app, "/communication")["picker"]["children"], "Select"))
    assert (picker["value"], picker["id"]["default"]) == ("killed", "killed")


@pytest.mark.parametrize("name", ["../../etc", "/etc/passwd", "..%2Fone", "<script>alert(1)</script>"])
def test_a_name_that_is_no_run_is_an_answer_in_one_line(app, name):
    page = list(texts(show(app, "/roofline", f"?run={name}")["answer"]["children"]))
    assert any(line.startswith("no run ") and "choose one of the 5" in line for line in page)


def test_a_broken_run_shows_its_line_and_the_runs_beside_it(app):
    page = show(app, "/", "?run=broken")["answer"]["children"]
    assert any("broken/run.json is not JSON" in line for line in texts(page))
    runs = next(components(page, "AgGrid"))
    assert [row["status"] for row in runs["rowData"]] == ["killed", "complete", "complete", "complete", "unreadable"]
    assert runs["selectedRows"] == {"ids": ["broken"]}


def test_a_wrong_option_is_an_answer_in_one_line(app):
    page = list(texts(show(app, "/communication", "?run=one&by=moon")["answer"]["children"]))
    assert "setting by='moon': choose one of collective, call, rank, process_group, link, matrix" in page
    page = list(texts(show(app, "/stacks", "?run=one&by=moon")["answer"]["children"]))
    assert "setting by='moon': choose one of function, module, thread" in page
    page = list(texts(show(app, "/communication", "?run=one&colour=red")["answer"]["children"]))
    assert any(line.startswith("unknown setting 'colour'") for line in page)


def test_an_analysis_that_does_not_apply_says_why(app, traces):
    for profile in traces.glob("one/*.pt.trace.json.gz"):
        profile.unlink()
    folder = RunsFolder(traces)
    reason = folder.analyze(folder.choose("one"), "roofline").notes[-1].removeprefix("not applicable: ")
    page = list(texts(show(app, "/roofline", "?run=one")["answer"]["children"]))
    assert "This does not apply to this run" in page
    assert f"Because {reason}." in page


def test_a_defect_of_ours_is_told_on_the_page_and_logged(app, monkeypatch, caplog):
    monkeypatch.setattr("dashboards.page.figure", lambda result: 1 / 0)
    page = " ".join(texts(show(app, "/communication", "?run=one")["answer"]["children"]))
    assert "This page failed" in page
    assert "ZeroDivisionError" in caplog.text


def test_links_keep_the_run_and_the_copied_one_names_it(app):
    around = frame(app, "/communication", "?by=rank")
    pages = [page.path for page in PAGES]
    assert [link["href"] for link in components(around["navigation"]["children"], "NavLink")] == pages
    copied = next(components(around["picker"]["children"], "CopyButton"))["value"]
    assert copied.endswith("/communication?by=rank&run=killed")
    links = components(frame(app, "/", "?run=one")["navigation"]["children"], "NavLink")
    assert [link["href"] for link in links] == [f"{path}?run=one" for path in pages]
    links = components(show(app, "/", "?run=one")["answer"]["children"], "Anchor")
    assert {link["href"] for link in links} == {"/roofline?run=one", "/communication?run=one"}


def test_controls_change_the_url_and_only_that(app):
    by = {"type": "control", "key": "by", "default": "collective"}
    assert navigate(app, by, "rank", "?run=one") == "?run=one&by=rank"
    assert navigate(app, by, "collective", "?run=one&by=rank") == "?run=one"
    assert navigate(app, by, "rank", "?run=one&by=rank") is None
    run = {"type": "control", "key": "run", "default": "one"}
    assert navigate(app, run, "one") is None
    assert navigate(app, run, HOSTILE) == "?run=%3Cb%3Emm%3Cimg+src%3Dx+onerror%3Dalert%281%29%3E"


def test_a_running_run_is_drawn_again_only_when_it_grew(app, traces):
    assert show(app, "/")["refresh"]["disabled"]
    make_run(traces, "now", end=None)
    answer = show(app, "/")
    assert not answer["refresh"]["disabled"]
    shown = answer["shown"]["data"]
    assert show(app, "/", shown=shown, trigger="refresh.n_intervals") == {}
    (traces / "now" / "trainer-0.stacks.txt").write_text("main;step 1")
    assert show(app, "/", shown=shown, trigger="refresh.n_intervals")["answer"]


def test_a_page_that_is_not_there_is_a_404(app):
    client = app.server.test_client()
    assert {path: client.get(path).status_code for path in (*PATHS, "/nowhere", "/assets/style.css")} == {
        **dict.fromkeys(PATHS, 200), "/nowhere": 404, "/assets/style.css": 200,
    }  # fmt: skip
    assert frame(app, "/nowhere")["question"]["children"] == "404: there is no such page"


def test_apps_in_one_process_do_not_share_runs(traces, tmp_path):
    full, empty = make_app(traces), make_app(tmp_path / "empty")
    assert "No run yet" in " ".join(texts(show(empty, "/")["answer"]["children"]))
    assert next(components(show(full, "/")["answer"]["children"], "AgGrid"))["rowData"]


def test_nothing_comes_from_another_host(app):
    page = app.server.test_client().get("/").text
    assert "http://" not in page
    assert "https://" not in page


def test_a_port_in_use_is_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} is in use: choose another with --port"):
            serve(tmp_path, port)


def test_serve_answers_on_loopback_and_to_no_foreign_name(tmp_path, capsys):
    Thread(target=serve, args=(tmp_path, 0), daemon=True).start()
    told = ""
    while "http" not in told:
        told += capsys.readouterr().err
        time.sleep(0.01)
    host, port = told.strip().rpartition("//")[2].split(":")
    assert host == "127.0.0.1"
    statuses = []
    for name in ("127.0.0.1", "localhost", "rebound.example"):
        connection = HTTPConnection(host, int(port), timeout=5)
        connection.request("GET", "/", headers={"Host": f"{name}:{port}"})
        statuses.append(connection.getresponse().status)
        connection.close()
    assert statuses == [200, 200, 400]


def test_a_failed_run_says_why(app, traces):
    RunDirectory(traces / "one").finish("failed", "trainer-1: ValueError: <b>no</b>")
    page = list(texts(show(app, "/", "?run=one")["answer"]["children"]))
    assert "This run failed" in page
    assert "trainer-1: ValueError: <b>no</b>" in page


def test_a_file_is_no_folder_of_runs(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is not a folder"):
        make_app(tmp_path / "file")


def test_the_app_loads_without_torch():
    code = "import sys, dashboards.app; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
