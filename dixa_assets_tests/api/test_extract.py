"""From the API's answers to staged rows: windows, typed values, metrics, records."""

import json
import math
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any
from uuid import UUID

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dixa_assets.catalogue import Entry
from dixa_assets.client import DixaClient
from dixa_assets.errors import ApiContractBroken, ConfigError
from dixa_assets.extract import (
    FilterValue,
    Query,
    Window,
    check_attributes,
    extract_filter_values,
    extract_metric,
    extract_record,
    fetch_filter_values,
)
from dixa_assets.schema import METRIC_VALUES, filter_table, record_table
from dixa_assets.simulator.metrics import METRICS
from dixa_assets.simulator.people import filter_values
from dixa_assets.simulator.records import RECORDS
from dixa_assets.simulator.values import NO_VALUES, Choice, Int32, Moment, Named
from dixa_assets.simulator.world import Filter, Row, World
from dixa_assets.staging import Staged
from dixa_assets.values import (
    BIGINT,
    BOOLEAN,
    DOUBLE,
    JSON,
    NOTHING,
    TIMESTAMPTZ,
    VARCHAR,
    Value,
    parse_instant,
    read_value,
    widest,
)
from dixa_assets_tests.support.simulator import COPENHAGEN, NOW, Simulator

Json = dict[str, Any]
# A staged row: own columns by name, the vendor's fields by (name, part).
Line = dict[Any, Any]
DAY = Window.of_day(date(2025, 11, 5), COPENHAGEN)
MILLISECOND = timedelta(milliseconds=1)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Callable[..., Staged]]:
    """Opens files of staged rows, and removes them in the end."""
    made: list[Staged] = []

    def open_staged(table: Any = METRIC_VALUES) -> Staged:
        made.append(Staged(tmp_path / f"{len(made)}.jsonl", table))
        return made[-1]

    yield open_staged
    for staged in made:
        staged.discard()


def outside(staged: Staged) -> int:
    return sum(counts.outside_window for counts in staged.days.values())


def lines(staged: Staged) -> list[Line]:
    """What was staged, with the vendor's fields under (name, part) instead of short keys."""
    staged.close()
    sources = {key: source for source, key in staged.keys.items()}
    found = [json.loads(line) for line in staged.path.read_text().splitlines()]
    assert len(found) == staged.rows
    return [{sources.get(key, key): value for key, value in line.items()} for line in found]


def metric_entry(metric_id: str) -> Entry:
    return Entry.from_api("metric", METRICS[metric_id].to_api())


def record_entry(record_id: str) -> Entry:
    return Entry.from_api("record", RECORDS[record_id].to_api())


def answer(simulator: Simulator, data: Any) -> None:
    """Lets the simulator answer every request with these data."""
    simulator.tell("faults", kind="status", status=200, body=json.dumps({"data": data}))


# Windows.

ZONES = (
    "Europe/Copenhagen",
    "America/Santiago",
    "Africa/Cairo",
    "Asia/Kolkata",
    "Pacific/Apia",
    "Atlantic/Azores",
    "America/Toronto",
)
zones = st.sampled_from(ZONES)
days = st.dates(date(2000, 1, 1), date(2035, 12, 31))
PARTITIONS = {
    zone: dg.DailyPartitionsDefinition("2000-01-01", end_date="2036-01-02", timezone=zone)
    for zone in ZONES
}
APIA_GAP = date(2011, 12, 30)


@given(zones, days)
def test_windows_of_consecutive_days_touch(zone: str, day: date) -> None:
    today = Window.of_day(day, zone)
    assert today.end == Window.of_day(day + timedelta(days=1), zone).start
    assert today.start == Window.of_day(day - timedelta(days=1), zone).end


@given(zones, days)
def test_a_window_has_22_to_26_hours_unless_the_day_never_was(zone: str, day: date) -> None:
    window = Window.of_day(day, zone)
    if (zone, day) == ("Pacific/Apia", APIA_GAP):
        assert window.is_empty
        assert window.hours == 0
    else:
        assert not window.is_empty
        assert 22 <= window.hours <= 26


@given(zones, days)
def test_a_window_is_that_of_dagsters_partition(zone: str, day: date) -> None:
    window = Window.of_day(day, zone)
    # Dagster gives the day that never was the window of the day after it.
    if not window.is_empty:
        theirs = PARTITIONS[zone].time_window_for_partition_key(day.isoformat())
        assert window.start.timestamp() == theirs.start.timestamp()
        assert window.end.timestamp() == theirs.end.timestamp()


