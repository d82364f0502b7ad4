"""The time that marts take, on records that SQL generates."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dixa_assets.marts.builder import Marts
from dixa_assets.model.catalogue import Catalogue, Entry
from dixa_assets.warehouse.sql import Query
from dixa_assets.warehouse.warehouse import Warehouse
from dixa_assets_tests.bench.table import Found
from dixa_assets_tests.support.simulator import COPENHAGEN

# Messages of a conversation, and presences of an agent on a day.
MESSAGES, PRESENCES = 4, 5
CONVERSATIONS = """
    SELECT i AS csid, TIMESTAMPTZ '2023-01-02 00:00:00+00' + to_milliseconds(i * {step}) AS begun,
           'channel ' || hash(i) % 5 AS channel, 'queue ' || hash(i, 1) % 20 AS queue,
           'agent ' || hash(i, 2) % {agents} AS agent,
           to_seconds((60 + hash(i, 3) % 7200)::BIGINT) AS reply,
           to_seconds((7200 + hash(i, 4) % 90000)::BIGINT) AS life
    FROM range({conversations}) AS numbers(i)
"""
# The moment of a row, its other columns, and its source.
RECORDS = {
    "created_conversations": (
        "begun",
        "csid, channel AS initial_channel_label, 'Inbound' AS initial_direction_label, "
        "queue AS queue_id, 'customer ' || hash(csid, 5) % 200000 AS requester_id, "
        "'da' AS language",
        "conversation",
    ),
    "closed_conversations": (
        "begun + (number + 1) * life",
        "csid AS conversation_id, agent AS agent_id, queue AS queue_id, 'Agent' AS closed_by, "
        "channel AS initial_channel_label, ['a tag'] AS tags_label",
        "conversation, range(1 + (csid % 8 = 0)::BIGINT) AS numbers(number)",
    ),
    "ratings": (
        "begun + life",
        "csid AS conversation_id, agent AS agent_id, queue AS queue_id, "
        "1 + hash(csid, 6) % 5 AS value, begun + 2 * life AS answered_at, 'Thanks' AS comment",
        "conversation WHERE csid % 3 = 0",
    ),
    "nps_ratings": (
        "begun + life",
        "csid AS conversation_id, agent AS agent_id, queue AS queue_id, hash(csid) % 11 AS value",
        "conversation WHERE csid % 9 = 0",
    ),
    "first_response_time": (
        "begun + reply",
        "csid, agent AS agent_id, queue AS queue_id, channel AS channel_label, "
        "epoch(reply) AS value, epoch(reply) < 3600 AS is_within_sla",
        "conversation",
    ),
    "conversation_assignments": (
        "begun + reply / 2",
        "csid, agent AS agent_id, queue AS queue_id, number = 0 AS is_accepted, "
        "CASE WHEN number = 0 THEN epoch(reply) / 2 END AS value",
        "conversation, range(1 + (csid % 5 = 0)::BIGINT) AS numbers(number)",
    ),
    "handling_time": (
        "begun + life",
        "csid, agent AS agent_id, queue AS queue_id, epoch(life) / 20 AS value",
        "conversation",
    ),
    "messages_sent": (
        "begun + number * reply",
        "csid, agent AS agent_id, channel AS channel_label, "
        "CASE WHEN number % 2 = 1 THEN 'AGENT' ELSE 'END_USER' END AS author_type",
        f"conversation, range({MESSAGES}) AS numbers(number)",
    ),
    "transferred_conversations": (
        "begun + reply",
        "csid, agent AS agent_id, queue AS from_queue_id, "
        "'queue ' || hash(csid, 7) % 20 AS to_queue_id",
        "conversation WHERE csid % 7 = 0",
    ),
    "tagged_conversations": (
        "begun + reply",
        "csid, 'tag ' || hash(csid, 8) % 40 AS tag_id",
        "conversation",
    ),
    "agent_presence": (
        "TIMESTAMPTZ '2023-01-02 07:00:00+00' + to_days(day) + to_hours(2 * number + 2)",
        "'agent ' || agent AS agent_id, 7200.0 AS value, number <> 2 AS is_working, "
        "TIMESTAMPTZ '2023-01-02 07:00:00+00' + to_days(day) + to_hours(2 * number) AS started_at",
        f"range({{agents}}) AS agents(agent), range({{days}}) AS days(day), "
        f"range({PRESENCES}) AS numbers(number)",
    ),
}


@dataclass(frozen=True)
class Size:
    """How much is generated."""

    conversations: int
    days: int
    agents: int


DEMO = Size(4_000, 30, 12)
LARGE = Size(700_000, 3 * 365, 150)
QUICK = Size(20_000, 60, 30)


def marts(folder: Path, quick: bool) -> Iterator[Found | str]:
    """The slowest mart of a small and of a large account, on one thread."""
    for size in (DEMO, QUICK if quick else LARGE):
        warehouse = Warehouse(folder / f"{size.conversations}.duckdb")
        with warehouse.changing():
            # The database now has the zone of its days.
            pass
        with warehouse.reading() as query:
            generate(query, size)
        entries = tuple(Entry("record", name, name) for name in RECORDS)
        made = Marts.of(Catalogue(entries), lambda _: True)
        assert made.make(warehouse) == {}
        with warehouse.reading() as query:
            query("SET threads = 1")
            seconds = {mart.name: seconds_of(query, mart.name) for mart in made.possible}
        slowest = max(seconds, key=lambda name: seconds[name])
        yield Found(f"{slowest}: {seconds[slowest]:.2f} s", values=[seconds[slowest]])
    each = ", ".join(f"`{name}` {taken:.1f} s" for name, taken in sorted(seconds.items()))
    yield f"All marts of the large account: {each}."


def seconds_of(query: Query, mart: str) -> float:
    """The time of every row and every column of a mart."""
    began = time.perf_counter()
    query(f"CREATE OR REPLACE TEMP TABLE answer AS FROM dixa_marts.{mart}")
    taken = time.perf_counter() - began
    assert mart == "revisions" or query("FROM answer LIMIT 1"), f"{mart} is empty"
    return taken


def generate(query: Query, size: Size) -> None:
    """Fill the tables of records, and the project's notes about them."""
    step = size.days * 86_400_000 // size.conversations
    sizes = {"agents": size.agents, "days": size.days, "conversations": size.conversations}
    query(f"CREATE TEMP TABLE conversation AS {CONVERSATIONS.format(step=step, **sizes)}")
    query("CREATE SCHEMA dixa_records")
    for name, (moment, columns, source) in RECORDS.items():
        query(
            f"CREATE TABLE dixa_records.{name} AS "
            f"SELECT timezone('{COPENHAGEN}', {moment})::DATE AS partition_date, "
            f"{moment} AS primary_timestamp, {columns} FROM {source.format(**sizes)} "
            "ORDER BY partition_date"
        )
        query(
            "INSERT INTO dixa_catalogue.loads (asset_key, partition_date, interval_start, "
            f"interval_end) SELECT 'dixa_records/{name}', day::DATE, "
            f"timezone('{COPENHAGEN}', day), timezone('{COPENHAGEN}', day + INTERVAL 1 DAY) "
            f"FROM (SELECT DATE '2023-01-02' + i::INTEGER AS day FROM range({size.days}) AS n(i))"
        )
    query(
        "INSERT INTO dixa_catalogue.columns (table_schema, table_name, column_name, type) "
        "SELECT schema_name, table_name, column_name, data_type FROM duckdb_columns() "
        "WHERE schema_name = 'dixa_records'"
    )
