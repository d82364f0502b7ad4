"""The tables of benchmarks: their form, and that the pages have all rows."""

from pathlib import Path

import pytest

from dixa_assets_tests.bench.cases import PAGES
from dixa_assets_tests.bench.table import BEGIN, END, Case, Found, Row, line, put_between_marks
from dixa_assets_tests.support.processes import PROJECT

ROW = Row("Speed", "≤", 1.1)


def test_the_table_replaces_only_what_is_between_the_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    put_between_marks(page, ["| a row |", r"a \note"])
    assert page.read_text() == (f"before\n{BEGIN}\n\n| a row |\n\na \\note\n\n{END}\nafter\n")


def test_a_page_without_marks_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("no marks")
    with pytest.raises(AssertionError, match="page.md"):
        put_between_marks(page, ["| a row |"])
    assert page.read_text() == "no marks"


def test_a_row_has_the_median_and_the_spread_and_says_when_the_target_is_missed() -> None:
    found = Found("2 s", "1 s", values=[1.0, 1.3, 1.2])
    assert line(ROW, found) == "| Speed | 2 s | 1 s |  | 1.20 (1.00–1.30) **missed** | ≤ 1.10 |"
    assert line(ROW, Found(values=[1.05])) == "| Speed |  |  |  | 1.05 ✓ | ≤ 1.10 |"
    assert "missed" in line(ROW, Found(values=[1.05], flawless=False))
    assert line(ROW, found, quick=True) == "| Speed | 2 s | 1 s |  | 1.20 (1.00–1.30) |  |"


@pytest.mark.parametrize(("page", "cases"), PAGES.items())
def test_a_page_has_a_row_with_its_target_for_every_case(
    page: str, cases: tuple[Case, ...]
) -> None:
    text = (PROJECT / "docs" / f"{page}.md").read_text()
    table = [one.split("|") for one in text.partition(BEGIN)[2].partition(END)[0].splitlines()]
    rows = {cells[1].strip(): cells[6].strip() for cells in table if len(cells) == 8}
    for row in (row for case in cases for row in case.rows):
        assert rows.get(row.title) == row.target


def test_every_case_has_a_name_of_its_own() -> None:
    names = [case.name for cases in PAGES.values() for case in cases]
    assert len(names) == len(set(names))
