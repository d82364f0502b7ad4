"""From the API's rows to staged rows: every field and label, in their day and outside it."""

from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from dixa_assets.api.client import DixaClient
from dixa_assets.api.extract import extract
from dixa_assets.api.requests import Request
from dixa_assets.errors import ApiContractBroken
from dixa_assets.model.days import Window
from dixa_assets.model.tables import relation_of
from dixa_assets.model.values import BIGINT, BOOLEAN, DOUBLE, JSON, TIMESTAMPTZ, VARCHAR
from dixa_assets.simulator.records import RECORDS
from dixa_assets.simulator.values import NO_VALUES, Choice, Int32, Moment, Named, Row, to_instant
from dixa_assets.simulator.world import World
from dixa_assets.staging import Staged
from dixa_assets_tests.support.days import APIA_GAP, DAY
from dixa_assets_tests.support.simulator import COPENHAGEN, MILLISECOND, NOW, Json, Simulator
from dixa_assets_tests.support.staged import Line, answer, lines, metric_entry, record_entry


def outside(staged: Staged) -> int:
    return sum(counts.outside_window for counts in staged.days.values())


def plain(value: Any) -> tuple[Any, Any]:
    """The content and label a value of the world must have in its column."""
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


def expected_line(row: Row, day: date) -> Line:
    line: Line = {
        "partition_date": day.isoformat(),
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


def day_of_record(client: DixaClient, record_id: str, window: Window, staged: Staged) -> list[Line]:
    extract(client, Request(record_entry(record_id)), window, staged)
    return lines(staged)


CLOCK_CHANGES = [date(2025, 3, 29), date(2025, 10, 25)]


@pytest.mark.parametrize("first", CLOCK_CHANGES, ids=str)
@pytest.mark.parametrize("record_id", RECORDS)
def test_every_row_and_field_of_a_record_is_the_worlds_around_a_clock_change(
    client: DixaClient,
    world: World,
    stage: Callable[..., Staged],
    record_id: str,
    first: date,
) -> None:
    table = relation_of(record_entry(record_id)).stored_in
    for day in (first + timedelta(days=n) for n in range(3)):
        window = Window.of_day(day, COPENHAGEN)
        staged = stage(table)
        found = day_of_record(client, record_id, window, staged)
        truth = world.rows(record_id, start=window.start, end=window.end, now=NOW)
        assert truth
        assert found == [expected_line(row, day) for row in truth]
        assert outside(staged) == 0


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
def test_the_types_of_a_records_columns_are_those_of_the_worlds_values(
    client: DixaClient, world: World, stage: Callable[..., Staged], record_id: str
) -> None:
    staged = stage(relation_of(record_entry(record_id)).stored_in)
    day_of_record(client, record_id, DAY, staged)
    expected: dict[str, str | None] = {}
    for row in world.rows(record_id, start=DAY.start, end=DAY.end, now=NOW):
        for name, value in (*zip(row.names, row.values, strict=True), ("", row.value)):
            if isinstance(value, list):
                item = TYPE_OF[type(value[0])] if value else None
                expected[name] = f"{item}[]" if item else expected.get(name, "VARCHAR[]")
            elif value is not None and value is not NO_VALUES:
                expected[name] = TYPE_OF[type(value)]
    found = {name: type_ for (name, part), type_ in staged.types.of.items() if part == "value"}
    assert {name: type_ for name, type_ in found.items() if type_} == expected


def test_integers_beyond_a_double_are_staged_to_the_last_digit(
    client: DixaClient, world: World, stage: Callable[..., Staged]
) -> None:
    staged = stage(relation_of(record_entry("created_conversations")).stored_in)
    found = day_of_record(client, "created_conversations", DAY, staged)
    truth = world.rows("created_conversations", start=DAY.start, end=DAY.end, now=NOW)
    numbers = [one["external_reference", "value"] for one in found]
    assert numbers == [row.field("external_reference") for row in truth]
    assert any(number and int(float(number)) != number for number in numbers)


def test_rows_of_touching_windows_are_neither_lost_nor_taken_twice(
    client: DixaClient, world: World, stage: Callable[..., Staged]
) -> None:
    windows = [Window.of_day(DAY.day + timedelta(days=n), COPENHAGEN) for n in range(2)]
    found: list[str] = []
    for window in windows:
        staged = stage(relation_of(record_entry("ratings")).stored_in)
        rows = day_of_record(client, "ratings", window, staged)
        found += [row["primary_timestamp"] for row in rows]
    truth = world.rows("ratings", start=windows[0].start, end=windows[1].end, now=NOW)
    assert found == [row.at.isoformat() for row in truth]
    assert windows[0].end.isoformat() in found


def bare_row(at: datetime, *fields: Json, **more: Any) -> Json:
    stamp = {"name": "offered_at", "timestamp": at.isoformat()}
    return {"primaryTimestampField": stamp, "fields": list(fields), **more}


def staged_rows(
    simulator: Simulator,
    client: DixaClient,
    staged: Staged,
    *rows: Any,
    excluded: frozenset[str] = frozenset(),
) -> list[Line]:
    answer(simulator, list(rows))
    entry = record_entry("ratings")
    extract(client, Request(entry, excluded_fields=excluded), DAY, staged)
    return lines(staged)


def test_a_field_name_that_comes_twice_in_a_row_keeps_both_values(
    simulator: Simulator, client: DixaClient, stage: Callable[..., Staged]
) -> None:
    twice = [{"name": "tag", "field": {"_type": "StringField", "value": value}} for value in "abc"]
    (row,) = staged_rows(simulator, client, stage(), bare_row(DAY.start, *twice))
    names = ("tag", "tag_2", "tag_3")
    assert [row[name, "value"] for name in names] == ["a", "b", "c"]


def test_names_with_different_half_characters_stay_different(
    simulator: Simulator, client: DixaClient, stage: Callable[..., Staged]
) -> None:
    odd = [
        {"name": f"x{half}", "field": {"_type": "LongField", "value": number}}
        for number, half in enumerate(("\ud800", "\ud801", "\0", "?"))
    ]
    (row,) = staged_rows(simulator, client, stage(), bare_row(DAY.start, *odd))
    found = {key: value for key, value in row.items() if key[0][0] == "x"}
    assert sorted(found.values()) == [0, 1, 2, 3]
    assert len(found) == 4


def test_a_row_exactly_on_the_end_is_left_to_the_next_window(
    simulator: Simulator, client: DixaClient, stage: Callable[..., Staged]
) -> None:
    instants = [DAY.start, DAY.end - MILLISECOND, DAY.end]
    staged = stage()
    found = staged_rows(simulator, client, staged, *map(bare_row, instants))
    assert [one["primary_timestamp"] for one in found] == [
        at.isoformat() for at in (DAY.start, DAY.end - MILLISECOND)
    ]
    assert outside(staged) == 0


def test_rows_outside_the_window_are_kept_and_counted(
    simulator: Simulator, client: DixaClient, stage: Callable[..., Staged]
) -> None:
    instants = [DAY.start - MILLISECOND, DAY.start, DAY.end + MILLISECOND]
    staged = stage()
    found = staged_rows(simulator, client, staged, *map(bare_row, instants))
    assert [one["primary_timestamp"] for one in found] == [at.isoformat() for at in instants]
    assert {one["partition_date"] for one in found} == {"2025-11-05"}
    assert outside(staged) == 2


def test_rows_that_are_alike_are_all_kept(
    simulator: Simulator, client: DixaClient, stage: Callable[..., Staged]
) -> None:
    found = staged_rows(simulator, client, stage(), bare_row(DAY.start), bare_row(DAY.start))
    assert len(found) == 2


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
    ],
)
def test_a_row_without_an_instant_is_refused(
    simulator: Simulator, client: DixaClient, stage: Callable[..., Staged], row: Any
) -> None:
    with pytest.raises(ApiContractBroken, match="'ratings'.*primaryTimestampField"):
        staged_rows(simulator, client, stage(), row)


