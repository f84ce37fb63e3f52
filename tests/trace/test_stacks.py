"""Collapsed stacks and speedscope profiles: by hand, in a round trip, damaged."""

import json

import pytest
from damaged import mutated_bytes, mutated_values, survives
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import InputError
from workbench.trace.readers import stacks
from workbench.trace.schema import STACK_COLUMNS


def table(part):
    """Stack -> (weight, unit)."""
    rows = part.stacks.itertuples(index=False)
    assert {column: str(dtype) for column, dtype in part.stacks.dtypes.items()} == STACK_COLUMNS
    assert len(part.events) == 0
    return {row.stack: (row.weight, row.unit) for row in rows}


def collapsed(tmp_path, text):
    path = tmp_path / "stacks.txt"
    path.write_bytes(text.encode())
    return stacks.read_collapsed(path)


def speedscope(tmp_path, *profiles, frames=("main", "step", "wait"), content=None):
    path = tmp_path / "profile.json"
    shared = {"frames": [frame if isinstance(frame, dict) else {"name": frame} for frame in frames]}
    document = {"$schema": "https://www.speedscope.app/file-format-schema.json", "shared": shared, "profiles": profiles}
    path.write_bytes(json.dumps(document).encode() if content is None else content)
    return stacks.read_speedscope(path)


def edges(*steps):
    return [{"type": kind, "at": at, "frame": frame} for kind, at, frame in steps]


def test_collapsed_by_hand(tmp_path):
    part = collapsed(
        tmp_path, "main (a.py:3);step loop 12\n\nmain (a.py:3) 3\r\nmain (a.py:3);step loop 1.5\nno weight\n"
    )
    assert table(part) == {"main (a.py:3);step loop": (13.5, "samples"), "main (a.py:3)": (3.0, "samples")}
    assert part.notes == ["stacks.txt: left out 1 lines that are no stacks"]


def test_collapsed_threads_as_py_spy_writes_them(tmp_path):
    """With --subprocesses the command, quoted; with --threads an id, and a name if there is one yet."""
    part = collapsed(
        tmp_path,
        'process 7:"python -c a; b(\'c\')";process 9:"python d.py";thread (0x1F): Main Thread;f (a.py:1);g (a.py:2) 5\n'
        "thread (12);f (a.py:1) 2\nthread (12): loader;f (a.py:1) 3\nthread (12): loader 1\nthread_run (libpython) 4\n",
    )
    assert part.stacks[["thread", "stack", "samples"]].values.tolist() == [
        ["process 7 process 9 thread 0x1F Main Thread", "f (a.py:1);g (a.py:2)", 5],
        ["thread 12", "f (a.py:1)", 2], ["thread 12 loader", "f (a.py:1)", 3], ["", "thread_run (libpython)", 4],
    ]  # fmt: skip
    assert part.notes == ["stacks.txt: left out 1 lines that are no stacks"]


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.lists(st.from_regex(r"[a-z<>. ():0-9]*[a-z]", fullmatch=True), min_size=1, max_size=4)
                       .map(";".join).map(str.strip), st.integers(0, 10**12), min_size=1, max_size=8))  # fmt: skip
def test_round_trip_of_collapsed_stacks(tmp_path_factory, expected):
    text = "".join(f"{stack} {weight}\n" for stack, weight in expected.items())
    found = table(collapsed(tmp_path_factory.mktemp("stacks"), text))
    assert found == {stack: (float(weight), "samples") for stack, weight in expected.items()}


def test_sampled_speedscope(tmp_path):
    profile = {
        "type": "sampled",
        "unit": "milliseconds",
        "samples": [[0], [0, 1], [], [0, 1]],
        "weights": [1, 0.5, 9, 2],
    }
    frames = [{"name": "main", "file": "a.py", "line": 3}, {"name": "a;b", "file": "b.py"}]
    part = speedscope(tmp_path, {**profile, "startValue": 0, "endValue": 3}, frames=frames)
    assert table(part) == {"main (a.py:3)": (1e6, "ns"), "main (a.py:3);a,b (b.py)": (2.5e6, "ns")}


def test_speedscope_counts_samples_by_thread(tmp_path):
    seconds = {"type": "sampled", "unit": "seconds", "samples": [[0], [0, 1], [0]], "weights": [0.01, 0.01, 0.02]}
    evented = {"type": "evented", "unit": "seconds", "endValue": 9, "events": edges(("O", 1, 0))}
    part = speedscope(
        tmp_path, seconds | {"name": 'Thread 7 ""'}, seconds | {"name": 'Thread 8 "load"', "unit": "none"},
        evented | {"name": "Thread 9"},
    )  # fmt: skip
    rows = part.stacks[["thread", "stack", "samples", "weight", "unit"]].fillna({"samples": -1}).values.tolist()
    assert rows == [
        ["Thread 7", "main", 2, pytest.approx(3e7), "ns"], ["Thread 7", "main;step", 1, 1e7, "ns"],
        ['Thread 8 "load"', "main", 0.03, 0.03, "samples"], ['Thread 8 "load"', "main;step", 0.01, 0.01, "samples"],
        ["Thread 9", "main", -1, 8e9, "ns"],
    ]  # fmt: skip


