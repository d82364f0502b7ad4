"""How marts are made: what they need, what they leave alone, and what they say they lack."""

from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import duckdb
import pytest

from dixa_assets.marts.builder import MISSING, Marts
from dixa_assets.marts.files import read_marts
from dixa_assets.marts.roles import ROLES
from dixa_assets.model.catalogue import Catalogue, Entry
from dixa_assets.model.tables import MARTS
from dixa_assets.model.values import BIGINT, DOUBLE, VARCHAR, Value
from dixa_assets.warehouse.views import MARK
from dixa_assets.warehouse.warehouse import Warehouse
from dixa_assets_tests.marts.oracle import CLOSED, CREATED, FIELDS, MESSAGES, RATINGS, is_equal
from dixa_assets_tests.support.handmade import load, record
from dixa_assets_tests.support.scenario import days
from dixa_assets_tests.support.simulator import COPENHAGEN

Fill = Callable[..., tuple[Warehouse, Marts]]
TWO_DAYS = days("2025-10-25", "2025-10-26")
# The records that Dixa documents, without the fields that it does not.
UNDOCUMENTED = {
    RATINGS: frozenset({"survey_id", "answered_at", "comment"}),
    CLOSED: frozenset({"csid", "initial_direction", "initial_channel", "contact_point", "tags"}),
}


def everything() -> Marts:
    """The marts of a catalogue with a record for every role."""
    ids = [role.ids[0] for role in ROLES if role.kind == "record"]
    return Marts.of(Catalogue(tuple(Entry("record", each, each) for each in ids)), lambda _: True)