@pytest.mark.parametrize("zone", ZONES)
def test_windows_of_every_clock_change_touch_and_equal_dagsters(zone: str) -> None:
    everyday = [date(2000, 1, 2) + timedelta(days=n) for n in range(36 * 365)]
    windows = [Window.of_day(day, zone) for day in everyday]
    assert all(one.end == other.start for one, other in pairwise(windows))
    unusual = [one for one in windows if one.hours not in (0, 24)]
    assert bool(unusual) == (zone != "Asia/Kolkata")
    for one in unusual:
        theirs = PARTITIONS[zone].time_window_for_partition_key(one.day.isoformat())
        assert one.start.timestamp() == theirs.start.timestamp()
        assert one.end.timestamp() == theirs.end.timestamp()


@pytest.mark.parametrize(
    ("zone", "day", "start", "hours"),
    [
        ("Europe/Copenhagen", "2025-03-29", "2025-03-28T23:00", 24),
        ("Europe/Copenhagen", "2025-03-30", "2025-03-29T23:00", 23),
        ("Europe/Copenhagen", "2025-10-26", "2025-10-25T22:00", 25),
        ("America/Toronto", "2025-03-09", "2025-03-09T05:00", 23),
        ("America/Toronto", "2025-11-02", "2025-11-02T04:00", 25),
        # Midnight does not exist: the day begins at 01:00, when the clocks jump.
        ("America/Santiago", "2024-09-08", "2024-09-08T04:00", 23),
        ("America/Santiago", "2024-09-07", "2024-09-07T04:00", 24),
        ("America/Santiago", "2024-04-06", "2024-04-06T03:00", 25),
        ("Africa/Cairo", "2024-04-26", "2024-04-25T22:00", 23),
        ("Africa/Cairo", "2024-10-31", "2024-10-30T21:00", 25),
        # Midnight comes twice: the day begins at the first.
        ("Atlantic/Azores", "2024-10-27", "2024-10-27T00:00", 25),
        ("Atlantic/Azores", "2024-10-26", "2024-10-26T00:00", 24),
        ("Atlantic/Azores", "2024-03-31", "2024-03-31T01:00", 23),
        ("Asia/Kolkata", "2024-03-31", "2024-03-30T18:30", 24),
        ("Pacific/Apia", "2011-12-29", "2011-12-29T10:00", 24),
        ("Pacific/Apia", "2011-12-30", "2011-12-30T10:00", 0),
        ("Pacific/Apia", "2011-12-31", "2011-12-30T10:00", 24),
    ],
)
def test_known_days_have_their_hours(zone: str, day: str, start: str, hours: float) -> None:
    window = Window.of_day(date.fromisoformat(day), zone)
    assert window.start == datetime.fromisoformat(f"{start}+00:00")
    assert window.hours == hours


def test_an_interval_goes_out_in_utc_with_milliseconds_and_ends_one_before_the_next() -> None:
    assert Window.of_day(date(2025, 10, 26), COPENHAGEN).to_api() == {
        "_type": "Interval",
        "start": "2025-10-25T22:00:00.000Z",
        "end": "2025-10-26T22:59:59.999Z",
    }


@given(zones, days)
def test_an_interval_names_the_window_but_for_its_last_millisecond(zone: str, day: date) -> None:
    window = Window.of_day(day, zone)
    interval = window.to_api()
    assert datetime.fromisoformat(interval["start"]) == window.start
    assert datetime.fromisoformat(interval["end"]) == window.end - MILLISECOND


def test_a_day_that_never_was_asks_nothing(
    simulator: Simulator, client: DixaClient, stage: Callable[..., Staged]
) -> None:
    window = Window.of_day(APIA_GAP, "Pacific/Apia")
    entry = record_entry("ratings")
    metric, record = stage(), stage(record_table(entry))
    extract_metric(client, Query(metric_entry("csat")), window, metric)
    extract_record(client, Query(entry), window, record)
    assert (metric.rows, record.rows) == (0, 0)
    assert simulator.requests() == []


# Typed values.


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ({"_type": "BooleanField", "value": True}, Value(BOOLEAN, True)),
        ({"_type": "BooleanField", "value": False}, Value(BOOLEAN, False)),
        ({"_type": "IntField", "value": -3}, Value(BIGINT, -3)),
        ({"_type": "LongField", "value": 2**62 + 1}, Value(BIGINT, 2**62 + 1)),
        ({"_type": "DoubleField", "value": 0.1}, Value(DOUBLE, 0.1)),
        ({"_type": "StringField", "value": "a"}, Value(VARCHAR, "a")),
        ({"_type": "StringField", "value": ""}, Value(VARCHAR, "")),
        ({"_type": "StringField", "value": "a", "label": "A"}, Value(VARCHAR, "a", "A")),
        ({"_type": "UUIDField", "value": "11-22"}, Value(VARCHAR, "11-22")),
        ({"_type": "UUIDField", "value": "11-22", "label": "Q"}, Value(VARCHAR, "11-22", "Q")),
        (
            {"_type": "InstantField", "value": "2025-03-02T09:15:00.123Z"},
            Value(TIMESTAMPTZ, "2025-03-02T09:15:00.123000+00:00"),
        ),
        (
            {"_type": "TimestampField", "name": "at", "timestamp": "2025-03-02T09:15:00Z"},
            Value(TIMESTAMPTZ, "2025-03-02T09:15:00+00:00", "at"),
        ),
        (
            {
                "_type": "ListField",
                "values": [
                    {"_type": "UUIDField", "value": "1", "label": "One"},
                    {"_type": "UUIDField", "value": "2"},
                ],
            },
            Value("VARCHAR[]", ["1", "2"], ["One", None]),
        ),
        (
            {"_type": "ListField", "values": [{"_type": "LongField", "value": 1}]},
            Value("BIGINT[]", [1]),
        ),
        ({"_type": "ListField", "values": []}, Value("VARCHAR[]", [])),
    ],
)
def test_every_type_is_read_as_what_it_claims_to_be(typed: Json, value: Value) -> None:
    assert exactly(read_value(typed)) == exactly(value)


