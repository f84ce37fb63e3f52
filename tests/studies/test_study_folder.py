"""What a study leaves behind: complete, stopped in the middle, failed; and reading it back."""

import importlib
import json

import pytest

from workbench import studies
from workbench.errors import InputError
from workbench.studies.core.curves import Curve
from workbench.studies.core.facts import Fact
from workbench.studies.core.folder import latest, read, writing
from workbench.studies.core.quantities import Quantity, row
from workbench.studies.core.result import make_result

QUANTITY = Quantity(name="<b>share</b>", unit="1", scale_free=True, fact=Fact("<i>kept</i>", "src"))
CURVE = Curve(title="t", x="W", y="y", source="modelled", table=[{"W": 8, "y": 1.5}])


def result(rows: int, name: str = "neo"):
    return make_result(name, "Why?", "tiny", 2, [row(QUANTITY, [0.5], "modelled")] * rows, [CURVE], ["a note"])


def test_a_study_is_written_whole(tmp_path):
    with writing(tmp_path, "neo", "tiny") as (path, write):
        write(result(1))
    assert path.name.startswith("study-neo-tiny-")
    saved = json.loads((path / "study.json").read_text())
    assert (saved["status"], saved["rows"][0]["ours"], saved["curves"][0]["table"]) == (
        "complete", 0.5, [{"W": 8, "y": 1.5}],
    )  # fmt: skip
    assert saved["host"]["cores"] > 0 and saved["end_ns"] >= saved["start_ns"]
    assert (path / "table.csv").read_text().splitlines()[0].startswith("quantity,ours,low,high,unit,source,paper,tag")
    page = (path / "index.html").read_text()
    assert "Plotly.newPlot" in page and "<script src" not in page and "<link" not in page
    assert "&lt;i&gt;kept&lt;/i&gt;" in page and "<i>kept" not in page and "a note" in page


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, "interrupted"), (OSError, "failed")])
def test_a_stopped_study_keeps_what_is_done(tmp_path, error, status):
    with pytest.raises(error), writing(tmp_path, "neo", "tiny") as (path, write):
        write(result(0))
        write(result(1))
        assert json.loads((path / "study.json").read_text())["status"] == "running"
        raise error
    written = read(path)
    assert (written.status, len(written.result.table)) == (status, 1)


def test_the_latest_of_each_study(tmp_path):
    for rows, name in ((1, "neo"), (2, "neo"), (1, "other")):
        with writing(tmp_path, name, "tiny") as (_, write):
            write(result(rows, name))
    broken = tmp_path / "study-broken"
    broken.mkdir()
    (broken / "study.json").write_text('{"name": 3}')
    found = latest(tmp_path)
    assert {name: len(written.result.table) for name, written in found.items()} == {"neo": 2, "other": 1}
    with pytest.raises(InputError, match=r"study-broken/study\.json is not a study's result"):
        read(broken)
    with pytest.raises(InputError, match="is not a study's folder"):
        read(tmp_path)
    assert latest(tmp_path / "nowhere") == {}


def test_links_out_of_the_folder_are_left_out(tmp_path):
    with writing(tmp_path / "elsewhere", "neo", "tiny") as (path, write):
        write(result(1))
    inside = tmp_path / "traces"
    inside.mkdir()
    (inside / "study-linked").symlink_to(path)
    assert latest(inside) == {}


def test_every_study_says_how_many_seeds_it_needs(tmp_path, monkeypatch):
    asked = []

    def neo(scale, seeds, progress):
        asked.append(seeds)

    for name in studies.names():
        module = importlib.import_module(f"workbench.studies.{name}")
        assert module.SEEDS >= 3
    neo.__module__ = "workbench.studies.neo"
    monkeypatch.setattr("workbench.studies.neo.neo", neo)
    for seeds in (None, 2):
        studies.run("neo", "tiny", seeds, tmp_path, lambda text, share: None)
    assert asked == [5, 2]


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write runs into"):
        studies.run("neo", "tiny", 1, tmp_path / "file", lambda text, share: None)