@pytest.fixture(scope="module")
def all_marts(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """A database with every mart and without data."""
    warehouse = Warehouse(tmp_path_factory.mktemp("all") / "dixa.duckdb")
    assert everything().make(warehouse) == {}
    return warehouse


def of_records(*ids: str, **chosen: str) -> Marts:
    catalogue = Catalogue(tuple(Entry("record", each, each) for each in ids))
    return Marts.of(catalogue, lambda _: True, chosen or True)


def rows(warehouse: Warehouse, sql: str) -> list[tuple[Any, ...]]:
    with warehouse.reading() as query:
        return [tuple(row) for row in query(sql)]


def views(warehouse: Warehouse) -> dict[str, str]:
    """The comment of each view of the schema."""
    return dict(
        rows(
            warehouse,
            "SELECT view_name, coalesce(comment, '') FROM duckdb_views() "
            f"WHERE schema_name = '{MARTS}'",
        )
    )


def put(warehouse: Warehouse, name: str, day: str, *events: Mapping[str, Value]) -> None:
    """Replace a day of a record with events of the test's own."""
    load(warehouse, record(name), day, events)


def text(value: str) -> Value:
    return Value(VARCHAR, value)


# Descriptions


@pytest.mark.parametrize("mart", read_marts(), ids=lambda mart: mart.name)
def test_a_mart_describes_its_question_and_every_column(mart: Any, all_marts: Warehouse) -> None:
    described = rows(
        all_marts,
        "SELECT column_name, replace(data_type, 'TIMESTAMP WITH TIME ZONE', 'TIMESTAMPTZ') "
        f"FROM duckdb_columns() WHERE schema_name = '{MARTS}' AND table_name = '{mart.name}' "
        "ORDER BY column_index",
    )
    assert described == [(column.name, column.type) for column in mart.table.columns]
    assert mart.table.comment.partition("?")[1], "no question"
    assert "{" not in mart.table.comment
    assert MARK.sub("", views(all_marts)[mart.name]) == mart.table.comment


def test_views_and_their_columns_have_comments(all_marts: Warehouse) -> None:
    silent = rows(
        all_marts,
        "SELECT table_name, column_name FROM duckdb_columns() "
        f"WHERE schema_name = '{MARTS}' AND coalesce(comment, '') = ''",
    )
    assert silent == []


# Requirements


def test_two_documented_records_give_most_marts_and_no_false_zero(fill: Fill) -> None:
    loaded = {RATINGS: TWO_DAYS, CLOSED: TWO_DAYS}
    warehouse, _ = fill(COPENHAGEN, loaded, has_lists=False, excluded=UNDOCUMENTED)
    assert len(views(warehouse)) == 12
    (overview,) = rows(
        warehouse,
        "SELECT closed > 0, answers > 0, csat > 0, created, net_new, customers, first_responses, "
        "offers, acceptance, transfers, messages, agent_messages, nps_answers, agents, "
        "working_hours, handling_hours FROM dixa_marts.overview_weekly",
    )
    assert overview == (True, True, True, *[None] * 13)
    unknown = (
        "SELECT count(*) FROM dixa_marts.conversations WHERE coalesce(offers, acceptances, agents, "
        "transfers, agent_messages, customer_messages) IS NOT NULL OR is_one_touch OR is_whole "
        "OR channel IS NOT NULL OR created_at IS NOT NULL"
    )
    assert rows(warehouse, unknown) == [(0,)]
    agents = (
        "SELECT DISTINCT offers, accepted, handled, handling_hours, messages, transfers, "
        "working_hours, days_worked FROM dixa_marts.agents_weekly"
    )
    assert rows(warehouse, agents) == [(None,) * 8]
    missing = rows(warehouse, "SELECT kind, name FROM dixa_marts.missing")
    for lacking in (
        ("mart", "hours"),
        ("mart", "staffing"),
        ("record", "created_conversations"),
        ("field", "ratings.answered_at"),
        ("field", "closed_conversations.tags_label"),
        ("filter", "agent_id"),
    ):
        assert lacking in missing
    assert ("field", "ratings.value") not in missing


def test_a_loaded_day_without_events_is_zero_and_a_day_that_is_not_loaded_is_null(
    warehouse: Warehouse,
) -> None:
    closing = {"conversation_id": Value(BIGINT, 1), "queue_id": text("a"), "agent_id": text("x")}
    put(warehouse, CLOSED, "2025-01-06", closing)
    put(warehouse, CLOSED, "2025-01-07")
    put(warehouse, RATINGS, "2025-01-08")
    of_records(CLOSED, RATINGS).make(warehouse)
    by_day = "SELECT day::VARCHAR, closed, answers, csat FROM dixa_marts.overview_daily ORDER BY 1"
    assert rows(warehouse, by_day) == [
        ("2025-01-06", 1, None, None),
        ("2025-01-07", 0, None, None),
        ("2025-01-08", None, 0, None),
    ]
    queues = "SELECT queue, closed, answers, created FROM dixa_marts.queues_weekly ORDER BY 1"
    assert rows(warehouse, queues) == [("a", 1, 0, None), ("none", 0, 0, None)]
    answers = "SELECT answers, agent_messages FROM dixa_marts.conversations"
    # On the day of the closing, ratings were not loaded.
    assert rows(warehouse, answers) == [(None, None)]


def test_a_field_without_any_value_gives_null_and_the_figure_appears_with_the_first_value(
    warehouse: Warehouse,
) -> None:
    marts = of_records(MESSAGES, CLOSED)
    message = {"csid": Value(BIGINT, 1), "agent_id": text("x")}
    put(warehouse, MESSAGES, "2025-01-06", message)
    count = "SELECT messages, agent_messages FROM dixa_marts.overview_weekly"
    marts.make(warehouse)
    assert rows(warehouse, count) == [(1, None)]
    lacking = "SELECT count(*) FROM dixa_marts.missing WHERE name = 'messages_sent.author_type'"
    assert rows(warehouse, lacking) == [(1,)]
    put(warehouse, MESSAGES, "2025-01-07", message | {"author_type": text("AGENT")})
    marts.make(warehouse)
    assert rows(warehouse, count) == [(2, 1)]
    assert rows(warehouse, lacking) == [(0,)]


def test_other_spellings_of_fields_and_other_types_of_columns_are_read(
    warehouse: Warehouse,
) -> None:
    closing = {"csid": text("17"), "agent": text("x"), "current_channel": text("EMAIL")}
    put(warehouse, CLOSED, "2025-01-06", closing)
    of_records(CLOSED).make(warehouse)
    found = "SELECT conversation_id, channel, last_agent FROM dixa_marts.conversations"
    assert rows(warehouse, found) == [(17, "EMAIL", "x")]


def test_a_widened_column_does_not_break_a_mart(warehouse: Warehouse) -> None:
    rating = {"conversation_id": Value(BIGINT, 1), "": Value(BIGINT, 4)}
    put(warehouse, RATINGS, "2025-01-06", rating)
    marts = of_records(RATINGS)
    marts.make(warehouse)
    put(warehouse, RATINGS, "2025-01-07", rating | {"": Value(DOUBLE, 4.5)})
    scores = "SELECT score FROM dixa_marts.satisfaction ORDER BY 1"
    assert rows(warehouse, scores) == [(4.0,), (4.5,)]


def test_the_setting_names_the_record_of_a_role(warehouse: Warehouse) -> None:
    reply = {"csid": Value(BIGINT, 1), "": Value(DOUBLE, 60.0)}
    put(warehouse, "my_replies", "2025-01-06", reply)
    of_records("my_replies").make(warehouse)
    replies = "SELECT first_responses FROM dixa_marts.overview_daily"
    assert "overview_daily" not in views(warehouse)
    of_records("my_replies", first_responses="my_replies").make(warehouse)
    assert rows(warehouse, replies) == [(1,)]


# Names


def test_a_renamed_agent_has_the_listed_name_and_keeps_the_former_ones(
    warehouse: Warehouse,
) -> None:
    for day, name in (("2025-01-06", "Ann Old"), ("2025-01-07", "Ann New")):
        agent = Value(VARCHAR, "x", name)
        put(warehouse, CLOSED, day, {"conversation_id": Value(BIGINT, 1), "agent_id": agent})
    marts = of_records(CLOSED)
    marts.make(warehouse)
    names = "SELECT agent, former_names, is_listed, first_day::VARCHAR FROM dixa_marts.agents"
    assert rows(warehouse, names) == [("Ann New", ["Ann Old"], None, "2025-01-06")]
    weekly = "SELECT agent, closed FROM dixa_marts.agents_weekly WHERE agent_id IS NOT NULL"
    assert rows(warehouse, weekly) == [("Ann New", 2)]


def test_weeks_begin_on_the_chosen_day(fill: Fill) -> None:
    warehouse, _ = fill(COPENHAGEN, {CLOSED: TWO_DAYS}, week_starts_on="sunday")
    weeks = "SELECT day::VARCHAR, week::VARCHAR FROM dixa_marts.days ORDER BY 1"
    assert rows(warehouse, weeks) == [("2025-10-25", "2025-10-19"), ("2025-10-26", "2025-10-26")]


# Other people's relations


def test_views_and_tables_of_other_people_stay(warehouse: Warehouse) -> None:
    with duckdb.connect(warehouse.path) as connection:
        connection.execute("CREATE SCHEMA dixa_marts")
        connection.execute("CREATE VIEW dixa_marts.queues AS SELECT 1 AS theirs")
        connection.execute("CREATE TABLE dixa_marts.Hours AS SELECT 2 AS theirs")
        connection.execute("CREATE VIEW dixa_marts.theirs AS SELECT 3 AS theirs")
        connection.execute("CREATE TABLE dixa_marts.missing AS SELECT 4 AS theirs")
    problems = everything().make(warehouse)
    assert {"queues", "hours", "missing", "queues_weekly"} <= problems.keys()
    assert "another program made" in problems["queues"]
    assert problems["queues_weekly"] == "it reads queues"
    for number, name in enumerate(("queues", "hours", "theirs", "missing"), start=1):
        assert rows(warehouse, f"SELECT theirs FROM dixa_marts.{name}") == [(number,)]
    assert {"days", "agents", "overview_weekly"} <= views(warehouse).keys()


def test_a_mart_that_a_name_blocks_is_listed_as_missing(warehouse: Warehouse) -> None:
    with duckdb.connect(warehouse.path) as connection:
        connection.execute("CREATE SCHEMA dixa_marts")
        connection.execute("CREATE TABLE dixa_marts.staffing AS SELECT 1 AS theirs")
    everything().make(warehouse)
    (found,) = rows(warehouse, "SELECT consequence FROM dixa_marts.missing WHERE name = 'staffing'")
    assert "another program made dixa_marts.staffing" in found[0]


def test_views_that_are_not_possible_any_more_are_dropped(warehouse: Warehouse) -> None:
    everything().make(warehouse)
    with duckdb.connect(warehouse.path) as connection:
        connection.execute("CREATE VIEW dixa_marts.ours_renamed AS FROM dixa_marts.days")
    of_records(CLOSED).make(warehouse)
    left = views(warehouse).keys()
    assert "hours" not in left
    assert {"ours_renamed", "days", "conversations"} <= left


def test_unchanged_marts_are_not_made_again(warehouse: Warehouse) -> None:
    everything().make(warehouse)
    changed, first = warehouse.changed_at(), views(warehouse)
    everything().make(warehouse)
    assert warehouse.changed_at() == changed
    Marts(everything().sources, "sunday").make(warehouse)
    assert warehouse.changed_at() != changed
    assert views(warehouse)["days"] != first["days"]


# Copies


@pytest.mark.file
def test_the_read_copy_has_the_marts(fill: Fill, tmp_path: Path) -> None:
    warehouse, _ = fill(COPENHAGEN, dict.fromkeys(FIELDS, TWO_DAYS[1:]))
    warehouse.publish(tmp_path / "dixa_read.duckdb")
    with duckdb.connect(str(tmp_path / "dixa_read.duckdb"), read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for name in (*views(warehouse), MISSING.name):
            ours = rows(warehouse, f"FROM dixa_marts.{name} ORDER BY ALL")
            copied = connection.execute(f"FROM dixa_marts.{name} ORDER BY ALL").fetchall()
            # The order of rows, and so the last digit of a sum, is another one.
            pairs = zip(chain(*copied), chain(*ours), strict=True)
            assert all(is_equal(expected, found) for expected, found in pairs), name
        comments = connection.execute(
            f"SELECT count(*) FROM duckdb_columns() WHERE schema_name = '{MARTS}' "
            "AND comment IS NULL"
        )
        assert comments.fetchall() == [(0,)]


def test_a_moved_database_has_its_marts(fill: Fill, tmp_path: Path) -> None:
    source, marts = fill(COPENHAGEN, {CLOSED: TWO_DAYS, CREATED: TWO_DAYS})
    target = Warehouse(tmp_path / "moved.duckdb")
    target.copy_from(Path(source.name))
    assert views(target) == {}
    assert marts.make(target) == {}
    overview = "FROM dixa_marts.overview_daily ORDER BY day"
    assert rows(target, overview) == rows(source, overview)
    assert len(rows(target, overview)) == 2


# Odd events


def test_a_conversation_that_is_closed_again_counts_once(warehouse: Warehouse) -> None:
    one = Value(BIGINT, 1)
    put(warehouse, CREATED, "2025-01-06", {"csid": one})
    put(warehouse, CREATED, "2025-01-07")
    put(warehouse, CREATED, "2025-01-08")
    put(warehouse, CLOSED, "2025-01-06")
    put(warehouse, CLOSED, "2025-01-07", {"conversation_id": one})
    put(warehouse, CLOSED, "2025-01-08", {"conversation_id": one}, {"conversation_id": one})
    of_records(CREATED, CLOSED).make(warehouse)
    by_day = (
        "SELECT created, closed, conversations_closed, closed_again, net_new, not_yet_closed "
        "FROM dixa_marts.overview_daily JOIN dixa_marts.backlog_daily USING (day) ORDER BY day"
    )
    assert rows(warehouse, by_day) == [
        (1, 0, 0, 0, 1, 1),
        (0, 1, 1, 0, -1, 0),
        (0, 2, 1, 2, 0, 0),
    ]
    once = "SELECT created, closed, conversations_closed, closed_again FROM "
    assert rows(warehouse, f"{once} dixa_marts.overview_weekly") == [(1, 3, 1, 2)]
    assert rows(warehouse, "SELECT closings FROM dixa_marts.conversations") == [(3,)]


def test_the_last_closing_counts_even_if_it_has_no_agent(warehouse: Warehouse) -> None:
    first = {"conversation_id": Value(BIGINT, 1), "agent_id": text("x"), "queue_id": text("a")}
    put(warehouse, CLOSED, "2025-01-06", first, {"conversation_id": Value(BIGINT, 1)})
    of_records(CLOSED).make(warehouse)
    last = "SELECT last_agent_id, last_queue_id FROM dixa_marts.conversations"
    assert rows(warehouse, last) == [(None, None)]