def exactly(value: Value) -> tuple[Any, ...]:
    """A value in a form in which 1, 1.0 and True differ."""
    return value.type, repr(value.content), value.label


@pytest.mark.parametrize(
    "typed",
    [
        None,
        {},
        {"_type": "LongField", "value": None},
        {"_type": "StringField"},
        {"_type": "LongField"},
        {"_type": "InstantField"},
        {"_type": "ListField"},
        {"_type": "ListField", "values": None},
        {"_type": "TimestampField", "timestamp": None},
        {"value": None},
    ],
)
def test_a_value_that_is_not_there_is_nothing(typed: Any) -> None:
    assert read_value(typed) == NOTHING


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ({"_type": "LongField", "value": 1.5}, Value(DOUBLE, 1.5)),
        ({"_type": "LongField", "value": "17"}, Value(VARCHAR, "17")),
        ({"_type": "LongField", "value": True}, Value(BOOLEAN, True)),
        ({"_type": "LongField", "value": 2**63}, Value(VARCHAR, str(2**63))),
        ({"_type": "LongField", "value": -(2**63)}, Value(BIGINT, -(2**63))),
        ({"_type": "LongField", "value": -(2**63) - 1}, Value(VARCHAR, str(-(2**63) - 1))),
        ({"_type": "DoubleField", "value": 3}, Value(DOUBLE, 3.0)),
        ({"_type": "DoubleField", "value": 2**53 + 1}, Value(BIGINT, 2**53 + 1)),
        ({"_type": "BooleanField", "value": 1}, Value(BIGINT, 1)),
        ({"_type": "StringField", "value": 7}, Value(BIGINT, 7)),
        ({"_type": "StringField", "value": {"a": 1}}, Value(JSON, {"a": 1})),
        ({"_type": "UUIDField", "value": "a", "label": 7}, Value(VARCHAR, "a")),
        ({"_type": "InstantField", "value": "soon"}, Value(VARCHAR, "soon")),
        ({"_type": "InstantField", "value": 1700000000000}, Value(BIGINT, 1700000000000)),
        ({"_type": "TimestampField", "timestamp": "soon"}, Value(VARCHAR, "soon")),
        ({"_type": "ListField", "values": "a"}, Value(VARCHAR, "a")),
        ({"value": 5, "label": "five"}, Value(BIGINT, 5, "five")),
        ({"values": [{"value": 1}]}, Value("BIGINT[]", [1])),
        (
            {"name": "at", "timestamp": "2025-01-01T00:00:00Z"},
            Value(TIMESTAMPTZ, "2025-01-01T00:00:00+00:00", "at"),
        ),
        ("bare", Value(VARCHAR, "bare")),
        (5, Value(BIGINT, 5)),
        ([1], Value(JSON, [1])),
    ],
)
def test_content_that_is_not_what_its_type_claims_speaks_for_itself(
    typed: Any, value: Value
) -> None:
    assert exactly(read_value(typed)) == exactly(value)


@pytest.mark.parametrize(
    "typed",
    [
        {"_type": "HologramField", "value": 3, "depth": 2},
        {"_type": "HologramField"},
        {"_type": 7, "value": 3},
        {"amount": 3, "currency": "DKK"},
    ],
)
def test_a_type_nobody_knows_is_kept_whole(typed: Json) -> None:
    assert read_value(typed) == Value(JSON, typed)


@pytest.mark.parametrize(
    ("items", "value"),
    [
        ([1, 2.5], Value("DOUBLE[]", [1, 2.5])),
        ([2**53 + 1, 2.5], Value("VARCHAR[]", [str(2**53 + 1), "2.5"])),
        ([1, "a", None, True], Value("VARCHAR[]", ["1", "a", None, "true"])),
        ([None], Value("VARCHAR[]", [None])),
    ],
)
def test_items_of_several_types_share_the_narrowest_that_holds_them(
    items: list[Any], value: Value
) -> None:
    typed = {"_type": "ListField", "values": [{"value": item} for item in items]}
    assert read_value(typed) == value


