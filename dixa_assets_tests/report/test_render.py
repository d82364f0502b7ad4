"""The report of a small warehouse: its numbers, its charts, its file."""

from datetime import date, timedelta
from pathlib import Path

import pytest

from dixa_assets.errors import ConfigError
from dixa_assets.model.catalogue import Aggregation, Entry
from dixa_assets.report.charts import Chart, Figure, Values
from dixa_assets.report.formats import brief, human, shown, signed, size
from dixa_assets.report.pages import unit_of
from dixa_assets.report.render import write_report
from dixa_assets.warehouse.settings import WarehouseSettings
from dixa_assets.warehouse.warehouse import Warehouse
from dixa_assets_tests.support.reports import OPTIONS, Reader, rendered
from dixa_assets_tests.support.simulator import NOW


def test_the_report_of_an_empty_warehouse_has_no_figures(warehouse: Warehouse) -> None:
    reader = Reader(rendered(warehouse))
    assert "Nothing is loaded yet" in reader.page("/")
    assert set(reader.pages) == {"/", "/data"}
    assert reader.figures == {}


@pytest.mark.parametrize(
    ("value", "unit", "text", "short"),
    [
        (None, "count", "–", "–"),
        (1204, "count", "1,204", "1,204"),
        (59.5, "count", "59.5", "60"),
        (0, "count", "0", "0"),
        (100, "number", "100", "100"),
        (87.456, "percent", "87.5%", "87.5%"),
        (100.0, "percent", "100%", "100%"),
        (-59.6, "percent", "-59.6%", "-59.6%"),
        (3.14159, "number", "3.14", "3"),
        (0.00123, "number", "0.00123", "0"),
        (310.7, "hours worked", "311 h", "311 h"),
        (8.25, "seconds", "8.2 s", "8 s"),
        (312, "seconds", "5 min 12 s", "5 min"),
        (3599.7, "seconds", "1 h", "1 h"),
        (5_600, "seconds", "1 h 33 min", "1 h 33 min"),
        (4_501_000, "seconds", "1,250 h 17 min", "1,250 h"),
        (312_000, "milliseconds", "5 min 12 s", "5 min"),
        (-90, "minutes", "-1 h 30 min", "-1 h 30 min"),
    ],
)
def test_numbers_have_units(value: float | None, unit: str, text: str, short: str) -> None:
    assert (shown(value, unit), brief(value, unit)) == (text, short)


@pytest.mark.parametrize(
    ("change", "unit", "text", "with_sign"),
    [
        (0.887, "percent", "0.9 points", "+0.9"),
        (-0.04, "percent", "less than 0.1 points", "−0.0"),
        (-310, "seconds", "5 min", "−5 min"),
    ],
)
def test_percentages_differ_by_points(change: float, unit: str, text: str, with_sign: str) -> None:
    assert (size(change, unit), signed(change, unit)) == (text, with_sign)


def test_ids_are_shown_as_words() -> None:
    ids = ("csat", "first_response_time", "sla_met", "_", "Ærø")
    assert [*map(human, ids)] == ["CSAT", "First response time", "SLA met", "_", "Ærø"]


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


def chart(values: Values, unit: str) -> Chart:
    days = [date(2025, 11, 1) + timedelta(days=each) for each in range(len(values))]
    return Chart("any", unit, Figure("any", "", {"value": values}), {"value": "any"}, days)


@pytest.mark.parametrize(
    ("values", "unit", "ticks"),
    [
        ((50, 73), "percent", [0, 25, 50, 75, 100]),
        ((-20, 40), "percent", [-20, 0, 20, 40]),
        ((None, 3), "count", [0, 1, 2, 3]),
        ((0.2, 0.9), "number", [0, 0.5, 1]),
        ((700, 955), "count", [0, 500, 1000]),
        ((60, 2_000), "seconds", [0, 600, 1200, 1800, 2400]),
        ((1, 900_000), "seconds", [0, 360_000, 720_000, 1_080_000]),
        ((None, None), "count", [0, 1]),
    ],
)
def test_an_axis_begins_at_zero_and_has_round_numbers(
    values: Values, unit: str, ticks: list[float]
) -> None:
    assert chart(values, unit).ticks == pytest.approx(ticks)


def test_a_line_has_a_gap_for_an_absent_value_and_a_dot_for_a_single_one() -> None:
    drawn = chart((0, 50, None, 100), "percent")
    (values,) = drawn.series.values()
    assert drawn.line(values) == "M125 1000h0L375 500M875 0h0"
    assert drawn.line(values, [1, 2]) == "M375 500h0"


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
