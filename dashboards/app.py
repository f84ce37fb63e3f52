"""The app: `make_app` for any WSGI server, `serve` for this machine. The URL is the only state: it says what to show.

Behind gunicorn, serve the module that says `server = make_app("traces").server`.
"""

import logging
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

import dash
import flask
from dash import ALL, MATCH, ClientsideFunction, Input, Output, State
from dash.exceptions import PreventUpdate
from werkzeug.serving import make_server

from dashboards import shell, view
from dashboards.guard import guarded
from dashboards.pages import PAGES, not_found
from dashboards.runs import RunsFolder
from workbench.errors import InputError

_PAGES = {page.path: page for page in PAGES}


def make_app(traces_dir: Path) -> dash.Dash:
    """An app over the runs in `traces_dir`, with state of its own: a process may hold several.

    InputError when `traces_dir` is there but no folder.
    """
    if Path(traces_dir).exists() and not Path(traces_dir).is_dir():
        raise InputError(f"{traces_dir} is not a folder: give the one that runs are written to")
    app = dash.Dash(
        __name__, title="recsys-workbench", update_title=None, suppress_callback_exceptions=True,
        assets_folder=str(Path(__file__).parent / "assets"),
    )  # fmt: skip
    app.layout = shell.layout()
    folder = RunsFolder(Path(traces_dir))
    _draw_frame(app, folder)
    _draw_answer(app, folder)
    _follow_controls(app)
    _save_tables(app)
    app.server.after_request(_not_found_status)
    return app


def serve(traces_dir: Path, port: int) -> None:
    """Serve on 127.0.0.1 until interrupted; the URL goes to standard error. InputError when `port` is in use."""
    app = make_app(traces_dir)
    # A page elsewhere whose name was made to point here must not read what only this machine is shown.
    app.server.config["TRUSTED_HOSTS"] = ["127.0.0.1", "localhost"]
    try:
        listener = socket.create_server(("127.0.0.1", port))
    except OSError:
        raise InputError(f"port {port} is in use: choose another with --port") from None
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    with listener:
        sys.stderr.write(f"serving {traces_dir} on http://127.0.0.1:{listener.getsockname()[1]}\n")
        sys.stderr.flush()
        make_server("127.0.0.1", port, app.server, threaded=True, fd=listener.fileno()).serve_forever()


def _draw_frame(app: dash.Dash, folder: RunsFolder) -> None:
    """What surrounds the answer follows the URL alone, so that a run which grows disturbs nobody's typing."""

    @app.callback(
        Output("question", "children"), Output("controls", "children"),
        Output("picker", "children"), Output("navigation", "children"),
        Input("url", "pathname"), Input("url", "search"),
        State({"type": "control", "key": ALL, "default": ALL}, "value"),
    )  # fmt: skip
    def draw(path: str, search: str, _values: list) -> tuple:
        page, query = _PAGES.get(path, not_found.page), view.read(search)
        turned = "url.pathname" in dash.ctx.triggered_prop_ids
        controls = (
            page.controls(folder, query) if turned or not _agree(dash.ctx.states_list[0], query) else dash.no_update
        )
        names = [entry.name for entry in folder.entries()]
        chosen = query.get(view.RUN) or next(iter(names), None)
        link = flask.request.host_url.rstrip("/") + path + view.write({**query, view.RUN: chosen} if chosen else query)
        kept = view.write({view.RUN: query[view.RUN]} if view.RUN in query else {})
        picker = shell.picker(names, chosen, view.RUN in query, link)
        return page.question, controls, picker, shell.navigation(PAGES, path, kept)


def _agree(controls: list[dict], query: Mapping[str, str]) -> bool:
    """Whether a page's controls show what the URL says: to draw them anew would interrupt who is typing in one."""
    own = [control for control in controls if control["id"]["key"] != view.RUN]
    shown = [str(control["value"]) == query.get(control["id"]["key"], control["id"]["default"]) for control in own]
    return bool(shown) and all(shown)


def _draw_answer(app: dash.Dash, folder: RunsFolder) -> None:
    """The answer follows the URL and, while a run is running, the clock."""

    @app.callback(
        Output("answer", "children"), Output("subject", "children"),
        Output("refresh", "disabled"), Output("shown", "data"),
        Input("url", "pathname"), Input("url", "search"), Input("refresh", "n_intervals"), State("shown", "data"),
    )  # fmt: skip
    def draw(path: str, search: str, _ticks: int, shown: list | None) -> tuple:
        entries, query = folder.entries(), view.read(search)
        subject = next((entry for entry in entries if query.get(view.RUN, entry.name) == entry.name), None)
        showing = [path, search, *([entry.name, *entry.stamp] for entry in entries)]
        if dash.ctx.triggered_id == "refresh" and (showing == shown or (subject and folder.busy(subject))):
            raise PreventUpdate
        page = _PAGES.get(path, not_found.page)
        answer = guarded(page.answer, folder, query)
        running = any(entry.running for entry in entries)
        return answer, shell.subject(subject) if subject and page.of_run else "", not running, showing


def _follow_controls(app: dash.Dash) -> None:
    """What people choose goes into the URL, and from there everywhere."""

    @app.callback(
        Output("url", "search"),
        Input({"type": "control", "key": ALL, "default": ALL}, "value"),
        Input({"type": "grid", "name": ALL, "chooses": True}, "cellClicked"),
        State("url", "search"), prevent_initial_call=True,
    )  # fmt: skip
    def follow(_values: list, _cells: list, search: str) -> str:
        query = view.read(search)
        # Controls and tables also fire when a page puts them there, with what the URL says or nothing.
        for trigger, source in zip(dash.ctx.triggered, dash.ctx.triggered_prop_ids.values(), strict=True):
            if source["type"] == "control":
                query = view.changed(query, source["key"], trigger["value"], source["default"])
            elif trigger["value"]:
                query = {**query, view.RUN: trigger["value"]["rowId"]}
        if query == view.read(search):
            raise PreventUpdate
        return view.write(query)


def _save_tables(app: dash.Dash) -> None:
    """Tables are in the browser, so it writes their CSV files."""
    app.clientside_callback(
        ClientsideFunction("tables", "saveCsv"), Output({"type": "csv", "name": MATCH}, "title"),
        Input({"type": "csv", "name": MATCH}, "n_clicks"), State({"type": "grid", "name": MATCH, "chooses": ALL}, "id"),
    )  # fmt: skip


def _not_found_status(response: flask.Response) -> flask.Response:
    """Dash answers every path with the same page; where there is none to show, the status says so."""
    if flask.request.endpoint == "/<path:path>" and flask.request.path not in _PAGES:
        response.status_code = 404
    return response
