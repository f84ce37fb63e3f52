"""A profile and the execution trace of the same run, joined: the one knows when, the other knows every operand.

Calls are matched by the id that the profiler gives them ("Record function id", rf_id in the execution trace). Older
profiles do not write it: then by name, order and shape on each thread, and by name and order without shapes.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd

from workbench.costs.collectives import SEND_RECV
from workbench.errors import InputError
from workbench.trace.align import align
from workbench.trace.part import Part
from workbench.trace.readers import about
from workbench.trace.readers.execution_collectives import Collective
from workbench.trace.readers.execution_trace import NO_TIMES, Execution
from workbench.trace.readers.links import ancestors
from workbench.trace.schema import BYTES_SOURCES, OPERATOR_COLUMNS, splits_frame

BY_ID, BY_SHAPE, BY_NAME = "record function id", "name, order and shape", "name and order"
_NOT_TENSORS = ("", "Scalar", "ScalarList", "TensorList", "GenericList", "Device")
_MOST_LANES = 256
*_, EXECUTION_TRACE = BYTES_SOURCES


@dataclass(frozen=True)
class Linked:
    """`part` is the profile with what the execution trace adds: operand shapes, types and values of matched calls; and
    for their collectives type, process group, group size, message size and splits, where the profile knew none.

    `matches`: node (row of the execution trace's events), event_id (of the profile). `rule` says how calls were
    matched; `node_share` and `operator_share` are the matched shares (0-1) of the execution trace's calls and of the
    profile's host calls; `places` counts where the busiest thread's order fits equally well (0 for ids).
    """

    part: Part
    matches: pd.DataFrame
    rule: str
    node_share: float
    operator_share: float
    places: int


def link(profile: Part, execution: Part) -> Linked:
    """Match the calls of a profile (`kineto.read`) with those of an execution trace (`execution_trace.read`)."""
    known: Execution = execution.info["execution"]
    calls = np.flatnonzero(_host_calls(profile.events, execution.events["name"]))
    rule, places = BY_ID, 0
    nodes, rows = _by_id(profile.events, calls, execution.events)
    if len(nodes) == 0:
        rule = BY_SHAPE if len(profile.operators) and len(execution.operators) else BY_NAME
        nodes, rows, places = _by_order(profile, calls, execution, with_shapes=rule == BY_SHAPE)
    collectives = _collectives(profile.events, nodes, rows, execution.events, known)
    part = _with_collectives(_with_operands(profile, nodes, rows, execution), collectives, execution.info)
    linked = Linked(
        part=part, matches=pd.DataFrame({"node": nodes, "event_id": rows}), rule=rule, places=places,
        node_share=len(nodes) / max(len(execution.events), 1), operator_share=len(rows) / max(len(calls), 1),
    )  # fmt: skip
    told = [note for note in execution.notes if not note.endswith(NO_TIMES)]
    part.notes = [*profile.notes, *told, *_notes(linked)]
    return linked


def link_ranks(profiles: list[Part], executions: list[Part]) -> list[Part]:
    """The profiles, each completed by the execution trace of its rank; one of each belong together whatever their rank.

    InputError where no rank has both.
    """
    by_rank = {part.info["rank"]: part for part in executions}
    if len(profiles) == len(executions) == 1:
        by_rank = {profiles[0].info["rank"]: executions[0]}
    alone = [part.info["rank"] for part in profiles if part.info["rank"] not in by_rank]
    if len(alone) == len(profiles):
        ranks = ", ".join(map(str, sorted(by_rank)))
        raise InputError(f"the execution traces are of ranks {ranks}, and no profile is: give those of the same run")
    linked = [link(part, by_rank[rank]).part if (rank := part.info["rank"]) in by_rank else part for part in profiles]
    if alone:
        linked[0].notes.append(f"no execution trace is here for ranks {', '.join(map(str, alone))}")
    return linked


def _host_calls(events: pd.DataFrame, recorded: pd.Series) -> np.ndarray:
    """Mask [events] of what an execution trace records too: operators and annotations. The calls of the device's
    runtime are none of them, but the autograd engine, also of kind runtime, is, where the `recorded` names have it."""
    threads = [lane for lane in events["lane"].cat.categories if lane.startswith("thread ") and "/" not in lane]
    host = (events["device"] == "cpu") & events["lane"].isin(threads)
    return (host & ((events["kind"] != "runtime") | events["name"].isin(recorded.cat.categories))).to_numpy()


def _by_id(events: pd.DataFrame, calls: np.ndarray, nodes: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """(node, event) rows with the same id and name; none where one of the two has no ids."""
    left = pd.DataFrame({"id": nodes["record_function_id"], "name": nodes["name"].astype(str)})
    right = pd.DataFrame({"id": events["record_function_id"].to_numpy()[calls], "event": calls})
    right["name"] = events["name"].astype(str).to_numpy()[calls]
    left, right = left[left["id"] > 0].rename_axis("node").reset_index(), right[right["id"] > 0]
    pairs = left.drop_duplicates("id").merge(right.drop_duplicates("id"), on=["id", "name"])
    return pairs["node"].to_numpy(), pairs["event"].to_numpy()


def _by_order(
    profile: Part, calls: np.ndarray, execution: Part, with_shapes: bool
) -> tuple[np.ndarray, np.ndarray, int]:
    """(node, event) rows of the same name (and shapes) in the same order on one thread; and at how many places the
    busiest thread's order fits."""
    events, nodes = profile.events.iloc[calls], execution.events
    # Writers that round to microseconds leave ties: the file's order is the order of calls.
    in_order = np.lexsort((events["event_id"], events["start_ns"]))
    calls, events = calls[in_order], events.iloc[in_order]
    texts = [_called(nodes, execution.operators, with_shapes), _called(events, profile.operators, with_shapes)]
    codes, _ = pd.factorize(np.concatenate(texts))
    left, right = codes[: len(nodes)], codes[len(nodes) :]
    found_nodes, found_rows, places = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)], []
    for node_rows, event_rows in _same_thread(left, nodes["lane"], right, events["lane"]):
        position, fits = align(left[node_rows], right[event_rows])
        matched = position >= 0
        found_nodes.append(node_rows[matched])
        found_rows.append(calls[event_rows[position[matched]]])
        places.append(fits)
    return np.concatenate(found_nodes), np.concatenate(found_rows), next(iter(places), 0)