def test_a_list_with_an_item_of_unknown_type_is_kept_whole() -> None:
    items = [{"_type": "LongField", "value": 1}, {"_type": "HologramField", "value": 2}]
    assert read_value({"_type": "ListField", "values": items}) == Value(JSON, items)


def test_a_list_within_a_list_is_kept_whole() -> None:
    items = [{"_type": "ListField", "values": [{"_type": "LongField", "value": 1}]}]
    assert read_value({"_type": "ListField", "values": items}) == Value(JSON, items)


# Any JSON, and JSON that looks like the vendor's.
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
leaves = st.none() | st.booleans() | numbers | st.text(max_size=5)
any_json = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        | st.fixed_dictionaries(
            {},
            optional={
                "_type": inner
                | st.sampled_from(
                    ["BooleanField", "IntField", "LongField", "DoubleField", "StringField"]
                    + ["UUIDField", "InstantField", "TimestampField", "ListField", "NewField"]
                ),
                "value": inner | st.datetimes().map(datetime.isoformat),
                "values": inner,
                "timestamp": inner | st.datetimes().map(datetime.isoformat),
                "name": inner,
                "label": inner,
            },
        )
    ),
    max_leaves=12,
)
CONTENT: dict[str, type | tuple[type, ...]] = {
    BOOLEAN: bool,
    BIGINT: int,
    DOUBLE: (int, float),
    VARCHAR: str,
    TIMESTAMPTZ: str,
}


@given(any_json)
def test_any_json_is_read_as_a_value_its_column_can_hold(typed: Any) -> None:
    value = read_value(typed)
    json.dumps(value.content, allow_nan=False)
    assert (value.type is None) == (value.content is None)
    if value.type and value.type.endswith("[]"):
        held = CONTENT[value.type.removesuffix("[]")]
        assert all(item is None or isinstance(item, held) for item in value.content)
        assert value.label is None or len(value.label) == len(value.content)
    elif value.type and value.type != JSON:
        assert isinstance(value.content, CONTENT[value.type])
        assert value.label is None or isinstance(value.label, str)


@given(st.sampled_from(["IntField", "LongField", None]), st.integers(-(2**63), 2**63 - 1))
def test_every_int64_is_kept_to_the_last_digit(kind: str | None, number: int) -> None:
    value = read_value({"_type": kind, "value": number} if kind else {"value": number})
    assert exactly(value) == (BIGINT, str(number), None)


@given(st.sampled_from(["IntField", "LongField", "DoubleField"]), st.integers())
def test_no_integer_loses_a_digit(kind: str, number: int) -> None:
    content = read_value({"_type": kind, "value": number}).content
    assert int(content) == number


@given(st.datetimes(timezones=st.timezones()))
def test_an_instant_with_an_offset_is_the_same_instant_in_utc(instant: datetime) -> None:
    text = instant.isoformat()
    value = read_value({"_type": "InstantField", "value": text})
    if value.type == TIMESTAMPTZ:
        assert datetime.fromisoformat(value.content) == datetime.fromisoformat(text)
        assert value.content.endswith("+00:00")
    else:
        # Within a day of the first or last instant there is.
        assert value == Value(VARCHAR, text)
        assert instant.year in (1, 9999)


@pytest.mark.parametrize(
    "text",
    [
        "2025-03-02T09:15:00.123Z",
        "2025-03-02T10:15:00.123+01:00",
        "2025-03-02T09:15:00.123Z[GMT]",
        "2025-03-02T09:15:00.123",
        "2025-03-02 09:15:00.123",
        "2025-03-02T09:15:00.123000000Z",
    ],
)
def test_every_spelling_of_an_instant_is_read(text: str) -> None:
    assert parse_instant(text) == datetime(2025, 3, 2, 9, 15, 0, 123_000, tzinfo=UTC)


@pytest.mark.parametrize("text", [None, 7, "", "soon", "2025-13-01T00:00:00Z", ["2025-01-01"]])
def test_what_is_no_instant_is_none(text: Any) -> None:
    assert parse_instant(text) is None


# The type that holds all.

SCALARS = [BOOLEAN, BIGINT, DOUBLE, VARCHAR, TIMESTAMPTZ]
TYPES = [None, *SCALARS, JSON, *(f"{one}[]" for one in SCALARS)]
# What a type can hold without loss, directly: the edges upwards.
HOLDS: dict[str | None, set[str | None]] = {
    None: {None},
    **{one: {None, one} for one in SCALARS},
    DOUBLE: {None, BIGINT, DOUBLE},
    VARCHAR: {None, *SCALARS},
    JSON: set(TYPES),
    **{f"{one}[]": {None, f"{one}[]"} for one in SCALARS},
    "DOUBLE[]": {None, "BIGINT[]", "DOUBLE[]"},
    "VARCHAR[]": {None, *(f"{one}[]" for one in SCALARS)},
}
types = st.sampled_from(TYPES)


