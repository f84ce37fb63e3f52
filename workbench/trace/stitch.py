"""One process of our own run: the recorder's spans and the profiler's windows on one axis, in one Part.

Both count Unix time (they agree to about 0.2 ms), so a profiler event belongs to the span in whose time its middle
lies. Only the main thread's spans place events: a prefetching thread's spans say nothing of what the main thread did.
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from workbench.trace.nesting import parents
from workbench.trace.part import Part, merge
from workbench.trace.schema import repeated

PROFILED = "profiled"
MAIN_LANE = "main/spans"
# A step counts as profiled when a window covers more than this share of it: neighbours touch a window by microseconds.
_TOUCHING_SHARE = 0.01
# What the profiler's files know better than the spans.
_FROM_PROFILE = ("world_size", "backend", "process_groups", "devices", "profiler", "clock")


def stitch(spans: Part, profiles: list[Part]) -> Part:
    """Spans and profiler events of one process, merged.

    Profiler events get the process and rank of the spans, the tag "profiled", the step of the innermost span around
    their middle where they have none, and the phase of the innermost span that has one. Spans of a step that overlaps
    a window get the tag "profiled" too, beside those they have: times in there include the profiler's own cost.
    """
    if not profiles:
        return spans
    placed = [replace(profile, events=_placed(profile.events, spans)) for profile in profiles]
    merged = merge([replace(spans, events=_marked(spans.events, profiles)), *placed])
    known = {key: profiles[0].info[key] for key in _FROM_PROFILE if key in profiles[0].info}
    merged.info = known | spans.info | {"profiles": [profile.info["file"] for profile in profiles]}
    return merged


def _placed(events: pd.DataFrame, spans: Part) -> pd.DataFrame:
    """A profile's events with process, rank, step, phase and tag."""
    events = events.copy(deep=False)
    events["process"] = repeated(spans.info["process"], len(events))
    events["rank"] = np.int32(spans.info["rank"])
    events["tags"] = _tagged(events["tags"], np.ones(len(events), dtype=bool))
    around = spans.events[spans.events["lane"] == MAIN_LANE]

    stepped = around[around["step"] >= 0]
    step, row = events["step"].to_numpy(), _innermost(stepped, events)
    events["step"] = _filled(step, stepped["step"].to_numpy(), row, where=(step < 0) & (row >= 0))

    phased = around[around["phase"] != ""]
    phase, row = events["phase"].astype("object").to_numpy(), _innermost(phased, events)
    phase = _filled(phase, phased["phase"].astype("object").to_numpy(), row, where=row >= 0)
    events["phase"] = pd.Categorical(phase, categories=pd.Index(pd.unique(phase), dtype="str"))
    return events


def _innermost(spans: pd.DataFrame, events: pd.DataFrame) -> np.ndarray:
    """Position [n] of the innermost of `spans` (of one thread) that covers the middle of each event, -1 for none.

    An annotation that is longer than the span (a whole profiler step, in a phase) does not belong to it.
    """
    durations_ns, events_ns = spans["duration_ns"].to_numpy(), events["duration_ns"].to_numpy()
    middles_ns = events["start_ns"].to_numpy() + events_ns // 2
    starts_ns = np.concatenate([spans["start_ns"].to_numpy(), middles_ns])
    lengths_ns = np.concatenate([durations_ns, np.zeros_like(middles_ns)])
    row = parents(np.zeros(len(starts_ns)), starts_ns, lengths_ns)[len(spans) :]
    annotations = np.flatnonzero((row >= 0) & (events["kind"] == "span").to_numpy())
    row[annotations[events_ns[annotations] > durations_ns[row[annotations]]]] = -1
    return row


def _filled(own: np.ndarray, given: np.ndarray, row: np.ndarray, where: np.ndarray) -> np.ndarray:
    """`own` [n] with given[row] in the masked places."""
    filled = own.copy()
    filled[where] = given[row[where]]
    return filled


def _marked(spans: pd.DataFrame, profiles: list[Part]) -> pd.DataFrame:
    """The spans, those of profiled steps tagged so."""
    starts_ns, durations_ns = spans["start_ns"].to_numpy(), spans["duration_ns"].to_numpy()
    overlap_ns = np.zeros(len(spans), dtype=np.int64)
    for profile in profiles:
        first_ns, last_ns = _window(profile.events)
        ends_ns = np.minimum(starts_ns + durations_ns, last_ns)
        overlap_ns += np.maximum(ends_ns - np.maximum(starts_ns, first_ns), 0)
    profiled = (spans["step"].to_numpy() >= 0) & (overlap_ns > _TOUCHING_SHARE * durations_ns)
    return spans.assign(tags=_tagged(spans["tags"], profiled))


def _window(events: pd.DataFrame) -> tuple[int, int]:
    """Start and end of what the profiler recorded: of its steps where it has some, else of all its events."""
    steps = events[events["name"].astype(str).str.startswith("ProfilerStep#") & (events["device"] == "cpu")]
    recorded = steps if len(steps) else events
    if len(recorded) == 0:
        return 0, 0
    return int(recorded["start_ns"].min()), int((recorded["start_ns"] + recorded["duration_ns"]).max())


def _tagged(tags: pd.Series, rows: np.ndarray) -> pd.Categorical:
    """`tags` with "profiled" added in the masked rows."""
    old = list(tags.cat.categories)
    new = [tag if PROFILED in tag.split() else f"{tag} {PROFILED}".strip() for tag in old]
    categories = list(dict.fromkeys(old + new))
    recoded = np.array([categories.index(tag) for tag in new], dtype=np.int32)
    codes = tags.cat.codes.to_numpy()
    return pd.Categorical.from_codes(np.where(rows, recoded[codes], codes), categories)
