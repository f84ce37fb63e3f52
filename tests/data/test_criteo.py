"""Criteo logs in every dress they come in, and every way in which a file can be none."""

import gzip
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.data.criteo import CATEGORIES, COLUMNS, DENSE, HELD_OUT_SHARE, Criteo
from workbench.data.features import Feature
from workbench.data.hashing import derive, uniform
from workbench.errors import InputError

FEATURES = tuple(Feature(name=name, rows=2**40) for name in CATEGORIES)  # so wide that values do not collide

rows = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.lists(st.none() | st.integers(-3, 100_000), min_size=13, max_size=13),
        st.lists(st.none() | st.sampled_from(["05db9164", "68fd1e64", "x", "ä b"]), min_size=26, max_size=26),
    ),
    min_size=1,
    max_size=12,
)
dress = st.fixed_dictionaries(
    {"separator": st.sampled_from("\t,"), "header": st.booleans(), "floats": st.booleans(), "packed": st.booleans()}
)


def write(path: Path, table, separator="\t", header=False, floats=False, packed=False) -> Path:
    """An independent writer: rows of (label, counts, categories) as text."""
    lines = [separator.join(COLUMNS)] if header else []
    for label, counts, categories in table:
        shown = ["" if count is None else f"{float(count)}" if floats else f"{count}" for count in counts]
        lines.append(separator.join([str(label), *shown, *("" if c is None else c for c in categories)]))
    data = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(data) if packed else data)
    return path


def held_out_rows(count: int, seed: int) -> np.ndarray:
    return uniform(derive(derive(seed, 0), np.arange(count))) < HELD_OUT_SHARE


@settings(max_examples=40, deadline=None)
@given(table=rows, dress=dress, seed=st.integers(0, 50))
def test_every_dress_reads_the_same(tmp_path_factory, table, dress, seed):
    path = write(tmp_path_factory.mktemp("criteo") / "log", table, **dress)
    log = Criteo(path, FEATURES, batch_size=1, seed=seed)
    held = held_out_rows(len(table), seed)
    training = [row for row, out in zip(table, held, strict=True) if not out]
    if not training:
        with pytest.raises(InputError, match="none of them to train on"):
            next(log.batches())
        return
    # One epoch and a row of the next: the log starts again at its end.
    batches = list(islice(log.batches(), len(training) + 1))
    id_of = {}
    for batch, (label, counts, categories) in zip(batches, [*training, training[0]], strict=True):
        assert batch.labels.tolist() == [label]
        expected = [0.0 if count is None else np.log1p(max(count, 0)) for count in counts]
        np.testing.assert_allclose(batch.dense[0], expected, rtol=1e-6)
        assert batch.lengths[:, 0].tolist() == [int(value is not None) for value in categories]
        present = [value for value in categories if value is not None]
        for value, found in zip(present, batch.indices.tolist(), strict=True):
            assert id_of.setdefault(value, found) == found and 0 <= found < 2**40
    assert len(set(id_of.values())) == len(id_of)
    assert sum(len(batch) for batch in log.held_out(0, 1, 100)) == held.sum()


def test_ranks_share_every_batch_in_order(tmp_path):
    table = [(i % 2, [i] + [None] * 12, ["v"] * 26) for i in range(40)]
    path = write(tmp_path / "log", table)
    whole = next(Criteo(path, FEATURES, 8, 0).batches())
    parts = [next(Criteo(path, FEATURES, 8, 0).batches(rank, 2)) for rank in range(2)]
    np.testing.assert_array_equal(whole.dense, np.concatenate([part.dense for part in parts]))
    assert [len(part) for part in parts] == [4, 4]


def test_columns_are_found_by_name_in_any_order(tmp_path):
    plain = write(tmp_path / "plain", [(1, list(range(13)), list("abcdefghijklmnopqrstuvwxyz"))], header=True)
    names, values = (line.split("\t") for line in plain.read_text().splitlines())
    turned = tmp_path / "turned"
    turned.write_text("\t".join(["extra", *names[::-1]]) + "\n" + "\t".join(["9", *values[::-1]]) + "\n")
    expected, found = (next(Criteo(path, FEATURES, 1, 0).batches()) for path in (plain, turned))
    np.testing.assert_array_equal(expected.dense, found.dense)
    np.testing.assert_array_equal(expected.indices, found.indices)


def test_values_that_share_an_id_are_within_the_table(tmp_path):
    narrow = tuple(Feature(name=name, rows=3) for name in CATEGORIES)
    table = [(0, [None] * 13, [f"value {i}"] * 26) for i in range(50)]
    batch = next(Criteo(write(tmp_path / "log", table), narrow, 32, 0).batches())
    assert set(batch.indices.tolist()) == {0, 1, 2}


GOOD = "\t".join(["1", *["3"] * 13, *["a"] * 26])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (GOOD.rsplit("\t", 2)[0].encode() + b"\n", "lacks column C25"),
        (GOOD.encode() + b"\tz\n", "has 41 columns"),
        (",".join(name for name in COLUMNS if name != "I7").encode() + b"\n", "lacks column I7"),
        (b"\t".join([b"2", *[b"3"] * 13, *[b"a"] * 26]) + b"\n", "row 1: label 2 is neither"),
        (GOOD.replace("3", "three").encode() + b"\n", "three"),
        (f"{GOOD}\n{GOOD}\tz\n".encode(), "Expected 40 columns"),
        (gzip.compress(f"{GOOD}\n".encode() * 300)[:60], "Truncated compressed stream"),
        (b"\x1f\x8bjunk", "unknown compression method"),
        (b"x" * 5000 + GOOD.encode(), "invalid value 'xxx"),
    ],
)
def test_what_is_no_criteo_log_is_said_in_one_line(tmp_path, content, message):
    path = tmp_path / "log"
    path.write_bytes(content)
    log = Criteo(path, FEATURES, 1, 0)
    with pytest.raises(InputError, match=message) as caught:
        log.check()
        list(islice(log.batches(), 5))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_missing_file():
    with pytest.raises(InputError, match="No such file"):
        Criteo(Path("nowhere.tsv"), FEATURES, 1, 0).check()


def test_the_public_sample(real_data):
    path = real_data / "datasets" / "criteo_sample.txt"
    log = Criteo(path, FEATURES, batch_size=1, seed=0)
    held = sum(len(batch) for batch in log.held_out(0, 1, 1000))
    training = list(islice(log.batches(), 200 - held))
    clicks = sum(batch.labels.sum() for batch in training) + sum(b.labels.sum() for b in log.held_out(0, 1, 1000))
    assert 5 <= held <= 40 and clicks == 49  # counted with cut and sort
    first = path.read_text().splitlines()[1].split(",")
    if not held_out_rows(1, 0)[0]:
        counts = [float(text or 0) for text in first[1 : 1 + len(DENSE)]]
        np.testing.assert_allclose(training[0].dense[0], np.log1p(np.maximum(counts, 0)), rtol=1e-6)
