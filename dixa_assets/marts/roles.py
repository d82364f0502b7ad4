"""The roles that marts read: records and filter values by meaning, whatever their names in Dixa.

Dixa documents two records and two spellings of most fields. An account may have others, so each
role has several candidates for its record and for each field.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from dixa_assets.model.values import BIGINT, BOOLEAN, DATE, DOUBLE, TIMESTAMPTZ, VARCHAR

LIST = f"{VARCHAR}[]"


class Field(NamedTuple):
    """A field of a role: its type, and the columns that may hold it. The first value counts."""

    type: str
    columns: tuple[str, ...]


class Source(NamedTuple):
    """The table behind a role."""

    schema: str
    name: str

    @property
    def key(self) -> str:
        """`schema/name`, as in the load log."""
        return f"{self.schema}/{self.name}"


@dataclass(frozen=True)
class Role:
    """A relation that marts read.

    Args:
        name: Its name in marts.
        ids: The records or filter attributes that may be behind it, the best first.
        fields: Its fields by name. A field that the table lacks is NULL.
        kind: `record` or `filter`.
    """

    name: str
    ids: tuple[str, ...]
    fields: Mapping[str, Field] = field(default_factory=dict)
    kind: str = "record"


def _field(name: str, type_: str, *columns: str) -> dict[str, Field]:
    return {name: Field(type_, columns or (name,))}


def _record(name: str, ids: str, *fields: dict[str, Field]) -> Role:
    own = _field("day", DATE, "partition_date")
    own |= _field("happened_at", TIMESTAMPTZ, "primary_timestamp")
    for each in fields:
        own |= each
    return Role(name, tuple(ids.split()), own)


def _filter(name: str, ids: str) -> Role:
    fields = _field("id", VARCHAR, "value") | _field("name", VARCHAR, "label")
    return Role(name, tuple(ids.split()), fields, "filter")


def _named(name: str, *columns: str) -> dict[str, Field]:
    """The id and the name of an agent, a queue or a tag."""
    columns = (f"{name}_id", *columns)
    labels = tuple(f"{column}_label" for column in columns)
    return _field(f"{name}_id", VARCHAR, *columns) | _field(f"{name}_name", VARCHAR, *labels)


def _labelled(name: str, *columns: str) -> dict[str, Field]:
    """A choice with a display name, such as a channel."""
    return _field(name, VARCHAR, *(each for name in columns for each in (f"{name}_label", name)))


CONVERSATION = _field("conversation_id", BIGINT, "conversation_id", "csid")
AGENT, QUEUE, TAG = _named("agent", "agent"), _named("queue", "queue"), _named("tag", "tag")
CHANNEL = _labelled("channel", "initial_channel", "channel", "current_channel")
DIRECTION = _labelled("direction", "initial_direction", "direction")
SCORE, SECONDS = _field("score", DOUBLE, "value"), _field("seconds", DOUBLE, "value")

ROLES = (
    _record(
        "created",
        "created_conversations conversations_created conversations",
        *(CONVERSATION, CHANNEL, DIRECTION, QUEUE),
        _field("customer_id", VARCHAR, "requester_id", "customer_id", "end_user_id"),
        _labelled("language", "language"),
    ),
    _record(
        "closings",
        "closed_conversations conversations_closed",
        *(CONVERSATION, AGENT, QUEUE, CHANNEL, DIRECTION),
        _field("closed_by", VARCHAR),
        _field("tags", LIST, "tags_label", "tags"),
    ),
    _record(
        "ratings",
        "ratings csat_ratings",
        *(CONVERSATION, AGENT, QUEUE, SCORE),
        _field("answered_at", TIMESTAMPTZ),
        _field("comment", VARCHAR),
    ),
    _record("nps", "nps_ratings nps", CONVERSATION, AGENT, QUEUE, SCORE),
    _record(
        "first_responses",
        "first_response_time first_responses",
        *(CONVERSATION, AGENT, QUEUE, SECONDS),
        _labelled("channel", "channel", "initial_channel", "current_channel"),
        _field("is_within_sla", BOOLEAN),
    ),
    _record(
        "assignments",
        "conversation_assignments assignments",
        *(CONVERSATION, AGENT, QUEUE, SECONDS),
        _field("is_accepted", BOOLEAN),
    ),
    _record("handling", "handling_time", CONVERSATION, AGENT, QUEUE, SECONDS),
    _record(
        "messages",
        "messages_sent messages",
        *(CONVERSATION, AGENT, CHANNEL),
        _field("author_type", VARCHAR),
    ),
    _record(
        "transfers",
        "transferred_conversations conversation_transfers transfers",
        *(CONVERSATION, AGENT, _named("from_queue", "from_queue"), _named("to_queue", "to_queue")),
    ),
    _record("tagged", "tagged_conversations conversation_tags", CONVERSATION, TAG),
    _record(
        "presence",
        "agent_presence presence",
        *(AGENT, SECONDS),
        _field("started_at", TIMESTAMPTZ),
        _field("is_working", BOOLEAN),
    ),
    _filter("listed_agents", "agent_id agent"),
    _filter("listed_queues", "queue_id queue"),
    _filter("listed_tags", "tag_id tag"),
)
RECORD_ROLES = frozenset(role.name for role in ROLES if role.kind == "record")


def find_sources(
    records: Mapping[str, str], filters: Mapping[str, str], chosen: Mapping[str, str]
) -> dict[str, Source]:
    """Find the table behind each role.

    Args:
        records: The tables of records, by id.
        filters: The tables of filter values, by attribute.
        chosen: The record of a role, by role, in place of the candidates.
    """
    sources = {}
    for role in ROLES:
        tables = records if role.kind == "record" else filters
        ids = (chosen[role.name],) if role.name in chosen else role.ids
        names = [tables[each] for each in ids if each in tables]
        if names:
            sources[role.name] = Source(f"dixa_{role.kind}s", names[0])
    return sources
