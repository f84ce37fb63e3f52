"""What a browser sends to the app and reads of its answers, without a browser."""

import json
from collections.abc import Iterator

import dash


def show(app: dash.Dash, path: str, search: str = "", shown: list | None = None, trigger: str = "url.pathname") -> dict:
    """What the page answers: {component id: {property: value}}; empty when nothing is to be drawn anew."""
    inputs = [_value("url", "pathname", path), _value("url", "search", search), _value("refresh", "n_intervals", 1)]
    return _call(app, "answer.children", inputs, [_value("shown", "data", shown)], [trigger])


def frame(app: dash.Dash, path: str, search: str = "") -> dict:
    """What stands around the answer: {component id: {property: value}}."""
    inputs = [_value("url", "pathname", path), _value("url", "search", search)]
    return _call(app, "controls.children", inputs, [[]], ["url.pathname"])


def navigate(app: dash.Dash, control: dict, value: object, search: str = "") -> str | None:
    """The search of the URL after `control` got `value`; None when it stays as it is."""
    name = json.dumps(control, sort_keys=True, separators=(",", ":"))
    controls, grids = [_value(control, "value", value)], []
    answer = _call(app, "url.search", [controls, grids], [_value("url", "search", search)], [f"{name}.value"])
    return answer["url"]["search"] if answer else None


def texts(component: object) -> Iterator[str]:
    """Every text in a component as the browser gets it."""
    if isinstance(component, str):
        yield component
    elif isinstance(component, dict):
        for value in component.values():
            yield from texts(value)
    elif isinstance(component, list):
        for value in component:
            yield from texts(value)


def components(component: object, kind: str) -> Iterator[dict]:
    """Properties of every component of this type."""
    if isinstance(component, dict):
        if component.get("type") == kind and "props" in component:
            yield component["props"]
        for value in component.values():
            yield from components(value, kind)
    elif isinstance(component, list):
        for value in component:
            yield from components(value, kind)


def _call(app: dash.Dash, output: str, inputs: list, state: list, changed: list[str]) -> dict:
    client = app.server.test_client()
    known = [callback["output"] for callback in client.get("/_dash-dependencies").get_json()]
    name = next(found for found in known if output in found)
    outputs = [dict(zip(("id", "property"), part.rsplit(".", 1), strict=True)) for part in name.strip(".").split("...")]
    outputs = outputs if name.startswith("..") else outputs[0]
    body = {"output": name, "outputs": outputs, "inputs": inputs, "state": state, "changedPropIds": changed}
    answer = client.post("/_dash-update-component", json=body)
    assert answer.status_code in (200, 204), answer.text
    return answer.get_json()["response"] if answer.status_code == 200 else {}


def _value(identity: str | dict, name: str, value: object) -> dict:
    return {"id": identity, "property": name, "value": value}
