"""The metrics of the simulated account, and how each is computed from the rows of a record."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from dixa_assets.simulator import measures
from dixa_assets.simulator.measures import Reducer
from dixa_assets.simulator.values import Json, Row

CONVERSATION_FILTERS = (
    "queue_id",
    "channel",
    "initial_direction",
    "tag_id",
    "contact_point",
)
AGENT_FILTERS = ("agent_id", *CONVERSATION_FILTERS)
CREATION_FILTERS = ("queue_id", "channel", "initial_direction", "contact_point")
PRESENCE_FILTERS = ("agent_id", "presence_status")


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: what the catalogue says about it, and how its number comes about."""

    id: str
    description: str
    record_id: str
    reducer: Reducer
    measures: Mapping[str, str]
    filters: tuple[str, ...] = AGENT_FILTERS
    is_related: bool = True
    lists_aggregations: bool = True

    def to_api(self) -> Json:
        """The catalogue entry; what is empty is left out."""
        entry: Json = {"id": self.id, "description": self.description}
        if self.filters:
            entry["filters"] = to_filters(self.filters)
        if self.lists_aggregations:
            entry["aggregations"] = [
                {"measure": measure, "description": description}
                for measure, description in self.measures.items()
            ]
        if self.is_related:
            entry["relatedRecordIds"] = [self.record_id]
        return entry


def to_filters(attributes: tuple[str, ...]) -> list[Json]:
    """The filters of a catalogue entry."""
    return [
        {"filterAttribute": one, "description": f"Keeps rows with one of the given {one} values"}
        for one in attributes
    ]


def _rated_well(row: Row) -> bool:
    return measures.score_of(row) >= 4


_COUNT = MappingProxyType({"Count": "How many there were"})
_PERCENT = MappingProxyType({"Percentage": "Share on a scale from 0 to 100"})
_NUMBERS = MappingProxyType(
    {
        "Average": "Mean of the values",
        "Min": "Smallest value",
        "Max": "Largest value",
        "Sum": "All values added up",
        "StdDev": "Standard deviation of the values",
    }
)
_ALL = MappingProxyType({"Count": "How many values there were", **_NUMBERS})

