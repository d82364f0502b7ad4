"""Field values and data rows, as Python objects and in the API's JSON form.

The types belong here. Which rows exist belongs in `timeline`, HTTP in `app`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Named:
    """A UUID with a display name: an agent, a queue, a tag, an article."""

    id: str
    label: str


@dataclass(frozen=True, slots=True)
class Choice:
    """A string with a display name: a channel, a direction, a status."""

    value: str
    label: str


@dataclass(frozen=True, slots=True)
class Moment:
    """An instant with a name."""

    name: str
    at: datetime


class Int32(int):
    """An integer that the API sends as an `IntField` (32 bits)."""


@dataclass(frozen=True, slots=True)
class _NoValues:
    """A list field that the API sends without the key `values`."""


NO_VALUES = _NoValues()

Value = bool | int | float | str | UUID | datetime | Named | Choice | Moment | list[Any] | _NoValues


def to_instant(at: datetime) -> str:
    """Format a UTC instant with milliseconds and `Z`."""
    return at.isoformat(timespec="milliseconds")[:-6] + "Z"


_TYPED: dict[type, Callable[[Any], Json]] = {
    bool: lambda value: {"value": value, "_type": "BooleanField"},
    Int32: lambda value: {"value": int(value), "_type": "IntField"},
    int: lambda value: {"value": value, "_type": "LongField"},
    float: lambda value: {"value": value, "_type": "DoubleField"},
    str: lambda value: {"value": value, "_type": "StringField"},
    Choice: lambda value: {"value": value.value, "label": value.label, "_type": "StringField"},
    UUID: lambda value: {"value": str(value), "_type": "UUIDField"},
    Named: lambda value: {"value": value.id, "label": value.label, "_type": "UUIDField"},
    datetime: lambda value: {"value": to_instant(value), "_type": "InstantField"},
    Moment: lambda value: {
        "name": value.name,
        "timestamp": to_instant(value.at),
        "_type": "TimestampField",
    },
    list: lambda value: {"values": [to_typed(item) for item in value], "_type": "ListField"},
    _NoValues: lambda _: {"_type": "ListField"},
}


def to_typed(value: Value) -> Json:
    """The JSON of a field, with its `_type`."""
    return _TYPED[type(value)](value)


@dataclass(frozen=True, slots=True)
class Conversation:
    """The properties of a conversation that never change."""

    csid: int
    created_at: datetime
    channel: Choice
    direction: Choice
    contact_point: str
    queue: Named | None


@dataclass(frozen=True, slots=True)
class Row:
    """One row of record data, with the properties that filters and metrics read.

    The event happens at `at`. The API returns the row from `visible_at` on.
    """

    record_id: str
    timestamp_name: str
    at: datetime
    visible_at: datetime
    names: tuple[str, ...]
    values: tuple[Value | None, ...]
    value: Value | None = None
    conversation: Conversation | None = None
    agent: Named | None = None
    queue: Named | None = None
    tags: tuple[Named, ...] = ()

    def field(self, name: str) -> Value | None:
        """The value of one field; None if it is null."""
        return self.values[self.names.index(name)]

    def attribute(self, name: str) -> tuple[str, ...]:
        """The row's values of a filter attribute; empty if it is null."""
        conversation = self.conversation
        match name:
            case "agent_id" if self.agent:
                return (self.agent.id,)
            case "queue_id" if self.queue:
                return (self.queue.id,)
            case "tag_id":
                return tuple(tag.id for tag in self.tags)
            case "channel" if conversation:
                return (conversation.channel.value,)
            case "initial_direction" if conversation:
                return (conversation.direction.value,)
            case "contact_point" if conversation:
                return (conversation.contact_point,)
        return ()

    def to_api(self) -> Json:
        """The row's JSON. A null field has no `field` key."""
        row: Json = {
            "primaryTimestampField": {"name": self.timestamp_name, "timestamp": to_instant(self.at)}
        }
        if self.value is not None:
            row["value"] = to_typed(self.value)
        row["fields"] = [
            {"name": name} if value is None else {"name": name, "field": to_typed(value)}
            for name, value in zip(self.names, self.values, strict=True)
        ]
        return row
