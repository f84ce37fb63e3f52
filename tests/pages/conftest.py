"""One browser and one served app for all page tests."""

import logging
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pages.made_runs import HOSTILE, SERVING, make_run, make_serving_run
from playwright.sync_api import BrowserContext, Page, expect, sync_playwright
from werkzeug.serving import make_server

from dashboards.app import make_app

_ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run",
]  # fmt: skip


# A busy machine is slow, which is no failure.
expect.set_options(timeout=20_000)


@pytest.fixture(scope="session")
def browser() -> Iterator[BrowserContext]:
    """Headless Chromium, or skip. Tabs share its cache of scripts, which are the slowest part of a page."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("the page tests need a browser: no `chromium` on PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=_ARGUMENTS)
        yield browser.new_context(viewport={"width": 1440, "height": 900})
        browser.close()


@pytest.fixture(scope="session")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four runs: `two` is the newest, SERVING the oldest."""
    folder = tmp_path_factory.mktemp("traces")
    make_serving_run(folder, SERVING)
    make_run(folder, HOSTILE, operator=HOSTILE)
    make_run(folder, "one")
    make_run(folder, "two")
    return folder


@pytest.fixture(scope="session")
def served(traces: Path) -> Iterator[str]:
    """Address of an app over `traces`."""
    yield from _serve(traces)


@pytest.fixture(scope="session")
def served_empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of an app over a folder without runs."""
    yield from _serve(tmp_path_factory.mktemp("empty"))


@pytest.fixture
def served_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of an app over `tmp_path`, whose clock ticks fast."""
    monkeypatch.setattr("dashboards.shell.REFRESH_MS", 300)
    yield from _serve(tmp_path)


@dataclass
class Tab:
    """A browser tab, and what went wrong in it."""

    page: Page
    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def open(self, address: str) -> Page:
        """Go to `address` and wait for the page's answer."""
        self.page.goto(address)
        self.page.wait_for_selector("#answer > *", state="attached")
        return self.page


@pytest.fixture
def tab(browser: BrowserContext) -> Iterator[Tab]:
    """A fresh tab; at its end it must have seen no error and asked no other host."""
    page = browser.new_page()
    tab = Tab(page)
    page.on("console", lambda message: tab.errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: tab.errors.append(str(error)))
    page.on("dialog", lambda dialog: (tab.errors.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda request: tab.foreign.append(request.url) if _foreign(request.url) else None)
    yield tab
    page.close()
    assert tab.errors == []
    assert tab.foreign == []


def _foreign(url: str) -> bool:
    return not url.startswith(("http://127.0.0.1:", "data:", "blob:"))


def _serve(traces: Path) -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = make_server("127.0.0.1", 0, make_app(traces).server, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