@pytest.mark.parametrize("field", [{}, {"name": ""}, {"name": 7}, "csid", None])
def test_a_field_without_a_name_is_refused(
    simulator: Simulator, client: DixaClient, stage: Callable[..., Staged], field: Any
) -> None:
    with pytest.raises(ApiContractBroken, match="'ratings'.*no name"):
        staged_rows(simulator, client, stage(), bare_row(DAY.start, field))


@pytest.mark.parametrize("fields", [{"csid": 7}, 7, "csid"])
def test_fields_that_are_no_list_are_refused(
    simulator: Simulator, client: DixaClient, stage: Callable[..., Staged], fields: Any
) -> None:
    with pytest.raises(ApiContractBroken, match="'ratings'"):
        staged_rows(simulator, client, stage(), {**bare_row(DAY.start), "fields": fields})


@pytest.mark.parametrize("fields", [{}, {"fields": None}, {"fields": []}])
def test_a_row_without_fields_is_a_row(
    simulator: Simulator, client: DixaClient, stage: Callable[..., Staged], fields: Json
) -> None:
    row = {"primaryTimestampField": bare_row(DAY.start)["primaryTimestampField"], **fields}
    assert staged_rows(simulator, client, stage(), row) == [
        {
            "partition_date": "2025-11-05",
            "primary_timestamp": DAY.start.isoformat(),
            "primary_timestamp_field": "offered_at",
        }
    ]


