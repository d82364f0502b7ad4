"""Records: rows of the API become staged rows, with every field and label, in their day."""

from collections.abc import Callable
from contextlib import suppress
from datetime import date, datetime
from typing import Any
from uuid import UUID

import pytest

from dixa_assets.errors import ApiContractBroken, PagesCutShort
from dixa_assets.model.days import Day, days_from
from dixa_assets.model.privacy import FieldPolicy, normalised
from dixa_assets.model.values import BIGINT, BOOLEAN, DOUBLE, JSON, TIMESTAMPTZ, VARCHAR
from dixa_assets.simulator.records import RECORDS
from dixa_assets.simulator.values import NO_VALUES, Choice, Int32, Moment, Named, Row, to_instant
from dixa_assets.simulator.world import World
from dixa_assets_tests.support.days import APIA_GAP, DAY, END, START, rows_of
from dixa_assets_tests.support.simulator import COPENHAGEN, MILLISECOND, Json, Simulator
from dixa_assets_tests.support.staged import Extracted, Line, lines, metric_request, record_request

Answer = Callable[..., None]
RATINGS, CREATED = record_request("ratings"), "created_conversations"

# Every record, row, field and type.


def plain(value: Any) -> tuple[Any, Any]:
    """The content and the label that a value of the simulator has in its column."""
    if value is None or value is NO_VALUES:
        return None, None
    if isinstance(value, list):
        parts = [plain(item) for item in value]
        labels = [label for _, label in parts]
        return [content for content, _ in parts], labels if any(labels) else None
    if isinstance(value, Named):
        return value.id, value.label
    if isinstance(value, Choice):
        return value.value, value.label
    if isinstance(value, Moment):
        return value.at.isoformat(), value.name
    if isinstance(value, datetime):
        return value.isoformat(), None
    if isinstance(value, UUID):
        return str(value), None
    return value, None


def expected_line(row: Row, day: Day) -> Line:
    line: Line = {
        "partition_date": str(day),
        "primary_timestamp": row.at.isoformat(),
        "primary_timestamp_field": row.timestamp_name,
    }
    pairs = [*zip(row.names, row.values, strict=True)]
    if row.value is not None:
        pairs.append(("", row.value))
    for name, value in pairs:
        content, label = plain(value)
        line[name, "value"] = content
        if label is not None:
            line[name, "label"] = label
    return line


@pytest.mark.parametrize("first", [date(2025, 3, 29), date(2025, 10, 25)], ids=str)
@pytest.mark.parametrize("record_id", RECORDS)
def test_every_row_and_field_of_a_record_equals_the_simulators_around_a_clock_change(
    extracted: Extracted, world: World, record_id: str, first: date
) -> None:
    compared = 0
    for day in days_from(first, 3, COPENHAGEN):
        # A round number of rows looks like a limit: loads request such a day in smaller parts.
        with suppress(PagesCutShort):
            staged = extracted(record_request(record_id), day)
            compared += 1
            rows = rows_of(world, record_id, day)
            assert rows
            assert lines(staged) == [expected_line(row, day) for row in rows]
            assert staged.counts.outside_day == 0
    assert compared >= 2


TYPE_OF: dict[type, str] = {
    bool: BOOLEAN,
    Int32: BIGINT,
    int: BIGINT,
    float: DOUBLE,
    str: VARCHAR,
    Choice: VARCHAR,
    Named: VARCHAR,
    UUID: VARCHAR,
    datetime: TIMESTAMPTZ,
    Moment: TIMESTAMPTZ,
}


@pytest.mark.parametrize("record_id", RECORDS)
def test_the_types_of_columns_are_the_types_of_the_simulators_values(
    extracted: Extracted, world: World, record_id: str
) -> None:
    staged = extracted(record_request(record_id))
    expected: dict[str, str | None] = {}
    for row in rows_of(world, record_id):
        for name, value in (*zip(row.names, row.values, strict=True), ("", row.value)):
            if isinstance(value, list):
                item = TYPE_OF[type(value[0])] if value else None
                expected[name] = f"{item}[]" if item else expected.get(name, "VARCHAR[]")
            elif value is not None and value is not NO_VALUES:
                expected[name] = TYPE_OF[type(value)]
    found = {name: type_ for (name, part), type_ in staged.types.of.items() if part == "value"}
    assert {name: type_ for name, type_ in found.items() if type_} == expected