@given(types, types, st.booleans())
def test_the_widest_of_two_holds_both(one: str | None, other: str | None, exact: bool) -> None:
    found = widest(one, other, exact=exact)
    assert {one, other} <= HOLDS[found]


@given(types, types, st.booleans())
def test_the_widest_of_two_is_that_of_the_other_and_the_one(
    one: str | None, other: str | None, exact: bool
) -> None:
    assert widest(one, other, exact=exact) == widest(other, one, exact=exact)


@given(st.lists(types, min_size=3, max_size=3), st.booleans())
def test_the_widest_of_three_does_not_depend_on_their_order(
    three: list[str | None], exact: bool
) -> None:
    found = {
        widest(widest(one, other, exact=exact), third, exact=exact)
        for one, other, third in permutations(three)
    }
    assert len(found) == 1


@given(types, types)
def test_the_widest_is_reached_and_left_no_more(one: str | None, other: str | None) -> None:
    found = widest(one, other)
    assert widest(found, one) == widest(found, other) == widest(found, found) == found


@pytest.mark.parametrize(
    ("one", "other", "exact", "found"),
    [
        (None, BIGINT, True, BIGINT),
        (BIGINT, BIGINT, False, BIGINT),
        (BIGINT, DOUBLE, True, DOUBLE),
        (BIGINT, DOUBLE, False, VARCHAR),
        (BOOLEAN, BIGINT, True, VARCHAR),
        (TIMESTAMPTZ, VARCHAR, True, VARCHAR),
        (BIGINT, "BIGINT[]", True, JSON),
        ("BIGINT[]", "VARCHAR[]", True, "VARCHAR[]"),
        (VARCHAR, JSON, True, JSON),
    ],
)
def test_the_widest_is_no_wider_than_it_must_be(
    one: str | None, other: str | None, exact: bool, found: str
) -> None:
    assert widest(one, other, exact=exact) == found


# Staging.


@given(numbers=st.permutations([1, 0.5, 2**60 + 1]))
def test_an_integer_a_double_cannot_hold_makes_text_of_a_column_with_fractions(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[float]
) -> None:
    staged = Staged(tmp_path_factory.mktemp("staged") / "rows", METRIC_VALUES)
    for number in numbers:
        staged.add({}, {"n": read_value({"value": number})})
    staged.close()
    assert staged.types.of["n", "value"] == VARCHAR


def test_staged_rows_keep_labels_beside_values(stage: Callable[..., Staged]) -> None:
    staged = stage()
    staged.add({"a": 1}, {"q": Value(VARCHAR, "1", "One"), "t": Value("VARCHAR[]", ["x"], ["X"])})
    staged.add({"a": 2}, {"q": Value(VARCHAR, "2"), "t": NOTHING})
    assert lines(staged) == [
        {
            "a": 1,
            ("q", "value"): "1",
            ("q", "label"): "One",
            ("t", "value"): ["x"],
            ("t", "label"): ["X"],
        },
        {"a": 2, ("q", "value"): "2", ("t", "value"): None},
    ]
    assert staged.types.of == {
        ("q", "value"): VARCHAR,
        ("q", "label"): VARCHAR,
        ("t", "value"): "VARCHAR[]",
        ("t", "label"): "VARCHAR[]",
    }


def test_half_a_character_costs_itself_alone(stage: Callable[..., Staged]) -> None:
    staged = stage()
    staged.add({}, {"text": read_value({"value": json.loads('"a\\ud83db"')})})
    assert lines(staged) == [{("text", "value"): "a?b"}]


@pytest.mark.parametrize("number", [math.inf, -math.inf])
def test_a_number_beyond_any_column_is_refused(stage: Callable[..., Staged], number: float) -> None:
    with pytest.raises(ApiContractBroken, match="beyond any column"):
        stage().add({"value": number})


def test_a_discarded_file_is_gone(stage: Callable[..., Staged]) -> None:
    staged = stage()
    staged.discard()
    assert not staged.path.exists()


# Metrics.


def expected_numbers(aggregates: list[Json]) -> list[tuple[str, str | None, float]]:
    """(measure, status, value) of what the world says; presence durations a row per status."""
    found: list[tuple[str, str | None, float]] = []
    for one in aggregates:
        if isinstance(one["value"], list):
            for part in one["value"]:
                status = part["status"]["status"]
                found.append(("AgentPresenceDuration", status, part["value"]))
        else:
            found.append((one["measure"], None, one["value"]))
    return found


