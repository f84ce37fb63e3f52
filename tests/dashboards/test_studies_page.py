"""The Studies page: a card a study, and what a chosen one found."""

from browser import components, show, texts
from pages.made_runs import HOSTILE
from pages.made_studies import make_study

from dashboards.app import make_app
from workbench import studies


def test_a_study_without_a_result_says_how_to_make_one(tmp_path):
    page = list(texts(show(make_app(tmp_path), "/studies")["answer"]["children"]))
    for name in studies.names():
        assert studies.question(name) in page
        assert f"workbench study {name} --traces {tmp_path}" in page


def test_a_card_counts_the_verdicts_and_links_to_the_table(tmp_path):
    path = make_study(tmp_path)
    answer = show(make_app(tmp_path), "/studies", "?run=one")
    page = answer["answer"]["children"]
    badges = [badge["children"] for badge in components(page, "Badge")]
    assert badges == ["1 reproduced", "1 not reproduced", "0 inconclusive", "0 not testable here"]
    assert [link["href"] for link in components(page, "Anchor")] == ["/studies?run=one&study=neo"]
    assert any(path.name in line for line in texts(page)) and not list(components(page, "Graph"))
    assert answer["subject"]["children"] == ""


def test_the_chosen_study_shows_its_table_and_curves(tmp_path):
    make_study(tmp_path)
    page = show(make_app(tmp_path), "/studies", "?study=neo")["answer"]["children"]
    (grid,) = components(page, "AgGrid")
    assert [row["quantity"] for row in grid["rowData"]] == ["kept", HOSTILE]
    assert len(list(components(page, "Graph"))) == 1
    assert "a note" in list(texts(page))


def test_a_study_that_is_not_there_is_an_answer_in_one_line(tmp_path):
    make_study(tmp_path)
    page = list(texts(show(make_app(tmp_path), "/studies", "?study=../x")["answer"]["children"]))
    assert any(line.startswith("unknown study with a result '../x': choose one of neo") for line in page)
