"""The events around an event: the nearest one of a kind."""

import numpy as np


def nearest(rows: np.ndarray, parents: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Each of `rows` [n], or its nearest ancestor, that is `wanted` [events]; -1 for none.

    `parents` [events] are rows, -1 for none. A pass over the unanswered rows a level: meant for some of the events.
    """
    wanted = np.append(wanted, True)  # row -1 goes no further
    while (up := ~wanted[rows]).any():
        rows = np.where(up, parents[rows], rows)
    return rows
