"""Checks read plain rows, and follow the options of loads. Dagster takes no part."""

from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from dixa_assets.checks.registry import Subject, Verdict, checks_of
from dixa_assets.model.catalogue import Aggregation, Entry, FieldMetadata, FilterAttribute, by_id
from dixa_assets.model.options import Adaptation, LoadSettings, Options
from dixa_assets.model.tables import Relation, relation_of
from dixa_assets.model.values import BIGINT, VARCHAR, Value
from dixa_assets.warehouse.warehouse import Warehouse
from dixa_assets_tests.support.handmade import integers, load, load_metric, of_day, stage

NOW = datetime(2025, 1, 4, 12, tzinfo=UTC)
SEEN = "2025-01-02T00:00:00+00:00"
METRIC = Entry(
    "metric",
    "talks",
    "talks",
    filters=(FilterAttribute("queue_id"),),
    aggregations=(Aggregation("Count"),),
    related_ids=("conversations",),
    first_seen=SEEN,
)
RECORD = Entry(
    "record",
    "conversations",
    "conversations",
    filters=(FilterAttribute("queue_id"),),
    fields=(FieldMetadata("number"), FieldMetadata("queue_id", nullable=False)),
    first_seen=SEEN,
)
CHOSEN = LoadSettings(start_date="2025-01-02", history_days=0)
OPTIONS = Options(CHOSEN)


def look(
    warehouse: Warehouse, entry: Entry, options: Options = OPTIONS
) -> dict[str, tuple[Verdict, tuple[float, ...]]]:
    """The verdict and the figures of each check of an entry."""
    subject = Subject(options.spec(entry), by_id((METRIC, RECORD)), options, NOW)
    with warehouse.reading() as query:
        found = {check.name: check.look(query, subject) for check in checks_of(subject)}
    return {name: (each.verdict, tuple(each.figures.values())) for name, each in found.items()}


def test_without_data_only_missing_days_fail(warehouse: Warehouse) -> None:
    assert look(warehouse, METRIC) == {
        "completeness": (Verdict.FAILED, (2, 2)),
        "reconciliation": (Verdict.NO_DATA, (0, 0)),
        "schema": (Verdict.NO_DATA, (0, 1, 0)),
    }
    assert look(warehouse, RECORD) == {
        "completeness": (Verdict.FAILED, (2, 2)),
        "window": (Verdict.NO_DATA, (0, 0)),
        "not_null": (Verdict.NO_DATA, (1, 0)),
        "schema": (Verdict.NO_DATA, (0, 2, 0)),
    }


def test_a_metric_without_rows_of_its_record_differs_from_zero(warehouse: Warehouse) -> None:
    table = relation_of(RECORD).table
    load(warehouse, table, "2025-01-02", integers(1, 2))
    load(warehouse, table, "2025-01-03", [])
    load_metric(warehouse, "talks", "2025-01-02", [2])
    load_metric(warehouse, "talks", "2025-01-03", [1])
    found = look(warehouse, METRIC)
    assert found["completeness"] == (Verdict.PASSED, (2, 0))
    assert found["reconciliation"] == (Verdict.FAILED, (2, 1))


def test_a_missing_value_is_found_by_its_rows(warehouse: Warehouse) -> None:
    table = relation_of(RECORD).table
    rows = [{"queue_id": Value(VARCHAR, "a")}, {"number": Value(BIGINT, 1)}]
    with warehouse.staging() as folder:
        staged = stage(folder, table, "2025-01-02", rows)
        staged.counts.nulls["queue_id"] = staged.counts.outside_day = 1
        warehouse.replace(Relation.whole(table), [of_day("2025-01-02", staged)])
    subject = Subject(OPTIONS.spec(RECORD), by_id((RECORD,)), OPTIONS, NOW)
    with warehouse.reading() as query:
        found = {check.name: check.look(query, subject) for check in checks_of(subject)}
    assert found["not_null"].cases == [
        {
            "field": "queue_id",
            "rows without": 1,
            "days": 1,
            "for instance": "2025-01-02 00:00:01+00:00",
        }
    ]
    assert found["window"].cases == [{"day": "2025-01-02", "rows": 2, "outside": 1}]
    assert found["window"].differs_by_day == {date(2025, 1, 2): True}


def test_a_filter_that_the_probe_found_to_be_required_is_checked(warehouse: Warehouse) -> None:
    adapted = Options(CHOSEN, Adaptation(required_filter="queue_id"))
    assert look(warehouse, METRIC, adapted)["filter"] == (Verdict.PASSED, ())
    assert "filter" not in look(warehouse, RECORD, adapted)


def test_excluded_fields_are_not_missed(warehouse: Warehouse) -> None:
    excluding = Options(CHOSEN.model_copy(update={"exclude_fields": {"*": ["queue_id"]}}))
    load(warehouse, excluding.spec(RECORD).relation.table, "2025-01-02", integers(1))
    assert look(warehouse, RECORD, excluding)["schema"][0] is Verdict.PASSED
    assert look(warehouse, RECORD, excluding)["schema"][1][:2] == (0, 0)


@pytest.mark.parametrize(
    ("loaded", "verdict", "words"),
    [
        # Three old days, and the automatic history.
        (("2025-01-01..2025-01-03", "2025-05-02..2025-05-31"), Verdict.PASSED, "Nobody asked for"),
        # A day of a longer backfill failed.
        (
            ("2025-01-01..2025-02-09", "2025-02-11..2025-05-31"),
            Verdict.FAILED,
            "not loaded: 2025-02-10.",
        ),
        # A day of the automatic history is missing.
        (
            ("2025-05-02..2025-05-20", "2025-05-22..2025-05-31"),
            Verdict.FAILED,
            "not loaded: 2025-05-21.",
        ),
        (("2025-01-01..2025-05-31",), Verdict.PASSED, "All 151 days to 2025-05-31 are loaded."),
    ],
    ids=["old days", "failed day of a backfill", "failed day of the history", "everything"],
)
def test_days_that_nobody_asked_for_are_not_missing(
    warehouse: Warehouse, loaded: tuple[str, ...], verdict: Verdict, words: str
) -> None:
    entry = replace(METRIC, first_seen="2025-06-01T06:00:00+00:00")
    options = Options(LoadSettings(start_date="2025-01-01", history_days=30))
    subject = Subject(
        options.spec(entry), by_id((entry,)), options, datetime(2025, 6, 1, 12, tzinfo=UTC)
    )
    warehouse.check()
    for each in loaded:
        first, last = map(date.fromisoformat, each.split(".."))
        with warehouse.reading() as query:
            query(
                "INSERT INTO dixa_catalogue.loads (asset_key, partition_date) SELECT ?, day::DATE "
                "FROM generate_series(?::DATE, ?::DATE, INTERVAL 1 DAY) AS made(day)",
                [entry.key, first, last],
            )
    with warehouse.reading() as query:
        (found,) = (
            each.look(query, subject) for each in checks_of(subject) if each.name == "completeness"
        )
    assert found.verdict == verdict
    assert words in found.reason
