"""The report of a small warehouse: its checks, its numbers, its file."""

from datetime import date, timedelta
from pathlib import Path

import pytest

from dixa_assets.errors import ConfigError
from dixa_assets.model.catalogue import Aggregation, Entry
from dixa_assets.report.contents import Latest
from dixa_assets.report.gather import unit_of
from dixa_assets.report.render import difference, shown, write_report
from dixa_assets.warehouse.settings import WarehouseSettings
from dixa_assets.warehouse.warehouse import Warehouse
from dixa_assets_tests.support.reports import OPTIONS, Reader, rendered
from dixa_assets_tests.support.simulator import NOW


def test_the_report_of_an_empty_warehouse_has_no_pages(warehouse: Warehouse) -> None:
    reader = Reader(rendered(warehouse))
    assert "Nothing is loaded yet" in reader.page("/")
    assert reader.data["pages"] == {}


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1204, "count", "1,204"),
        (59.5, "count", "59.5"),
        (0, "count", "0"),
        (100, "number", "100"),
        (87.456, "percent", "87.5%"),
        (100.0, "percent", "100%"),
        (-59.6, "percent", "-59.6%"),
        (3.14159, "number", "3.14"),
        (0.00123, "number", "0.00123"),
        (8.25, "seconds", "8.2 s"),
        (312, "seconds", "5 min 12 s"),
        (3599.7, "seconds", "1 h 00 min"),
        (4_500_000, "seconds", "1,250 h 00 min"),
        (312_000, "milliseconds", "5 min 12 s"),
        (-90, "minutes", "-1 h 30 min"),
    ],
)
def test_numbers_have_units(value: float, unit: str, text: str) -> None:
    assert shown(value, unit) == text


@pytest.mark.parametrize(
    ("value", "usual", "text"),
    [
        (88.0, 87.113, "0.9 points above"),
        (88.0, 88.04, "less than 0.1 points below"),
        (88.0, 88.0, "the same"),
        (88.0, None, ""),
    ],
)
def test_a_difference_of_percentages_is_in_tenths_of_a_point(
    value: float, usual: float | None, text: str
) -> None:
    latest = Latest("Percentage", "", "percent", date(2025, 11, 9), value, usual, 2)
    assert difference(latest) == text


@pytest.mark.parametrize(
    ("measure", "description", "unit"),
    [
        ("Average", "Seconds from creation to an agent's first reply", "seconds"),
        ("Average", "Handling time in milliseconds", "milliseconds"),
        ("Sum", "Time online (hours)", "hours"),
        ("Count", "Seconds from creation to an agent's first reply", "count"),
        ("Percentage", "Share answered in seconds", "percent"),
        ("Average", "Words per message", "number"),
        ("Sum", "Conversations opened in hours nobody works", "number"),
    ],
)
def test_a_unit_comes_from_the_descriptions(measure: str, description: str, unit: str) -> None:
    entry = Entry("metric", "any", "any", description, aggregations=(Aggregation(measure),))
    assert unit_of(entry, measure) == unit


def test_a_report_is_replaced_as_a_whole_or_stays_as_it_was(
    warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "folder" / "report.html"
    write_report(warehouse, path, options=OPTIONS, now=NOW)
    before = path.read_bytes()

    def refuse(*_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr("dixa_assets.files.os.replace", refuse)
    with pytest.raises(ConfigError, match="^report_path: .*no space"):
        write_report(warehouse, path, options=OPTIONS, now=NOW + timedelta(days=1))
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_the_database_is_free_while_the_file_is_written(
    warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Warehouse(warehouse.path, WarehouseSettings(database_wait_seconds=0.2))

    def made(_: object) -> str:
        return str(other.query("SELECT 42 AS n").n[0])

    monkeypatch.setattr("dixa_assets.report.render._to_html", made)
    write_report(warehouse, tmp_path / "report.html", options=OPTIONS, now=NOW)
    assert (tmp_path / "report.html").read_text() == "42"
