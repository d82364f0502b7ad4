"""Tables, rows and loads made by hand, without the API and Dagster."""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dixa_assets.model.catalogue import Entry, FieldMetadata
from dixa_assets.model.days import Day
from dixa_assets.model.tables import METRIC_VALUES, Relation, Table, relation_of
from dixa_assets.model.values import BIGINT, Value
from dixa_assets.staging import Staged
from dixa_assets.warehouse.load_log import Load
from dixa_assets.warehouse.warehouse import Warehouse
from dixa_assets.warehouse.written import Written
from dixa_assets_tests.support.simulator import COPENHAGEN

DAYS = [str(date(2025, 1, 1) + timedelta(days=number)) for number in range(20)]
DAY = DAYS[1]


def record(
    name: str = "conversations",
    *,
    about: str = "A record.",
    fields: Mapping[str, str] = MappingProxyType({}),
) -> Table:
    """The table of a record; `fields` has the descriptions of the declared fields."""
    declared = tuple(FieldMetadata(field, description) for field, description in fields.items())
    return relation_of(Entry("record", name, name, about, fields=declared)).table


def stage(folder: Path, table: Table, day: str, rows: Sequence[Mapping[str, Value]]) -> Staged:
    """Rows of a record, one for each second after the day's midnight in UTC."""
    staged = Staged(folder / "rows.jsonl", table)
    for second, fields in enumerate(rows):
        instant = datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(seconds=second)
        line = {"partition_date": day, "primary_timestamp": instant.isoformat()}
        line["primary_timestamp_field"] = "createdAt"
        for name, value in fields.items():
            staged.put_value(line, name, value)
        staged.add_row(line)
    staged.close()
    return staged


def of_day(day: str, staged: Staged, run_id: str = "a-run") -> Load:
    return Load(run_id, time.monotonic(), [staged], Day.of(date.fromisoformat(day), COPENHAGEN))


def load(
    warehouse: Warehouse,
    table: Table,
    day: str,
    rows: Sequence[Mapping[str, Value]],
    run_id: str = "a-run",
) -> Written:
    """Replace a day of a record."""
    with warehouse.staging() as folder:
        staged = stage(folder, table, day, rows)
        return warehouse.replace(Relation.whole(table), [of_day(day, staged, run_id)])


def load_metric(
    warehouse: Warehouse, metric: str, day: str, values: Sequence[float], about: str = "A metric."
) -> None:
    """Replace a day of a metric."""
    relation = relation_of(Entry("metric", metric, metric, about))
    period = Day.of(date.fromisoformat(day), COPENHAGEN).period
    with warehouse.staging() as folder:
        staged = Staged(folder / "rows.jsonl", METRIC_VALUES)
        for value in values:
            staged.add_row(
                {
                    "metric": metric,
                    "partition_date": day,
                    "interval_start": period.start.isoformat(),
                    "interval_end": period.end.isoformat(),
                    "timezone": COPENHAGEN,
                    "measure": "Count",
                    "value": value,
                }
            )
        warehouse.replace(relation, [of_day(day, staged)])


def selected(warehouse: Warehouse, sql: str) -> list[tuple[Any, ...]]:
    """The rows of a query whose columns are texts and numbers without NULL."""
    return [tuple(row) for row in warehouse.query(sql).to_numpy().tolist()]


def integers(*numbers: int) -> list[dict[str, Value]]:
    return [{"number": Value(BIGINT, number)} for number in numbers]


def numbers_by_day(warehouse: Warehouse) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for day, number in selected(
        warehouse,
        "SELECT partition_date::VARCHAR, number FROM dixa_records.conversations ORDER BY ALL",
    ):
        found.setdefault(day, []).append(number)
    return found


def noted_rows(warehouse: Warehouse) -> dict[tuple[str, str], tuple[int, str]]:
    """The load log: (asset key, day) to (rows, run id)."""
    log = selected(
        warehouse,
        "SELECT asset_key, coalesce(partition_date::VARCHAR, ''), rows, run_id "
        "FROM dixa_catalogue.loads",
    )
    found = {(key, day): (rows, run_id) for key, day, rows, run_id in log}
    assert len(found) == len(log), "a partition is noted twice"
    return found
