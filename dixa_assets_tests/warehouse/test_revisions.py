"""Totals that a reload changed."""

from collections.abc import Sequence
from datetime import date
from typing import Any

import pytest

from dixa_assets.errors import WarehouseError
from dixa_assets.marts.builder import Marts
from dixa_assets.model.catalogue import Entry
from dixa_assets.model.days import Day
from dixa_assets.model.tables import METRIC_VALUES, relation_of
from dixa_assets.staging import Staged
from dixa_assets.warehouse.warehouse import Warehouse
from dixa_assets_tests.support.handmade import DAYS, integers, load, load_metric, of_day, record
from dixa_assets_tests.support.simulator import COPENHAGEN

FIRST, SECOND = DAYS[1], DAYS[2]


def revisions(warehouse: Warehouse) -> list[tuple[Any, ...]]:
    with warehouse.reading() as query:
        found = query(
            "SELECT metric, partition_date::VARCHAR, measure, status, old_value, new_value "
            "FROM dixa_catalogue.revisions ORDER BY new_loaded_at, measure, status"
        )
    return [tuple(row) for row in found]


def load_rows(warehouse: Warehouse, days: Sequence[str], *rows: dict[str, Any]) -> None:
    """Replace days of the metric csat; rows without a date belong to the first day."""
    relation = relation_of(Entry("metric", "csat", "csat", "A metric."))
    with warehouse.staging() as folder:
        loads = []
        for number, day in enumerate(days):
            staged = Staged(folder / f"{number}.jsonl", METRIC_VALUES)
            period = Day.of(date.fromisoformat(day), COPENHAGEN).period
            for row in rows:
                if row.get("partition_date", days[0]) == day:
                    own = {"metric": "csat", "partition_date": day, "timezone": COPENHAGEN}
                    own |= {"interval_start": period.start.isoformat()}
                    own |= {"interval_end": period.end.isoformat()}
                    staged.add_row(own | row)
            staged.close()
            loads.append(of_day(day, staged))
        warehouse.replace(relation, loads)


def test_a_first_load_and_an_equal_reload_change_nothing(warehouse: Warehouse) -> None:
    load_metric(warehouse, "csat", FIRST, [80.0])
    load_metric(warehouse, "csat", SECOND, [70.0])
    load_metric(warehouse, "csat", FIRST, [80.0])
    # Dixa computed the last digits otherwise.
    load_metric(warehouse, "csat", FIRST, [80.0 + 1e-12])
    assert revisions(warehouse) == []


def test_a_changed_total_is_kept_with_both_load_times(warehouse: Warehouse) -> None:
    load_metric(warehouse, "csat", FIRST, [80.0])
    load_metric(warehouse, "csat", FIRST, [75.0])
    load_metric(warehouse, "csat", FIRST, [70.0])
    assert revisions(warehouse) == [
        ("csat", FIRST, "Count", None, 80.0, 75.0),
        ("csat", FIRST, "Count", None, 75.0, 70.0),
    ]
    with warehouse.reading() as query:
        first, second = query("FROM dixa_catalogue.revisions ORDER BY new_loaded_at")
        (log,) = query("SELECT loaded_at, run_id FROM dixa_catalogue.loads")
    assert first.old_loaded_at < first.new_loaded_at == second.old_loaded_at
    assert (second.new_loaded_at, second.run_id) == (log.loaded_at, log.run_id)


def test_a_total_that_appears_or_disappears_is_a_change(warehouse: Warehouse) -> None:
    load_metric(warehouse, "csat", FIRST, [])
    load_metric(warehouse, "csat", FIRST, [5.0])
    load_metric(warehouse, "csat", FIRST, [])
    assert [row[4:] for row in revisions(warehouse)] == [(None, 5.0), (5.0, None)]


def test_values_without_a_load_are_replaced_without_a_revision(warehouse: Warehouse) -> None:
    load_metric(warehouse, "csat", FIRST, [80.0])
    load_metric(warehouse, "csat", SECOND, [70.0])
    with warehouse.changing() as connection:
        connection.execute("DELETE FROM dixa_catalogue.loads WHERE partition_date = ?", [SECOND])
    second = {"partition_date": SECOND, "measure": "Count", "value": 71.0}
    load_rows(warehouse, [FIRST, SECOND], {"measure": "Count", "value": 81.0}, second)
    assert revisions(warehouse) == [("csat", FIRST, "Count", None, 80.0, 81.0)]


def test_each_measure_status_and_day_is_compared_and_breakdowns_are_not(
    warehouse: Warehouse,
) -> None:
    def rows(count: float, away: float, email: float) -> list[dict[str, Any]]:
        return [
            {"measure": "Count", "value": count},
            {"measure": "AgentPresenceDuration", "status": "WORKING", "value": 10.0},
            {"measure": "AgentPresenceDuration", "status": "AWAY", "value": away},
            {
                "measure": "Count",
                "breakdown_attribute": "channel",
                "breakdown_value": "EMAIL",
                "value": email,
            },
            {"partition_date": SECOND, "measure": "Count", "value": 2 * count},
        ]

    load_rows(warehouse, [FIRST, SECOND], *rows(1.0, 3.0, 1.0))
    load_rows(warehouse, [FIRST, SECOND], *rows(2.0, 4.0, 9.0))
    assert sorted(revisions(warehouse), key=str) == sorted(
        [
            ("csat", FIRST, "Count", None, 1.0, 2.0),
            ("csat", FIRST, "AgentPresenceDuration", "AWAY", 3.0, 4.0),
            ("csat", SECOND, "Count", None, 2.0, 4.0),
        ],
        key=str,
    )


def test_records_and_other_metrics_are_not_revised(warehouse: Warehouse) -> None:
    load_metric(warehouse, "nps", FIRST, [1.0])
    load_metric(warehouse, "csat", FIRST, [2.0])
    load(warehouse, record(), FIRST, integers(1))
    load(warehouse, record(), FIRST, integers(2))
    load_metric(warehouse, "csat", FIRST, [3.0])
    assert [row[0] for row in revisions(warehouse)] == ["csat"]


def test_a_failed_reload_leaves_no_revision(warehouse: Warehouse) -> None:
    load_metric(warehouse, "csat", FIRST, [80.0])
    relation = relation_of(Entry("metric", "csat", "csat", "A metric."))
    with warehouse.staging() as folder:
        staged = Staged(folder / "rows.jsonl", METRIC_VALUES)
        staged.add_row({"metric": "csat", "partition_date": FIRST, "measure": "Count", "value": 1})
        staged.add_row({"metric": "csat", "partition_date": FIRST, "interval_start": "never"})
        with pytest.raises(WarehouseError):
            warehouse.replace(relation, [of_day(FIRST, staged)])
    assert revisions(warehouse) == []


def test_the_mart_says_by_how_much_a_total_changed(warehouse: Warehouse) -> None:
    load_metric(warehouse, "csat", "2025-01-08", [80.0])
    load_metric(warehouse, "csat", "2025-01-08", [75.0])
    Marts({}).make(warehouse)
    with warehouse.reading() as query:
        (row,) = query("FROM dixa_marts.revisions")
        (stored,) = query("FROM dixa_catalogue.revisions")
    found = (row.metric, str(row.day), str(row.week), row.old_value, row.new_value, row.change)
    assert found == ("csat", "2025-01-08", "2025-01-06", 80.0, 75.0, -5.0)
    assert row.new_loaded_at == stored.new_loaded_at
    assert (row.new_loaded_day - row.day).days > 0
