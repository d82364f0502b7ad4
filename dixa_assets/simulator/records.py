"""The records of the simulated account: catalogue entries, and the fields of their rows.

The values of the rows do not belong here; `lifecycle` and `timeline` create them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dixa_assets.simulator.metrics import (
    AGENT_FILTERS,
    CONVERSATION_FILTERS,
    CREATION_FILTERS,
    LATE_METRIC,
    METRICS,
    PRESENCE_FILTERS,
    to_filters,
)
from dixa_assets.simulator.values import Json, Row, Value


@dataclass(frozen=True, slots=True)
class Record:
    """One record: its catalogue entry, and the names of the fields in its rows.

    `fields` are the declared fields, each as (description, nullable). `sent` names the fields of a
    row, separated by spaces, where they differ from the declared fields, as they do at the vendor.
    """

    id: str
    timestamp_name: str
    description: str
    fields: Mapping[str, tuple[str, bool]]
    filters: tuple[str, ...] = AGENT_FILTERS
    sent: str = ""

    def to_api(self) -> Json:
        """The catalogue entry."""
        return {
            "id": self.id,
            "description": self.description,
            "filters": to_filters(self.filters),
            "relatedMetricIds": [
                metric.id
                for metric in METRICS.values()
                if metric.record_id == self.id and metric.is_related
            ],
            "fieldsMetadata": [
                {"field": field, "description": description, "nullable": nullable}
                for field, (description, nullable) in self.fields.items()
            ],
        }


CONVERSATION = {"csid": ("Number of the conversation", False)}
AGENT = {"agent_id": ("The agent at work", True)}
QUEUE = {"queue_id": ("The queue at that time", True)}
SURVEYED = {
    "conversation_id": ("Number of the conversation", False),
    "agent_id": ("The agent who had the conversation", True),
    "queue_id": ("The queue when the conversation was offered", True),
}
ANSWERED = {"answered_at": ("When the customer answered", False)}

_RECORDS = (
    # The vendor documents the declared fields of the first two records. Their rows have more.
    Record(
        "ratings",
        "offered_at",
        "Answers to satisfaction surveys",
        SURVEYED,
        sent="conversation_id agent_id queue_id survey_id answered_at comment",
    ),
    Record(
        "closed_conversations",
        "closed_at",
        "Closings of conversations",
        {
            "closed_at": ("When the conversation was closed", False),
            "conversation_id": ("Number of the conversation", False),
            "agent_id": ("The agent who closed it", True),
            "queue_id": ("The queue when it was closed", True),
            "closed_by": ("Who closed it: Agent, Enduser or Unknown", False),
        },
        filters=CONVERSATION_FILTERS,
        sent="conversation_id csid closed_at agent_id queue_id closed_by initial_direction "
        "initial_channel contact_point tags",
    ),
    Record(
        "created_conversations",
        "created_at",
        "New conversations",
        {
            **CONVERSATION,
            "initial_direction": ("Who began it", False),
            "initial_channel": ("The channel it began on", False),
            "contact_point": ("The address or number it began at", False),
            **QUEUE,
            "requester_id": ("The customer", False),
            "external_reference": ("Number of the order in another system", True),
            "language": ("Language of the customer", False),
            "is_anonymous": ("Whether the customer is unknown", False),
        },
        filters=CREATION_FILTERS,
    ),
    Record(
        "transferred_conversations",
        "transferred_at",
        "Transfers to another queue",
        {
            **CONVERSATION,
            **AGENT,
            "from_queue_id": ("The queue before", True),
            "to_queue_id": ("The queue after", False),
        },
    ),
    Record(
        "conversation_assignments",
        "assigned_at",
        "Offers of a conversation to an agent; the value is the wait in seconds, when accepted",
        {
            **CONVERSATION,
            "agent_id": ("The agent it was offered to", False),
            **QUEUE,
            "conversation_created": ("When the conversation was created", False),
            "assignment_type": ("How the agent came by it", False),
            "is_accepted": ("Whether the agent accepted", False),
        },
    ),
    Record(
        "first_response_time",
        "first_response_at",
        "First replies of an agent; the value is the time since creation in seconds",
        {
            **CONVERSATION,
            "agent_id": ("The agent who replied", False),
            **QUEUE,
            "channel": ("The channel of the reply", False),
            "message_id": ("The reply", False),
            "is_within_sla": ("Whether it came within the hour", False),
        },
    ),
    Record(
        "handling_time",
        "closed_at",
        "Work on conversations until they were closed; the value is in seconds",
        {**CONVERSATION, **AGENT, **QUEUE, "typing_share": ("Part of it spent typing", True)},
    ),
    Record(
        "messages_sent",
        "sent_at",
        "Messages, from agents and from customers",
        {
            **CONVERSATION,
            "message_id": ("The message", False),
            "author_type": ("Who wrote it", False),
            "agent_id": ("The agent who wrote it", True),
            "channel": ("The channel of the conversation", False),
            "word_count": ("Number of words", False),
            "attachment_count": ("Number of files", False),
            "attachments": ("Names of the files", True),
            "translated_from": ("Language before translation", True),
        },
        # Without `translated_from`: the vendor too declares fields that it never sends.
        sent="csid message_id author_type agent_id channel word_count attachment_count attachments",
    ),
    Record(
        "tagged_conversations",
        "tagged_at",
        "Tags put on conversations",
        {
            **CONVERSATION,
            "tag_id": ("The tag", False),
            "agent_id": ("The agent who put it on; null when a rule did", True),
            "all_tags": ("Every tag on the conversation afterwards", False),
        },
    ),
    Record(
        "nps_ratings",
        "offered_at",
        "Answers to recommendation surveys",
        {**SURVEYED, **ANSWERED},
        sent="conversation_id agent_id queue_id survey_id answered_at",
    ),
    Record(
        "thumbs_ratings",
        "offered_at",
        "Thumbs up and down",
        {**SURVEYED, **ANSWERED, "is_positive": ("Whether the thumb was up", False)},
    ),
    Record(
        "agent_presence",
        "ended_at",
        "Intervals of an agent's presence; the value is the length in seconds",
        {
            "agent_id": ("The agent", False),
            "presence_status": ("The status during the interval", False),
            "started_at": ("When the interval began", False),
            "channels": ("Channels the agent was open for", False),
            "is_working": ("Whether the status counts as work", False),
        },
        filters=PRESENCE_FILTERS,
    ),
    Record(
        "knowledge_article_usage",
        "used_at",
        "Uses of a knowledge article",
        {
            "article_id": ("The article", False),
            "article_version": ("Its version", False),
            "action": ("What was done with it", False),
            **AGENT,
            "search_score": ("How well a search matched it", True),
            "keywords": ("Words searched for", True),
        },
        filters=("agent_id",),
    ),
)
RECORDS = {record.id: record for record in _RECORDS}

# The rows of the late metric belong to a record that the catalogue does not list.
_UNLISTED = Record(
    LATE_METRIC.record_id, "reopened_at", "", {}, LATE_METRIC.filters, "csid queue_id agent_id"
)
_ROW_FIELDS = {
    record.id: (record.timestamp_name, tuple(record.sent.split() or record.fields))
    for record in (*_RECORDS, _UNLISTED)
}
RECORD_FILTERS = {record.id: record.filters for record in (*_RECORDS, _UNLISTED)}


def make_row(record_id: str, at: datetime, values: Sequence[Value | None], **context: Any) -> Row:
    """A row of a record, visible at once by default; `context` are other fields of `Row`."""
    timestamp_name, names = _ROW_FIELDS[record_id]
    context.setdefault("visible_at", at)
    return Row(record_id, timestamp_name, at, names=names, values=tuple(values), **context)
