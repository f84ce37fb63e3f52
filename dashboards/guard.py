"""A part of a page that cannot be shown says why in its place; the rest of the page stays."""

import logging
from collections.abc import Callable

from dash.development.base_component import Component

from dashboards.components import text
from workbench.errors import InputError


def guarded(build: Callable[..., Component], *arguments: object) -> Component:
    """`build(*arguments)`, or its InputError's line; for a defect of ours its kind, with the traceback in the log."""
    try:
        return build(*arguments)
    except InputError as error:
        return text.cannot_show(str(error))
    except Exception as error:
        logging.getLogger("dashboards").exception("a page failed")
        return text.failed(error)