@pytest.mark.parametrize("metric_id", METRICS)
def test_the_total_of_every_metric_is_the_worlds(
    client: DixaClient, world: World, stage: Callable[..., Staged], metric_id: str
) -> None:
    staged = stage()
    extract_metric(client, Query(metric_entry(metric_id)), DAY, staged)
    truth = world.aggregate(metric_id, start=DAY.start, end=DAY.end, now=NOW)
    expected = expected_numbers(truth)
    assert expected
    found = lines(staged)
    assert [(one["measure"], one["status"], one["value"]) for one in found] == expected
    assert staged.totals == {
        f"{measure} ({status})" if status else measure: value for measure, status, value in expected
    }


def test_a_metrics_row_says_what_it_is_about(
    client: DixaClient, stage: Callable[..., Staged], world: World
) -> None:
    staged = stage()
    extract_metric(client, Query(metric_entry("closed_conversations")), DAY, staged)
    rows = world.rows("closed_conversations", start=DAY.start, end=DAY.end, now=NOW)
    assert lines(staged) == [
        {
            "metric": "closed_conversations",
            "partition_date": "2025-11-05",
            "interval_start": "2025-11-04T23:00:00+00:00",
            "interval_end": "2025-11-05T23:00:00+00:00",
            "timezone": "Europe/Copenhagen",
            "breakdown_attribute": None,
            "breakdown_value": None,
            "breakdown_label": None,
            "measure": "Count",
            "status": None,
            "value": float(len(rows)),
            "aggregate": None,
        }
    ]


def test_presence_durations_have_a_row_per_status(
    client: DixaClient, stage: Callable[..., Staged]
) -> None:
    staged = stage()
    extract_metric(client, Query(metric_entry("agent_presence_duration")), DAY, staged)
    found = lines(staged)
    statuses = [one["status"] for one in found]
    assert {one["measure"] for one in found} == {"AgentPresenceDuration"}
    assert len(set(statuses)) == len(statuses) > 1
    assert None not in statuses


def test_a_metric_is_asked_for_the_measures_it_offers(
    simulator: Simulator, client: DixaClient, stage: Callable[..., Staged]
) -> None:
    extract_metric(client, Query(metric_entry("handling_time")), DAY, stage())
    extract_metric(client, Query(metric_entry("message_length")), DAY, stage())
    asked = [one["body"] for one in simulator.requests()]
    assert asked[0] == {
        "id": "handling_time",
        "periodFilter": DAY.to_api(),
        "timezone": COPENHAGEN,
        "aggregations": ["Count", "Average", "Min", "Max", "Sum", "StdDev"],
    }
    assert asked[1] == {
        "id": "message_length",
        "periodFilter": DAY.to_api(),
        "timezone": COPENHAGEN,
    }


@pytest.mark.parametrize(
    ("aggregate", "measure"),
    [
        ({"_type": "Histogram", "measure": "Spread", "value": {"p50": 1}}, "Spread"),
        ({"_type": "Histogram", "value": {"p50": 1}}, "Histogram"),
        ({"_type": "Histogram", "buckets": [1, 2], "measure": "Spread"}, "Spread"),
        ({"_type": "DoubleAggregateValue", "measure": "Sum", "value": "1.5"}, "Sum"),
        ({"_type": "DoubleAggregateValue", "measure": "Sum", "value": True}, "Sum"),
        ({"value": {"a": 1}}, "unknown"),
        ({"_type": "AgentPresenceDurationValue", "value": [{"value": 3}]}, "AgentPresenceDuration"),
        ("odd", "unknown"),
    ],
)
def test_an_aggregate_of_unknown_shape_is_kept_whole(
    simulator: Simulator,
    client: DixaClient,
    stage: Callable[..., Staged],
    aggregate: Any,
    measure: str,
) -> None:
    answer(simulator, {"id": "csat", "aggregates": [aggregate]})
    staged = stage()
    extract_metric(client, Query(metric_entry("csat")), DAY, staged)
    (row,) = lines(staged)
    assert (row["measure"], row["value"], row["aggregate"]) == (measure, None, aggregate)


def test_a_number_of_unknown_type_is_a_number(
    simulator: Simulator, client: DixaClient, world: World, stage: Callable[..., Staged]
) -> None:
    simulator.tell("faults", kind="unknown_type", type="HologramAggregateValue")
    staged = stage()
    extract_metric(client, Query(metric_entry("rating_score")), DAY, staged)
    truth = world.aggregate("rating_score", start=DAY.start, end=DAY.end, now=NOW)
    assert {one["measure"]: one["value"] for one in lines(staged)} == {
        one["measure"]: one["value"] for one in truth
    }


@pytest.mark.parametrize(
    "aggregate",
    [
        {"_type": "DoubleAggregateValue", "measure": "Average", "value": None},
        {"_type": "DoubleAggregateValue", "measure": "Average"},
    ],
)
def test_a_measure_without_a_number_is_null_and_not_zero(
    simulator: Simulator, client: DixaClient, stage: Callable[..., Staged], aggregate: Json
) -> None:
    answer(simulator, {"id": "csat", "aggregates": [aggregate]})
    staged = stage()
    extract_metric(client, Query(metric_entry("csat")), DAY, staged)
    (row,) = lines(staged)
    assert (row["measure"], row["value"], row["aggregate"]) == ("Average", None, None)
    assert staged.totals == {}


