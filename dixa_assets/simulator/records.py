"""The records of the simulated account, as its catalogue describes them."""

from collections.abc import Mapping
from dataclasses import dataclass

from dixa_assets.simulator.metrics import (
    AGENT_FILTERS,
    CONVERSATION_FILTERS,
    CREATION_FILTERS,
    METRICS,
    PRESENCE_FILTERS,
    to_filters,
)
from dixa_assets.simulator.values import Json


@dataclass(frozen=True, slots=True)
class Record:
    """One record: what the catalogue says about it. A field is (description, nullable)."""

    id: str
    description: str
    fields: Mapping[str, tuple[str, bool]]
    filters: tuple[str, ...] = AGENT_FILTERS

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
    # Exactly the declared fields the vendor documents for these two; the data carry more.
    Record("ratings", "Answers to satisfaction surveys", SURVEYED),
    Record(
        "closed_conversations",
        "Closings of conversations",
        {
            "closed_at": ("When the conversation was closed", False),
            "conversation_id": ("Number of the conversation", False),
            "agent_id": ("The agent who closed it", True),
            "queue_id": ("The queue when it was closed", True),
            "closed_by": ("Who closed it: Agent, Enduser or Unknown", False),
        },
        filters=CONVERSATION_FILTERS,
    ),
    Record(
        "created_conversations",
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
        "Work on conversations until they were closed; the value is in seconds",
        {**CONVERSATION, **AGENT, **QUEUE, "typing_share": ("Part of it spent typing", True)},
    ),
    Record(
        "messages_sent",
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
            # Declared and never sent, as it happens at the vendor's.
            "translated_from": ("Language before translation", True),
        },
    ),
    Record(
        "tagged_conversations",
        "Tags put on conversations",
        {
            **CONVERSATION,
            "tag_id": ("The tag", False),
            "agent_id": ("The agent who put it on; null when a rule did", True),
            "all_tags": ("Every tag on the conversation afterwards", False),
        },
    ),
    Record("nps_ratings", "Answers to recommendation surveys", {**SURVEYED, **ANSWERED}),
    Record(
        "thumbs_ratings",
        "Thumbs up and down",
        {**SURVEYED, **ANSWERED, "is_positive": ("Whether the thumb was up", False)},
    ),
    Record(
        "agent_presence",
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
RECORDS = {one.id: one for one in _RECORDS}