def _called(events: pd.DataFrame, operators: pd.DataFrame, with_shapes: bool) -> np.ndarray:
    """What was called [events], as text that is equal in both records."""
    names = events["name"].astype(str).to_numpy(dtype=object)
    if not with_shapes:
        return names
    shapes = np.array(["", *map(_tensor_shapes, operators["input_dims"], operators["input_types"])], dtype=object)
    return names + shapes[events["operator_id"].to_numpy() + 1]


def _tensor_shapes(dims: str, types: str) -> str:
    """The shapes of the arguments that are tensors; old profiles do not show those in lists."""
    try:
        pairs = zip(msgspec.json.decode(dims or "[]"), msgspec.json.decode(types or "[]"), strict=False)
        return str([shape for shape, kind in pairs if kind not in _NOT_TENSORS])
    except (msgspec.DecodeError, TypeError, RecursionError):
        return ""


def _same_thread(
    left: np.ndarray, left_lanes: pd.Series, right: np.ndarray, right_lanes: pd.Series
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows of each thread in both records, paired by how many calls they have in common, the most first."""
    lefts, rights = _by_lane(left_lanes), _by_lane(right_lanes)
    size = int(max(left.max(initial=0), right.max(initial=0))) + 1
    left_counts = [np.bincount(left[rows], minlength=size) for rows in lefts]
    right_counts = [np.bincount(right[rows], minlength=size) for rows in rights]
    common = np.array([[np.minimum(mine, theirs).sum() for theirs in right_counts] for mine in left_counts])
    common = common.reshape(len(lefts), len(rights))
    pairs = []
    while common.any():
        best = np.unravel_index(common.argmax(), common.shape)
        pairs.append((lefts[best[0]], rights[best[1]]))
        common[best[0], :] = common[:, best[1]] = 0
    return pairs


def _by_lane(lanes: pd.Series) -> list[np.ndarray]:
    """Rows of each lane, the longest lanes first."""
    rows = lanes.reset_index(drop=True).groupby(lanes.to_numpy(), observed=True).indices.values()
    return sorted(rows, key=len, reverse=True)[:_MOST_LANES]


def _collectives(
    events: pd.DataFrame, nodes: np.ndarray, rows: np.ndarray, recorded: pd.DataFrame, known: Execution
) -> dict[int, Collective]:
    """By row, the collective of each communication event of the profile whose call, or a call around it, was matched.

    For a kernel that is the call around its launch. The innermost knows most: the process group, for one.
    """
    node_of = np.full(len(events), -1, dtype=np.int64)
    node_of[rows] = nodes
    parents, launches = events["parent_id"].to_numpy(), events["launch_id"].to_numpy()
    outer = recorded["parent_id"].to_numpy()
    found = {}
    for row in np.flatnonzero((events["kind"] == "communication").to_numpy()).tolist():
        calls = ancestors(int(launches[row]) if launches[row] >= 0 else row, parents)
        around = (node for call in calls for node in ancestors(int(node_of[call]), outer))
        innermost = next((node for node in around if node in known.collectives), None)
        if innermost is not None:
            found[row] = known.collectives[innermost]
    return found


def _with_operands(profile: Part, nodes: np.ndarray, rows: np.ndarray, execution: Part) -> Part:
    """The profile, its matched calls with the operands that the execution trace shows: lists and values too."""
    if len(execution.operators) == 0:
        return profile
    both = pd.concat([profile.operators, execution.operators], ignore_index=True)
    codes, distinct = pd.factorize(pd.MultiIndex.from_frame(both))
    operator = profile.events["operator_id"].to_numpy().copy()
    operator[operator >= 0] = codes[operator[operator >= 0]]
    recorded = execution.events["operator_id"].to_numpy()[nodes]
    operator[rows[recorded >= 0]] = codes[len(profile.operators) :][recorded[recorded >= 0]]
    events = profile.events.assign(operator_id=operator.astype("int32"))
    return replace(profile, events=events, operators=distinct.to_frame(index=False, name=list(OPERATOR_COLUMNS)))


def _with_collectives(part: Part, collectives: dict[int, Collective], recorded: dict) -> Part:
    """The part, with what it did not know of its collectives; `recorded` is what the execution trace says of itself."""
    # Old schemas name a group by a pointer, which differs from rank to rank: only a name that is listed says which.
    listed = part.info.get("process_groups") or recorded["process_groups"]
    part = replace(part, info=part.info | {"process_groups": listed})
    columns = ("collective", "process_group", "bytes_source", "group_size", "message_bytes")
    events = part.events[list(columns)].astype(dict.fromkeys(columns[:3], "object"))
    name, group, source, group_size, size_bytes = (events[column].to_numpy().copy() for column in columns)
    known, gained = set(part.splits["event_id"]), {}
    for row, found in collectives.items():
        name[row] = found.collective if name[row] in ("", SEND_RECV) else name[row]
        group_size[row] = min(found.group_size, 2**31 - 1) if group_size[row] < 1 else group_size[row]
        if not group[row] and found.process_group in {entry["name"] for entry in listed}:
            group[row] = found.process_group
        if found.splits and row not in known and name[row] == found.collective:
            gained[row] = found.splits
        if np.isnan(size_bytes[row]) or (row in gained and found.uneven):
            size_bytes[row] = found.size_bytes(about.position(part.info, group[row], int(group_size[row])))
            source[row] = "" if np.isnan(size_bytes[row]) else EXECUTION_TRACE
    texts = {column: pd.Categorical(values).rename_categories(str)
             for column, values in zip(columns[:3], (name, group, source), strict=True)}  # fmt: skip
    events = part.events.assign(group_size=group_size, message_bytes=size_bytes, **texts)
    splits = splits_frame(list(gained), *zip(*gained.values(), strict=True)) if gained else part.splits[:0]
    return replace(part, events=events, splits=pd.concat([part.splits, splits], ignore_index=True))


def _notes(linked: Linked) -> list[str]:
    file = Path(linked.part.info["file"]).name
    notes = [
        f"{file}: execution trace linked by {linked.rule}: {100 * linked.node_share:.1f} % of its calls and "
        f"{100 * linked.operator_share:.1f} % of the profile's found each other"
    ]
    if linked.places > 1:
        notes.append(
            f"{file}: the execution trace fits the profile at {linked.places} places equally well; the first was "
            "taken: its sizes hold for others as far as steps are alike"
        )
    return notes