def test_integers_beyond_a_double_keep_their_last_digit(extracted: Extracted, world: World) -> None:
    found = lines(extracted(record_request(CREATED)))
    numbers = [one["external_reference", "value"] for one in found]
    assert numbers == [row.field("external_reference") for row in rows_of(world, CREATED)]
    assert any(number and int(float(number)) != number for number in numbers)


def test_a_row_at_midnight_is_in_one_of_two_consecutive_days(
    extracted: Extracted, world: World
) -> None:
    days = days_from(DAY.date, 2, COPENHAGEN)
    found = [line["primary_timestamp"] for day in days for line in lines(extracted(RATINGS, day))]
    assert found == [row.at.isoformat() for day in days for row in rows_of(world, "ratings", day)]
    assert END.isoformat() in found


def test_a_request_for_a_record_ends_at_midnight_and_names_no_measures(
    simulator: Simulator, extracted: Extracted
) -> None:
    extracted(RATINGS)
    assert simulator.requests()[0]["body"] == {
        "id": "ratings",
        "periodFilter": {
            "_type": "Interval",
            "start": to_instant(START),
            "end": to_instant(END),
        },
        "timezone": COPENHAGEN,
    }


def test_values_of_an_unknown_type_are_stored_whole(
    simulator: Simulator, extracted: Extracted
) -> None:
    simulator.tell("faults", kind="unknown_type")
    staged = extracted(record_request("nps_ratings"))
    found = [line["conversation_id", "value"] for line in lines(staged)]
    assert found
    assert {value["_type"] for value in found} == {"HologramField"}
    assert all(isinstance(value["value"], int) for value in found)
    assert staged.types.of["conversation_id", "value"] == JSON


def test_a_field_that_the_catalogue_does_not_have_is_stored(
    simulator: Simulator, extracted: Extracted
) -> None:
    data = {"_type": "LongField", "value": 7, "label": "seven"}
    simulator.tell("records/fields", id="ratings", field="brand new", data=data)
    staged = extracted(RATINGS)
    found = {(line["brand new", "value"], line["brand new", "label"]) for line in lines(staged)}
    assert found == {(7, "seven")}
    assert staged.types.of["brand new", "value"] == BIGINT


def test_excluded_fields_are_never_in_the_staged_file(extracted: Extracted, world: World) -> None:
    excluded = frozenset({"contact_point", "queue_id"})
    policy = FieldPolicy(frozenset(map(normalised, excluded)))
    staged = extracted(record_request(CREATED, policy=policy))
    staged.close()
    text = staged.path.read_text()
    rows = rows_of(world, CREATED)
    secrets = {part for row in rows for name in excluded for part in plain(row.field(name))}
    secrets.discard(None)
    assert len(secrets) > 4
    assert not any(secret in text for secret in secrets)
    assert not excluded & {name for name, _ in staged.keys}
    assert staged.rows == len(rows)


def test_the_value_of_a_row_can_be_excluded(extracted: Extracted, world: World) -> None:
    staged = extracted(record_request("ratings", policy=FieldPolicy(frozenset({"value"}))))
    rows = rows_of(world, "ratings")
    assert staged.rows == len(rows)
    assert any(row.value is not None for row in rows)
    assert ("", "value") not in staged.keys


def test_a_day_that_the_zone_skipped_sends_no_request(
    simulator: Simulator, extracted: Extracted
) -> None:
    day = Day.of(APIA_GAP, "Pacific/Apia")
    assert extracted(metric_request("csat"), day).rows == 0
    assert extracted(RATINGS, day).rows == 0
    assert simulator.requests() == []


# Rows that the simulator does not send.


def bare_row(at: datetime = START, *fields: Json, **more: Any) -> Json:
    stamp = {"name": "offered_at", "timestamp": at.isoformat()}
    return {"primaryTimestampField": stamp, "fields": list(fields), **more}


