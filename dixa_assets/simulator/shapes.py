"""The shape of every record's rows: which timestamp is the primary one, which fields follow.

This is what the data carry; what the catalogue says about it differs in places, as it does at
the vendor's.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from dixa_assets.simulator.values import Row, Value

# Name of the primary timestamp, names of the data fields.
_SHAPES = {
    "created_conversations": (
        "created_at: csid initial_direction initial_channel contact_point queue_id requester_id "
        "external_reference language is_anonymous"
    ),
    "closed_conversations": (
        "closed_at: conversation_id csid closed_at agent_id queue_id closed_by initial_direction "
        "initial_channel contact_point tags"
    ),
    "reopened_conversations": "reopened_at: csid queue_id agent_id",
    "transferred_conversations": "transferred_at: csid agent_id from_queue_id to_queue_id",
    "conversation_assignments": (
        "assigned_at: csid agent_id queue_id conversation_created assignment_type is_accepted"
    ),
    "first_response_time": (
        "first_response_at: csid agent_id queue_id channel message_id is_within_sla"
    ),
    "handling_time": "closed_at: csid agent_id queue_id typing_share",
    "messages_sent": (
        "sent_at: csid message_id author_type agent_id channel word_count attachment_count "
        "attachments"
    ),
    "tagged_conversations": "tagged_at: csid tag_id agent_id all_tags",
    "ratings": "offered_at: conversation_id agent_id queue_id survey_id answered_at comment",
    "nps_ratings": "offered_at: conversation_id agent_id queue_id survey_id answered_at",
    "thumbs_ratings": "offered_at: conversation_id agent_id queue_id answered_at is_positive",
    "agent_presence": "ended_at: agent_id presence_status started_at channels is_working",
    "knowledge_article_usage": (
        "used_at: article_id article_version action agent_id search_score keywords"
    ),
}
SHAPES = {
    record_id: (timestamp_name, tuple(names.split()))
    for record_id, shape in _SHAPES.items()
    for timestamp_name, names in [shape.split(": ")]
}


def make_row(record_id: str, at: datetime, values: Sequence[Value | None], **about: Any) -> Row:
    """A row of a record; `about` are the other fields of `Row`."""
    timestamp_name, names = SHAPES[record_id]
    about.setdefault("visible_at", at)
    return Row(record_id, timestamp_name, at, names=names, values=tuple(values), **about)
