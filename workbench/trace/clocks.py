"""How far apart the clocks of a run's processes are, told by the ends of collectives that all ranks leave together."""

import numpy as np
import pandas as pd

# All ranks leave these together, within the last hop: their ends can align clocks.
SYNCHRONISING = ("all_reduce", "all_to_all", "all_gather", "reduce_scatter", "barrier")
# Fewer collectives than this say too little about a clock.
ALIGNING_COLLECTIVES = 3


def clock_offsets(ends: pd.DataFrame, one_clock: bool) -> tuple[pd.Series, float]:
    """ns by which each process's clock is ahead (zero where clocks agree as well as the ends do), and how far the ends
    of one collective still lie apart (95th percentile; NaN without collectives).

    `ends`, a row a process and collective: process, match (the same number on all ranks), end_ns. `one_clock`: the
    processes share a clock, so nothing is aligned.
    """
    processes = ends["process"].unique()
    zero = pd.Series(0.0, index=processes)
    if len(ends) == 0:
        return zero, np.nan
    # Integers until the differences are small: Unix time in ns does not fit a float.
    ahead = ends["end_ns"] - ends.groupby("match")["end_ns"].transform("min")
    ahead = ahead - ahead.groupby(ends["match"]).transform("median")
    offset_ns = ahead.groupby(ends["process"]).median().reindex(processes, fill_value=0.0)
    spread_ns = (ahead - ends["process"].map(offset_ns)).abs().quantile(0.95)
    enough = ends["match"].nunique() >= ALIGNING_COLLECTIVES
    if one_clock or not enough or offset_ns.abs().max() <= spread_ns:
        return zero, float(ahead.abs().quantile(0.95))
    return offset_ns.round(), float(spread_ns)
