"""The twenty questions of the documentation, asked of a database like the demo's."""

from collections.abc import Iterator
from datetime import date

import pytest

from dixa_assets.warehouse.warehouse import Warehouse
from dixa_assets_tests.support.marts import Account
from docs import questions

MOST_LINES = 3


@pytest.fixture(scope="module")
def loaded(small: Account, tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    # Two whole weeks, so that a change from the week before can be seen.
    return questions.fill(small, tmp_path_factory.mktemp("questions"), date(2025, 10, 27))


def test_every_question_has_a_query_of_three_lines() -> None:
    page = questions.PAGE.read_text()
    for number in range(1, 21):
        part = page.partition(f"\n### {number}. ")[2].partition("\n### ")[0]
        assert "```sql" in part, number
        assert "\n| " in part, f"{number} has no answer: run python -m docs.questions"
    for query in questions.queries():
        assert len(query.splitlines()) <= MOST_LINES, query


@pytest.mark.parametrize("query", questions.queries(), ids=lambda query: query[:60])
def test_a_question_is_answered_by_the_marts(query: str, loaded: Warehouse) -> None:
    assert set(_schemas(query)) == {"dixa_marts"}
    with loaded.reading() as ask:
        rows = ask(query)
    assert rows
    # No column is empty everywhere.
    assert all(any(value is not None for value in column) for column in zip(*rows, strict=True))


def _schemas(query: str) -> Iterator[str]:
    for word in query.split():
        schema, dot, _ = word.partition(".")
        if dot and schema.startswith("dixa"):
            yield schema


def test_the_page_can_be_written_again(loaded: Warehouse) -> None:
    with loaded.reading() as query:
        page = questions.page(query)
    assert [found[1] for found in questions.BLOCK.findall(page)] == questions.queries()
    assert page.count("\n| --- |") == len(questions.queries())