_METRICS = (
    Metric(
        "csat",
        "Share of survey answers that were a 4 or a 5, times 100",
        "ratings",
        measures.share_of(_rated_well),
        _PERCENT,
    ),
    Metric(
        "closed_conversations",
        "Number of times a conversation was closed",
        "closed_conversations",
        measures.count_of,
        _COUNT,
        filters=CONVERSATION_FILTERS,
    ),
    Metric(
        "created_conversations",
        "Number of new conversations",
        "created_conversations",
        measures.count_of,
        _COUNT,
        filters=CREATION_FILTERS,
    ),
    Metric(
        "transferred_conversations",
        "Number of transfers to another queue",
        "transferred_conversations",
        measures.count_of,
        _COUNT,
    ),
    Metric(
        "conversation_assignments",
        "Number of offers of a conversation to an agent, declined ones included",
        "conversation_assignments",
        measures.count_of,
        _COUNT,
    ),
    Metric(
        "conversation_assignments_per_agent",
        "Offers of a conversation, per agent: counts agents, and sums up their offers",
        "conversation_assignments",
        measures.groups_of(lambda row: row.agent),
        MappingProxyType({"Count": "Number of agents", "Sum": "Offers over all agents"}),
    ),
    Metric(
        "first_response_time",
        "Seconds from creation to an agent's first reply",
        "first_response_time",
        measures.numbers_of,
        _ALL,
    ),
    Metric(
        "sla_first_response",
        "Share of first replies that came within the hour",
        "first_response_time",
        measures.share_of(lambda row: row.field("is_within_sla") is True),
        _PERCENT,
    ),
    Metric(
        "wait_time",
        "Seconds from creation until an agent took the conversation; declined offers do not count",
        "conversation_assignments",
        measures.numbers_of,
        MappingProxyType({"Average": "Mean wait", "Max": "Longest wait"}),
    ),
    Metric(
        "assignment_acceptance",
        "Share of offers an agent accepted",
        "conversation_assignments",
        measures.share_of(lambda row: row.field("is_accepted") is True),
        _PERCENT,
    ),
    Metric(
        "handling_time",
        "Seconds an agent spent on a conversation until it was closed",
        "handling_time",
        measures.numbers_of,
        _ALL,
    ),
    Metric(
        "messages_sent",
        "Number of messages, from agents and from customers",
        "messages_sent",
        measures.count_of,
        _COUNT,
    ),
    Metric(
        "messages_per_conversation",
        "Messages per conversation: counts conversations, and looks at their messages",
        "messages_sent",
        measures.groups_of(lambda row: row.conversation and row.conversation.csid),
        MappingProxyType({"Average": "Mean per conversation", "Max": "Most in a conversation"}),
    ),
    Metric(
        "message_length",
        "Words per message",
        "messages_sent",
        measures.field_numbers_of("word_count"),
        _NUMBERS,
        lists_aggregations=False,
    ),
    Metric(
        "tagged_conversations",
        "Number of tags put on conversations",
        "tagged_conversations",
        measures.count_of,
        _COUNT,
    ),
    Metric(
        "untagged_closings",
        "Share of closings of a conversation that had no tag",
        "closed_conversations",
        measures.share_of(lambda row: not row.tags),
        _PERCENT,
        filters=CONVERSATION_FILTERS,
    ),
    Metric(
        "ratings_received",
        "Number of satisfaction surveys answered, by the time they were offered",
        "ratings",
        measures.count_of,
        _COUNT,
    ),
    Metric("rating_score", "Satisfaction score from 1 to 5", "ratings", measures.numbers_of, _ALL),
    Metric(
        "nps",
        "Promoters less detractors, in percent of all answers",
        "nps_ratings",
        measures.net_promoters_of,
        MappingProxyType({"Percentage": "Net share, from -100 to 100"}),
    ),
    Metric(
        "nps_ratings",
        "Number of recommendation surveys answered, by the time they were offered",
        "nps_ratings",
        measures.count_of,
        _COUNT,
    ),
    Metric(
        "thumbs_up",
        "Share of thumbs that were up",
        "thumbs_ratings",
        measures.share_of(lambda row: row.field("is_positive") is True),
        _PERCENT,
    ),
    Metric(
        "agent_presence_duration",
        "Seconds agents spent in each presence status, by the end of the interval",
        "agent_presence",
        measures.presence_of,
        MappingProxyType({"AgentPresenceDuration": "Seconds per status"}),
        filters=PRESENCE_FILTERS,
    ),
    Metric(
        "agent_working_time",
        "Seconds agents were working, by the end of the interval",
        "agent_presence",
        measures.working_time_of,
        MappingProxyType({"AgentPresenceDuration": "Seconds over all agents"}),
        filters=("agent_id",),
    ),
    Metric(
        "active_agents",
        "Number of agents with any presence, counted per agent",
        "agent_presence",
        measures.groups_of(lambda row: row.agent),
        _COUNT,
        filters=PRESENCE_FILTERS,
        is_related=False,
    ),
    Metric(
        "knowledge_article_usage",
        "Number of times an article was used; can not be filtered",
        "knowledge_article_usage",
        measures.count_of,
        _COUNT,
        filters=(),
    ),
    Metric(
        "knowledge_search_score",
        "How well a search matched the article used, from 0 to 1",
        "knowledge_article_usage",
        measures.field_numbers_of("search_score"),
        MappingProxyType({"Average": "Mean score", "Min": "Worst score", "Max": "Best score"}),
        filters=("agent_id",),
    ),
)
METRICS: Mapping[str, Metric] = MappingProxyType({one.id: one for one in _METRICS})

# Joins the catalogue while the server runs, when asked for.
LATE_METRIC = Metric(
    "reopened_conversations",
    "Number of times a closed conversation was opened again",
    "reopened_conversations",
    measures.count_of,
    _COUNT,
    filters=CONVERSATION_FILTERS,
    is_related=False,
)
