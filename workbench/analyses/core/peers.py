"""How far apart the ranks of a group are, and who sends how much to whom.

Bytes are counted once, at their sender.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from workbench.trace.run import Run

SAME_PROCESS, SAME_HOST, OTHER_HOST, UNKNOWN_LINK = "same process", "same host", "other host", "unknown"


def hosts_of(run: Run) -> dict[int, str]:
    """Host by rank, of the ranks whose host the run tells."""
    return {part["rank"]: part["host"] for part in run.parts if part.get("host") and "rank" in part}


def farthest_link(ranks: tuple[int, ...], hosts: Mapping[int, str]) -> str:
    """The link that a message among `ranks` may have to take; an empty tuple stands for unknown ranks."""
    names = {hosts.get(rank) for rank in ranks}
    if len(set(ranks)) == 1:
        return SAME_PROCESS
    if not names or None in names:
        return UNKNOWN_LINK
    return SAME_HOST if len(names) == 1 else OTHER_HOST


def matrix(calls: pd.DataFrame, hosts: Mapping[int, str]) -> pd.DataFrame:
    """Bytes from each rank to each other (and itself) in the all-to-alls of `calls` (see `collectives`) whose splits
    and ranks are known: from_rank, to_rank, link, calls, bytes, source."""
    known = calls[calls["sent_bytes"].map(np.size, na_action="ignore") == calls["members"].map(len)]
    sizes = known["members"].map(len).to_numpy(dtype=np.int64)
    pairs = known[["rank", "source"]].loc[known.index.repeat(sizes)].reset_index(drop=True)
    pairs["to_rank"] = np.concatenate([np.empty(0, np.int64), *known["members"]])
    pairs["bytes"] = np.concatenate([np.empty(0), *known["sent_bytes"]])
    groups = pairs.rename(columns={"rank": "from_rank"}).groupby(["from_rank", "to_rank"], as_index=False)
    rows = groups.agg(calls=("bytes", "size"), bytes=("bytes", "sum"), source=("source", "max"))
    links = [farthest_link(pair, hosts) for pair in zip(rows["from_rank"], rows["to_rank"], strict=True)]
    rows.insert(2, "link", pd.Series(links, dtype="str"))
    return rows