@pytest.mark.parametrize("data", [{"id": "csat"}, {"id": "csat", "aggregates": None}, {}])
def test_a_metric_without_aggregates_has_no_rows(
    simulator: Simulator, client: DixaClient, stage: Callable[..., Staged], data: Json
) -> None:
    answer(simulator, data)
    staged = stage()
    extract_metric(client, Query(metric_entry("csat")), DAY, staged)
    assert lines(staged) == []


def test_empty_aggregates_are_no_rows(
    simulator: Simulator, client: DixaClient, stage: Callable[..., Staged]
) -> None:
    simulator.tell("faults", kind="empty")
    staged = stage()
    extract_metric(client, Query(metric_entry("csat")), DAY, staged)
    assert lines(staged) == []
    assert staged.usage.requests == 1


@pytest.mark.parametrize("aggregates", [{"Count": 5}, 7, "Count"])
def test_aggregates_that_are_no_list_are_refused(
    simulator: Simulator, client: DixaClient, stage: Callable[..., Staged], aggregates: Any
) -> None:
    answer(simulator, {"id": "csat", "aggregates": aggregates})
    with pytest.raises(ApiContractBroken, match="'csat'"):
        extract_metric(client, Query(metric_entry("csat")), DAY, stage())


def test_an_answer_about_another_metric_is_refused(
    simulator: Simulator, client: DixaClient, stage: Callable[..., Staged]
) -> None:
    answer(simulator, {"id": "nps", "aggregates": []})
    with pytest.raises(ApiContractBroken, match="'csat'.*'nps'"):
        extract_metric(client, Query(metric_entry("csat")), DAY, stage())


def test_a_count_no_double_can_hold_is_refused(
    simulator: Simulator, client: DixaClient, stage: Callable[..., Staged]
) -> None:
    aggregate = {"_type": "LongAggregateValue", "measure": "Count", "value": 2**53 + 1}
    answer(simulator, {"id": "csat", "aggregates": [aggregate]})
    with pytest.raises(ApiContractBroken, match="too large"):
        extract_metric(client, Query(metric_entry("csat")), DAY, stage())


# Breakdowns and filters.

CHANNELS = tuple(
    FilterValue(one.value, one.label) for one in (filter_values("channel") or ()) if one.label
)


def test_a_breakdown_has_a_request_and_rows_per_value_with_its_label(
    simulator: Simulator, client: DixaClient, world: World, stage: Callable[..., Staged]
) -> None:
    query = Query(metric_entry("closed_conversations"), breakdowns={"channel": CHANNELS})
    staged = stage()
    extract_metric(client, query, DAY, staged)
    assert [one["body"].get("filters") for one in simulator.requests()] == [
        None,
        *([{"attribute": "channel", "values": [one.value]}] for one in CHANNELS),
    ]
    expected: list[tuple[Any, ...]] = []
    for one in (None, *CHANNELS):
        filters = [Filter("channel", (one.value,))] if one else []
        rows = world.rows(
            "closed_conversations", start=DAY.start, end=DAY.end, now=NOW, filters=filters
        )
        about = ("channel", one.value, one.label) if one else (None, None, None)
        expected.append((*about, float(len(rows))))
    found = [
        (
            one["breakdown_attribute"],
            one["breakdown_value"],
            one["breakdown_label"],
            one["value"],
        )
        for one in lines(staged)
    ]
    assert found == expected
    assert expected[0][-1] == sum(one[-1] for one in expected[1:]) > 0


def test_the_totals_people_read_are_those_without_a_breakdown(
    client: DixaClient, world: World, stage: Callable[..., Staged]
) -> None:
    query = Query(metric_entry("closed_conversations"), breakdowns={"channel": CHANNELS[:2]})
    staged = stage()
    extract_metric(client, query, DAY, staged)
    rows = world.rows("closed_conversations", start=DAY.start, end=DAY.end, now=NOW)
    assert staged.totals == {"Count": len(rows)}


def test_several_breakdowns_stand_side_by_side(
    simulator: Simulator, client: DixaClient, stage: Callable[..., Staged]
) -> None:
    directions = (FilterValue("INBOUND"), FilterValue("OUTBOUND", "Out"))
    breakdowns = {"channel": CHANNELS[:2], "initial_direction": directions}
    staged = stage()
    query = Query(metric_entry("closed_conversations"), breakdowns=breakdowns)
    extract_metric(client, query, DAY, staged)
    assert [(one["breakdown_attribute"], one["breakdown_value"]) for one in lines(staged)] == [
        (None, None),
        ("channel", CHANNELS[0].value),
        ("channel", CHANNELS[1].value),
        ("initial_direction", "INBOUND"),
        ("initial_direction", "OUTBOUND"),
    ]