def test_a_rows_own_value_does_not_meet_a_field_named_value(
    simulator: Simulator, client: DixaClient, stage: Callable[..., Staged]
) -> None:
    field = {"name": "value", "field": {"_type": "StringField", "value": "of the field"}}
    row = bare_row(DAY.start, field, value={"_type": "IntField", "value": 5})
    (found,) = staged_rows(simulator, client, stage(), row)
    assert found["", "value"] == 5
    assert found["value", "value"] == "of the field"


def test_values_of_unknown_type_are_kept_whole(
    simulator: Simulator, client: DixaClient, stage: Callable[..., Staged]
) -> None:
    simulator.tell("faults", kind="unknown_type")
    staged = stage()
    found = day_of_record(client, "nps_ratings", DAY, staged)
    assert found
    for one in found:
        assert one["conversation_id", "value"]["_type"] == "HologramField"
        assert isinstance(one["conversation_id", "value"]["value"], int)
    assert staged.types.of["conversation_id", "value"] == JSON


def test_excluded_fields_never_reach_the_staged_file(
    client: DixaClient, world: World, stage: Callable[..., Staged]
) -> None:
    entry = record_entry("created_conversations")
    excluded = frozenset({"contact_point", "queue_id"})
    staged = stage(relation_of(entry, excluded).stored_in)
    extract(client, Request(entry, excluded_fields=excluded), DAY, staged)
    staged.close()
    text = staged.path.read_text()
    truth = world.rows("created_conversations", start=DAY.start, end=DAY.end, now=NOW)
    secrets = {part for row in truth for name in excluded for part in plain(row.field(name))}
    secrets.discard(None)
    assert len(secrets) > 4
    assert not any(secret in text for secret in secrets)
    assert not excluded & {name for name, _ in staged.keys}
    assert staged.rows == len(truth)


def test_a_rows_own_value_can_be_excluded(
    client: DixaClient, world: World, stage: Callable[..., Staged]
) -> None:
    entry = record_entry("ratings")
    staged = stage(relation_of(entry).stored_in)
    request = Request(entry, excluded_fields=frozenset({"value"}))
    extract(client, request, DAY, staged)
    truth = world.rows("ratings", start=DAY.start, end=DAY.end, now=NOW)
    assert staged.rows == len(truth)
    assert any(row.value is not None for row in truth)
    assert ("", "value") not in staged.keys


def test_a_record_is_not_asked_for_measures(
    simulator: Simulator, client: DixaClient, stage: Callable[..., Staged]
) -> None:
    day_of_record(client, "ratings", DAY, stage())
    assert simulator.requests()[0]["body"] == {
        "id": "ratings",
        # Up to the next midnight itself: whether a period's end belongs to it is not documented.
        "periodFilter": {
            "_type": "Interval",
            "start": to_instant(DAY.start),
            "end": to_instant(DAY.end),
        },
        "timezone": COPENHAGEN,
    }


def test_a_new_field_is_staged_without_the_catalogue_knowing(
    simulator: Simulator, client: DixaClient, stage: Callable[..., Staged]
) -> None:
    data = {"_type": "LongField", "value": 7, "label": "seven"}
    simulator.tell("records/fields", id="ratings", field="brand new", data=data)
    staged = stage()
    found = day_of_record(client, "ratings", DAY, staged)
    assert {(one["brand new", "value"], one["brand new", "label"]) for one in found} == {
        (7, "seven")
    }
    assert staged.types.of["brand new", "value"] == BIGINT


def test_a_day_that_never_was_asks_nothing(
    simulator: Simulator, client: DixaClient, stage: Callable[..., Staged]
) -> None:
    window = Window.of_day(APIA_GAP, "Pacific/Apia")
    entry = record_entry("ratings")
    metric, record = stage(), stage(relation_of(entry).stored_in)
    extract(client, Request(metric_entry("csat")), window, metric)
    extract(client, Request(entry), window, record)
    assert (metric.rows, record.rows) == (0, 0)
    assert simulator.requests() == []
