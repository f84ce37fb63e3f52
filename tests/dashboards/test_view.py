"""The URL holds the view."""

from hypothesis import given
from hypothesis import strategies as st

from dashboards import view

_WORDS = st.dictionaries(st.text(min_size=1), st.text(min_size=1), max_size=4)


@given(_WORDS)
def test_any_view_survives_its_url(query):
    assert view.read(view.write(query)) == query


def test_only_words_of_the_analysis_are_its_options():
    assert view.options({"run": "a", "by": "call", "filter": "x"}) == {"by": "call"}


def test_a_default_needs_no_word():
    query = {"run": "a", "by": "call"}
    assert view.changed(query, "by", "collective", default="collective") == {"run": "a"}
    assert view.changed(query, "by", "rank", default="collective") == {"run": "a", "by": "rank"}
    assert view.changed(query, "by", None, default="collective") == {"run": "a"}
    assert query == {"run": "a", "by": "call"}