def test_filters_go_with_every_request_and_restrict_a_breakdown_of_their_own_attribute(
    simulator: Simulator, client: DixaClient, stage: Callable[..., Staged]
) -> None:
    first, second, *_ = (one.value for one in CHANNELS)
    query = Query(
        metric_entry("closed_conversations"),
        filters={"channel": [first, second], "initial_direction": ["INBOUND"]},
        breakdowns={"channel": CHANNELS},
    )
    extract_metric(client, query, DAY, stage())
    inbound = {"attribute": "initial_direction", "values": ["INBOUND"]}
    assert [one["body"]["filters"] for one in simulator.requests()] == [
        [{"attribute": "channel", "values": [first, second]}, inbound],
        [{"attribute": "channel", "values": [first]}, inbound],
        [{"attribute": "channel", "values": [second]}, inbound],
    ]


def test_a_record_is_filtered_too(
    client: DixaClient, world: World, stage: Callable[..., Staged]
) -> None:
    entry, channel = record_entry("ratings"), CHANNELS[0].value
    staged = stage(record_table(entry))
    extract_record(client, Query(entry, filters={"channel": [channel]}), DAY, staged)
    everything = world.rows("ratings", start=DAY.start, end=DAY.end, now=NOW)
    kept = [row for row in everything if Filter("channel", (channel,)).keeps(row)]
    assert 0 < len(kept) < len(everything)
    assert staged.rows == len(kept)


@pytest.mark.parametrize("name", ["channel", "window", "self", "not an identifier"])
def test_an_attribute_of_any_name_can_be_broken_down_by(
    simulator: Simulator, client: DixaClient, stage: Callable[..., Staged], name: str
) -> None:
    query = Query(metric_entry("csat"), breakdowns={name: (FilterValue("v"),)})
    extract_metric(client, query, DAY, stage())
    expected = [{"attribute": name, "values": ["v"]}]
    assert simulator.requests()[-1]["body"]["filters"] == expected


@pytest.mark.parametrize("setting", ["filters", "breakdowns"])
def test_an_attribute_that_is_not_advertised_is_refused(setting: str) -> None:
    settings: dict[str, Any] = {"filters": {}, "breakdowns": {}}
    settings[setting] = {"agent_id": ("someone",)}
    with pytest.raises(ConfigError) as caught:
        check_attributes(metric_entry("closed_conversations"), **settings)
    message = str(caught.value)
    assert message.startswith(f"{setting} of metric 'closed_conversations': 'agent_id' is no")
    assert message.endswith("by: channel, contact_point, initial_direction, queue_id, tag_id.")


def test_an_entry_that_cannot_be_filtered_says_so() -> None:
    with pytest.raises(ConfigError, match="filtered by: none"):
        check_attributes(metric_entry("knowledge_article_usage"), filters=["channel"])


def test_an_advertised_attribute_is_accepted() -> None:
    check_attributes(metric_entry("csat"), filters=["queue_id"], breakdowns=["channel"])


# Filter values.


def test_filter_values_are_staged_with_their_labels(
    client: DixaClient, stage: Callable[..., Staged]
) -> None:
    staged = stage(filter_table("channel", "channel"))
    extract_filter_values(client, "channel", staged)
    assert lines(staged) == [{"value": one.value, "label": one.label} for one in CHANNELS]


def test_a_filter_value_listed_twice_counts_once(simulator: Simulator, client: DixaClient) -> None:
    answer(simulator, [{"value": "a", "label": "A"}, {"value": "b"}, {"value": "a", "label": "A"}])
    assert fetch_filter_values(client, "channel") == (FilterValue("a", "A"), FilterValue("b"))


@pytest.mark.parametrize("item", [{"label": "A"}, {"value": 7}, "a", None])
def test_a_filter_value_that_is_no_text_is_refused(
    simulator: Simulator, client: DixaClient, item: Any
) -> None:
    answer(simulator, [item])
    with pytest.raises(ApiContractBroken, match="filter 'channel'"):
        fetch_filter_values(client, "channel")


# Records.


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
    extract_record(client, Query(record_entry(record_id)), window, staged)
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
    table = record_table(record_entry(record_id))
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
    staged = stage(record_table(record_entry(record_id)))
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
    staged = stage(record_table(record_entry("created_conversations")))
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
        staged = stage(record_table(record_entry("ratings")))
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
    extract_record(client, Query(entry, excluded_fields=excluded), DAY, staged)
    return lines(staged)


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
    staged = stage(record_table(entry, excluded))
    extract_record(client, Query(entry, excluded_fields=excluded), DAY, staged)
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
    staged = stage(record_table(entry))
    query = Query(entry, excluded_fields=frozenset({"value"}))
    extract_record(client, query, DAY, staged)
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
        "periodFilter": DAY.to_api(),
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
