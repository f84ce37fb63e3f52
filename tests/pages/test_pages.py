"""The pages in a real browser: drawn, navigable, exportable, offline, and deaf to what names pretend to be."""

import csv
from time import sleep
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from pages.conftest import Tab
from pages.made_runs import HOSTILE, SERVING, make_run
from pages.made_studies import make_study
from playwright.sync_api import expect

from dashboards.runs import RunsFolder
from workbench.analyses import analyze
from workbench.metrics import define
from workbench.trace.rundir import RunDirectory

# A bar, a point, a line or a box that a figure has drawn.
_MARK = ".js-plotly-plot :is(.point path, path.point, path.js-line, path.surface)"
_PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize(
    ("path", "run"),
    [
        *((path, HOSTILE) for path in ("/", "/roofline", "/critical-path", "/stacks", "/memory-tiers")),
        *((path, HOSTILE) for path in ("/communication", "/sharding")),
        *((path, SERVING) for path in ("/kernels", "/memory", "/latency")),
    ],
)
def test_a_page_draws_its_figure_and_table_and_names_stay_text(tab: Tab, served, path, run):
    page = tab.open(f"{served}{path}?run={quote(run)}")
    page.wait_for_selector(_MARK)
    page.wait_for_selector(".ag-row .ag-cell")
    expect(page.locator("h1")).to_contain_text("?")
    assert page.get_by_text(HOSTILE).count() > 0
    assert page.locator("img[src=x], #answer b, tspan[style*=bold]").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_the_picker_changes_url_and_content_and_back_returns(tab: Tab, served):
    page = tab.open(f"{served}/communication?run=one&by=rank")
    page.locator("#picker input").first.click()
    page.get_by_role("option", name="two").click()
    expect(page.locator("#subject")).to_contain_text("two")
    assert parse_qs(urlsplit(page.url).query) == {"run": ["two"], "by": ["rank"]}
    page.go_back()
    expect(page.locator("#subject")).to_contain_text("one")
    expect(page.locator("#picker input").first).to_have_value("one")


def test_a_row_of_the_overview_chooses_its_run(tab: Tab, served):
    page = tab.open(served)
    assert urlsplit(page.url).query == ""
    page.locator(".ag-row").get_by_text("one", exact=True).click()
    page.wait_for_url("**/?run=one")
    expect(page.locator(".ag-row-selected")).to_contain_text("one")
    expect(page.locator("#picker input").first).to_have_value("one")


def test_options_and_filter_live_in_the_url_and_survive_a_reload(tab: Tab, served):
    page = tab.open(f"{served}/communication?run=one")
    page.get_by_text("call", exact=True).click()
    page.wait_for_url("**/communication?run=one&by=call")
    page.get_by_label("Rows with").fill("trainer-1")
    page.wait_for_url("**&filter=trainer-1")
    page.reload()
    expect(page.locator(".ag-row", has_text="trainer-1").first).to_be_visible()
    expect(page.locator(".ag-row", has_text="trainer-0")).to_have_count(0)
    expect(page.get_by_label("Rows with")).to_have_value("trainer-1")


def test_the_url_does_not_interrupt_who_types_slowly(tab: Tab, served):
    page = tab.open(f"{served}/communication?run=one")
    page.get_by_label("Rows with").press_sequentially("to", delay=700)
    page.wait_for_url("**&filter=to")


def test_a_running_run_refreshes_itself_until_it_ends(tab: Tab, served_live, tmp_path):
    directory = RunDirectory(make_run(tmp_path, "now", end=None))
    page = tab.open(f"{served_live}/communication")
    expect(page.locator("#subject")).to_have_text("nowrunning")
    directory.finish("complete")
    expect(page.locator("#subject")).to_have_text("nowcomplete")
    expect(page.get_by_text("this run is running")).to_have_count(0)


def test_a_slow_page_says_that_it_loads(tab: Tab, served, monkeypatch):
    def slow(run, name, **options):
        sleep(1)
        return analyze(run, name, **options)

    page = tab.open(f"{served}/memory-tiers?run=two")
    monkeypatch.setattr("dashboards.runs.analyze", slow)
    page.get_by_text("phase", exact=True).click()
    expect(page.get_by_text("Loading ...")).to_be_visible()
    expect(page.get_by_text("Loading ...")).to_be_hidden()


def test_a_baseline_is_chosen_among_the_runs(tab: Tab, served):
    page = tab.open(f"{served}/latency?run={quote(SERVING)}")
    page.get_by_label("Baseline").first.click()
    page.get_by_role("option", name=SERVING).click()
    page.wait_for_url("**&baseline=*")
    expect(page.get_by_text("CPU overhead")).to_be_visible()


def test_navigation_keeps_the_run(tab: Tab, served):
    page = tab.open(f"{served}/?run=one")
    page.locator("#navigation").get_by_text("Roofline").click()
    page.wait_for_url("**/roofline?run=one")
    expect(page.locator("#subject")).to_contain_text("one")


def test_a_table_explains_its_columns_and_saves_raw_values_under_their_keys(tab: Tab, served, traces, tmp_path):
    page = tab.open(f"{served}/communication?run=one")
    page.locator(".ag-header-cell[col-id=busbw_bytes_per_s]").hover()
    expect(page.locator(".ag-tooltip")).to_contain_text(define("communication", "busbw_bytes_per_s").text)
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV").click()
    assert download.value.suggested_filename == "one-communication.csv"
    download.value.save_as(tmp_path / "table.csv")
    with open(tmp_path / "table.csv", newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    folder = RunsFolder(traces)
    table = folder.analyze(folder.choose("one"), "communication").table
    assert list(rows[0]) == list(table.columns)
    assert [int(row["duration_ns"]) for row in rows] == table["duration_ns"].tolist()


def test_a_figure_is_saved_as_png(tab: Tab, served, tmp_path):
    page = tab.open(f"{served}/communication?run=one")
    page.locator(".js-plotly-plot").hover()
    with page.expect_download() as download:
        page.locator(".modebar-btn[data-title^='Download']").click()
    assert download.value.suggested_filename == "one-communication.png"
    download.value.save_as(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(_PNG)


def test_a_folder_without_runs_says_how_to_make_one(tab: Tab, served_empty):
    page = tab.open(served_empty)
    assert page.get_by_text("workbench run training --preset tiny").count() == 1


def test_a_page_that_is_not_there_says_so(tab: Tab, served):
    page = tab.open(f"{served}/nowhere")
    assert page.locator("h1").inner_text() == "404: there is no such page"
    assert len(tab.errors) == 1  # the status itself
    assert "404" in tab.errors.pop()
    page.get_by_text("Go to the runs").click()
    expect(page.locator("h1")).to_have_text("What ran, and how fast?")


def test_a_study_is_chosen_by_its_link_and_shows_table_and_figures(tab: Tab, served, traces):
    make_study(traces)
    page = tab.open(f"{served}/studies?run=one")
    expect(page.get_by_text("1 not reproduced")).to_be_visible()
    page.get_by_role("link", name="Show table and figures").click()
    page.wait_for_url("**/studies?run=one&study=neo")
    page.wait_for_selector(_MARK)
    expect(page.locator(".ag-row")).to_have_count(2)
    assert page.get_by_text(HOSTILE).count() > 0