def test_evented_speedscope(tmp_path):
    """A stack weighs the time for which it was the whole stack; what stays open ends with the profile."""
    events = edges(("O", 1, 0), ("O", 3, 1), ("C", 4, 1), ("O", 6, 2))
    part = speedscope(tmp_path, {"type": "evented", "unit": "none", "startValue": 0, "endValue": 10, "events": events})
    assert table(part) == {"main": (4.0, "samples"), "main;step": (1.0, "samples"), "main;wait": (4.0, "samples")}


def test_threads_are_added_and_units_kept_apart(tmp_path):
    one = {"type": "sampled", "unit": "seconds", "samples": [[0]], "weights": [1]}
    part = speedscope(tmp_path, one, one, one | {"unit": "bytes", "samples": [[1]]})
    assert table(part) == {"main": (2e9, "ns"), "step": (1.0, "bytes")}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.lists(st.integers(0, 2), max_size=5), st.integers(1, 100)), max_size=10))
def test_evented_equals_sampled(tmp_path_factory, samples):
    """The same samples, written as frames that open and close."""
    events, now = [], 0
    for sample, weight in samples:
        events += [{"type": "O", "at": now, "frame": frame} for frame in sample]
        now += weight
        events += [{"type": "C", "at": now, "frame": frame} for frame in reversed(sample)]
    folder = tmp_path_factory.mktemp("speedscope")
    sampled = {"type": "sampled", "samples": [s for s, _ in samples], "weights": [weight for _, weight in samples]}
    assert table(speedscope(folder, {"type": "evented", "endValue": now, "events": events})) == table(
        speedscope(folder, sampled)
    )


@pytest.mark.parametrize(
    ("profile", "says"),
    [
        ({"type": "sampled", "samples": [[0]], "weights": []}, "profile 0: 1 samples have 0 weights"),
        ({"type": "sampled", "samples": [[9]], "weights": [1]}, "names frame 9 of 3"),
        ({"type": "sampled", "samples": [[0]], "weights": [-1]}, "weights"),
        ({"type": "other", "samples": []}, "type"),
        ({"type": "evented", "endValue": 9, "events": edges(("C", 1, 0))}, "not the innermost"),
        ({"type": "evented", "endValue": 9, "events": edges(("O", 5, 0), ("O", 1, 1))}, "at 1 follows one at 5"),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_refused(tmp_path, profile, says):
    with pytest.raises(InputError, match=says) as refusal:
        speedscope(tmp_path, profile)
    assert "\n" not in str(refusal.value) and "speedscope" in str(refusal.value)


def test_stacks_too_deep_for_text_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(stacks, "_LIMIT_CHARACTERS", 1000)
    deep = {"type": "sampled", "samples": [[0] * depth for depth in range(1, 40)], "weights": [1] * 39}
    with pytest.raises(InputError, match="deeper than can be shown"):
        speedscope(tmp_path, deep)


def test_text_without_a_stack_is_refused(tmp_path):
    for text in ("hello\nworld\n", "12\n", " 12"):
        with pytest.raises(InputError, match="holds no stack"):
            collapsed(tmp_path, text)
    with pytest.raises(InputError, match="is empty"):
        collapsed(tmp_path, "\n")


def test_damage_of_any_kind_is_repaired_or_refused(tmp_path):
    shared = {"frames": [{"name": "a", "file": "x.py", "line": 3}, {"name": "b"}]}
    profiles = [
        {"type": "sampled", "unit": "seconds", "samples": [[0], [0, 1]], "weights": [0.5, 1]},
        {"type": "evented", "unit": "none", "endValue": 10, "events": edges(("O", 1, 0), ("C", 9, 0))},
    ]
    whole = {"$schema": "https://www.speedscope.app/file-format-schema.json", "shared": shared, "profiles": profiles}
    contents = [*mutated_bytes(json.dumps(whole).encode(), 60), *mutated_values(whole, 60)]
    parts = [survives(stacks.read_speedscope, tmp_path / "profile.json", content) for content in contents]
    assert any(part is None for part in parts) and sum(part is not None for part in parts) > 10
    lines = b"main (a.py:3);b c (x.py:1) 12\nmain (a.py:3) 3\n\nfoo;bar 1.5\n"
    parts = [survives(stacks.read_collapsed, tmp_path / "stacks.txt", content) for content in mutated_bytes(lines, 50)]
    assert sum(part is not None for part in parts) > 25
