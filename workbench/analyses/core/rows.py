"""Rows of the events table: by id, by tag, by kind of lane, by the operator that launched them."""

import numpy as np
import pandas as pd

from workbench.analyses.core.ancestors import nearest

# What a host operator may be: a launch inside none of these belongs to nobody.
OPERATOR_KINDS = ("compute", "memory", "communication")
SPAN_LANE = "/spans"
# Whose time is that during which no operator was open.
NO_OPERATOR = "(no operator)"


def positions(events: pd.DataFrame, ids: np.ndarray) -> np.ndarray:
    """Row [n] of each event id [n]; -1 where the id is -1 or not there."""
    known = events["event_id"].to_numpy()
    # Readers number events as they stand: then an id is a row, and no index of millions of ids need be made.
    if len(known) and known[0] == 0 and known[-1] == len(known) - 1 and (np.diff(known) > 0).all():
        return np.where((ids >= 0) & (ids < len(known)), ids, -1)
    return pd.Index(known).get_indexer(ids)


def tagged(events: pd.DataFrame, tag: str) -> np.ndarray:
    """Mask [events] of those that carry `tag` among their space-separated tags."""
    return of_category(events["tags"], lambda tags: tag in tags.split())


def recorded(events: pd.DataFrame) -> np.ndarray:
    """Mask [events] of a recorder's own spans (lane `<thread>/spans`); the others come from a profiler."""
    return of_category(events["lane"], lambda lane: lane.endswith(SPAN_LANE))


def of_request(events: pd.DataFrame) -> np.ndarray:
    """Mask [events] of spans that belong to a distributed request."""
    return of_category(events["trace"], bool)


def of_category(column: pd.Series, wanted) -> np.ndarray:
    """Mask [rows] of a categorical column where `wanted(text)` holds; asked once a category."""
    answers = np.array([wanted(str(value)) for value in column.cat.categories.tolist()], dtype=bool)
    if not answers.any():
        return np.zeros(len(column), dtype=bool)
    return np.append(answers, False)[column.cat.codes]


def weakest_source(events: pd.DataFrame) -> str:
    """measured, modelled or simulated: the least sure that any of them is (which is the order of the alphabet)."""
    source = events["source"].cat
    return max(
        (str(word) for code, word in enumerate(source.categories) if (source.codes == code).any()), default="measured"
    )


def launching_operators(events: pd.DataFrame, rows: np.ndarray) -> np.ndarray:
    """Row [n] of the innermost host operator around the launch of each event (row) [n]; -1 where there is none.

    A device event names the runtime call that launched it; the operator is that call's nearest ancestor which is no
    runtime call or annotation.
    """
    launches = events["launch_id"].to_numpy()[rows]
    if (launches < 0).all():  # all of a trace without a device
        return np.full(len(rows), -1)
    is_operator = events["kind"].isin(OPERATOR_KINDS).to_numpy()
    parents = positions(events, events["parent_id"].to_numpy())
    return nearest(positions(events, launches), parents, is_operator)