def test_a_field_that_a_row_has_twice_keeps_both_values(
    answer: Answer, extracted: Extracted
) -> None:
    tags = [{"name": "tag", "field": {"_type": "StringField", "value": value}} for value in "abc"]
    answer({"data": [bare_row(START, *tags)]})
    (row,) = lines(extracted(RATINGS))
    assert [row[name, "value"] for name in ("tag", "tag_2", "tag_3")] == ["a", "b", "c"]


def test_names_that_differ_in_a_lone_surrogate_stay_different(
    answer: Answer, extracted: Extracted
) -> None:
    odd = [
        {"name": f"x{half}", "field": {"_type": "LongField", "value": number}}
        for number, half in enumerate(("\ud800", "\ud801", "\0", "?"))
    ]
    answer({"data": [bare_row(START, *odd)]})
    (row,) = lines(extracted(RATINGS))
    found = [value for (first, *_), value in row.items() if first[0] == "x"]
    assert sorted(found) == [0, 1, 2, 3]


def test_a_row_at_the_end_of_a_day_belongs_to_the_next_day(
    answer: Answer, extracted: Extracted
) -> None:
    instants = [START, END - MILLISECOND, END]
    answer({"data": [*map(bare_row, instants)]})
    staged = extracted(RATINGS)
    found = [line["primary_timestamp"] for line in lines(staged)]
    assert found == [at.isoformat() for at in instants[:2]]
    assert staged.counts.outside_day == 0


def test_rows_outside_the_day_are_stored_and_counted(answer: Answer, extracted: Extracted) -> None:
    instants = [START - MILLISECOND, START, END + MILLISECOND]
    answer({"data": [*map(bare_row, instants)]})
    staged = extracted(RATINGS)
    found = lines(staged)
    assert [one["primary_timestamp"] for one in found] == [at.isoformat() for at in instants]
    assert {one["partition_date"] for one in found} == {"2025-11-05"}
    assert staged.counts.outside_day == 2


def test_equal_rows_are_all_stored(answer: Answer, extracted: Extracted) -> None:
    answer({"data": [bare_row(), bare_row()]})
    assert extracted(RATINGS).rows == 2


@pytest.mark.parametrize(
    "row",
    [
        None,
        "row",
        {},
        {"primaryTimestampField": None},
        {"primaryTimestampField": {"name": "at"}},
        {"primaryTimestampField": {"name": "at", "timestamp": "soon"}},
        {"primaryTimestampField": "2025-11-05T10:00:00Z"},
        *(bare_row(fields=fields) for fields in ({"csid": 7}, 7, "csid")),
    ],
)
def test_a_row_that_cannot_be_read_is_an_error(
    answer: Answer, extracted: Extracted, row: Any
) -> None:
    answer({"data": [row]})
    with pytest.raises(ApiContractBroken, match="'ratings'.*primaryTimestampField"):
        extracted(RATINGS)


@pytest.mark.parametrize("field", [{}, {"name": ""}, {"name": 7}, "csid", None])
def test_a_field_without_a_name_is_an_error(
    answer: Answer, extracted: Extracted, field: Any
) -> None:
    answer({"data": [bare_row(START, field)]})
    with pytest.raises(ApiContractBroken, match="'ratings'.*no name"):
        extracted(RATINGS)


@pytest.mark.parametrize("fields", [{}, {"fields": None}, {"fields": []}])
def test_a_row_without_fields_is_stored(answer: Answer, extracted: Extracted, fields: Json) -> None:
    stamp = bare_row()["primaryTimestampField"]
    answer({"data": [{"primaryTimestampField": stamp, **fields}]})
    assert lines(extracted(RATINGS)) == [
        {
            "partition_date": "2025-11-05",
            "primary_timestamp": START.isoformat(),
            "primary_timestamp_field": "offered_at",
        }
    ]


def test_the_value_of_a_row_and_a_field_named_value_are_both_stored(
    answer: Answer, extracted: Extracted
) -> None:
    field = {"name": "value", "field": {"_type": "StringField", "value": "of the field"}}
    answer({"data": [bare_row(START, field, value={"_type": "IntField", "value": 5})]})
    (row,) = lines(extracted(RATINGS))
    assert row["", "value"] == 5
    assert row["value", "value"] == "of the field"
