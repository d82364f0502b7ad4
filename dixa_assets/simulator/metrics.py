"""The metrics of the simulated account: catalogue entries, and how each value is computed.

The computations themselves belong in `measures`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dixa_assets.simulator import measures
from dixa_assets.simulator.measures import PRESENCE, Reducer, count_of, measure_of
from dixa_assets.simulator.values import Json, Row

CREATION_FILTERS = ("queue_id", "channel", "initial_direction", "contact_point")
CONVERSATION_FILTERS = ("queue_id", "channel", "initial_direction", "tag_id", "contact_point")
AGENT_FILTERS = ("agent_id", *CONVERSATION_FILTERS)
PRESENCE_FILTERS = ("agent_id", "presence_status")

COUNT = {"Count": "How many there were"}
PERCENTAGE = {"Percentage": "Share on a scale from 0 to 100"}
STATISTICS = {
    "Average": "Mean of the values",
    "Min": "Smallest value",
    "Max": "Largest value",
    "Sum": "All values added up",
    "StdDev": "Standard deviation of the values",
}
ALL = {"Count": "How many values there were", **STATISTICS}


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: its catalogue entry, and the reducer that computes it from rows of a record."""

    id: str
    description: str
    record_id: str
    reducer: Reducer = count_of
    measures: Mapping[str, str] = field(default_factory=lambda: COUNT)
    filters: tuple[str, ...] = AGENT_FILTERS
    is_related: bool = True
    lists_aggregations: bool = True

    def to_api(self) -> Json:
        """The catalogue entry, without the keys that would be empty."""
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

    def aggregates(self, rows: Sequence[Row]) -> list[Json]:
        """The aggregates of `rows` as the API sends them, in the order of the catalogue."""
        by_measure = {measure_of(aggregate): aggregate for aggregate in self.reducer(rows)}
        return [by_measure[measure] for measure in self.measures if measure in by_measure]


def to_filters(attributes: tuple[str, ...]) -> list[Json]:
    """The filters of a catalogue entry."""
    return [
        {"filterAttribute": name, "description": f"Keeps rows with one of the given {name} values"}
        for name in attributes
    ]


_METRICS = (
    Metric(
        "csat",
        "Share of survey answers that were a 4 or a 5, times 100",
        "ratings",
        measures.share_of(lambda row: measures.score_of(row) >= 4),
        PERCENTAGE,
    ),
    Metric(
        "closed_conversations",
        "Number of times a conversation was closed",
        "closed_conversations",
        filters=CONVERSATION_FILTERS,
    ),
    Metric(
        "created_conversations",
        "Number of new conversations",
        "created_conversations",
        filters=CREATION_FILTERS,
    ),
    Metric(
        "transferred_conversations",
        "Number of transfers to another queue",
        "transferred_conversations",
    ),
    Metric(
        "conversation_assignments",
        "Number of offers of a conversation to an agent, declined ones included",
        "conversation_assignments",
    ),
    Metric(
        "conversation_assignments_per_agent",
        "Offers of a conversation, per agent: counts agents, and sums up their offers",
        "conversation_assignments",
        measures.groups_of(lambda row: row.agent and row.agent.id),
        {"Count": "Number of agents", "Sum": "Offers over all agents"},
    ),
    Metric(
        "first_response_time",
        "Seconds from creation to an agent's first reply",
        "first_response_time",
        measures.numbers_of,
        ALL,
    ),
    Metric(
        "sla_first_response",
        "Share of first replies that came within the hour",
        "first_response_time",
        measures.share_of(lambda row: row.field("is_within_sla") is True),
        PERCENTAGE,
    ),
    Metric(
        "wait_time",
        "Seconds from creation until an agent took the conversation; declined offers do not count",
        "conversation_assignments",
        measures.numbers_of,
        {"Average": "Mean wait", "Max": "Longest wait"},
    ),
    Metric(
        "assignment_acceptance",
        "Share of offers an agent accepted",
        "conversation_assignments",
        measures.share_of(lambda row: row.field("is_accepted") is True),
        PERCENTAGE,
    ),
    Metric(
        "handling_time",
        "Seconds an agent spent on a conversation until it was closed",
        "handling_time",
        measures.numbers_of,
        ALL,
    ),
    Metric("messages_sent", "Number of messages, from agents and from customers", "messages_sent"),
    Metric(
        "messages_per_conversation",
        "Messages per conversation: counts conversations, and looks at their messages",
        "messages_sent",
        measures.groups_of(lambda row: row.conversation and row.conversation.csid),
        {"Average": "Mean per conversation", "Max": "Most in a conversation"},
    ),
    Metric(
        "message_length",
        "Words per message",
        "messages_sent",
        measures.field_numbers_of("word_count"),
        STATISTICS,
        lists_aggregations=False,
    ),
    Metric("tagged_conversations", "Number of tags put on conversations", "tagged_conversations"),
    Metric(
        "untagged_closings",
        "Share of closings of a conversation that had no tag",
        "closed_conversations",
        measures.share_of(lambda row: not row.tags),
        PERCENTAGE,
        filters=CONVERSATION_FILTERS,
    ),
    Metric(
        "ratings_received",
        "Number of satisfaction surveys answered, by the time they were offered",
        "ratings",
    ),
    Metric("rating_score", "Satisfaction score from 1 to 5", "ratings", measures.numbers_of, ALL),
    Metric(
        "nps",
        "Promoters less detractors, in percent of all answers",
        "nps_ratings",
        measures.net_promoters_of,
        {"Percentage": "Net share, from -100 to 100"},
    ),
    Metric(
        "nps_ratings",
        "Number of recommendation surveys answered, by the time they were offered",
        "nps_ratings",
    ),
    Metric(
        "thumbs_up",
        "Share of thumbs that were up",
        "thumbs_ratings",
        measures.share_of(lambda row: row.field("is_positive") is True),
        PERCENTAGE,
    ),
    Metric(
        "agent_presence_duration",
        "Seconds agents spent in each presence status, by the end of the interval",
        "agent_presence",
        measures.presence_of,
        {PRESENCE: "Seconds per status"},
        filters=PRESENCE_FILTERS,
    ),
    Metric(
        "agent_working_time",
        "Seconds agents were working, by the end of the interval",
        "agent_presence",
        measures.working_time_of,
        {PRESENCE: "Seconds over all agents"},
        filters=("agent_id",),
    ),
    Metric(
        "active_agents",
        "Number of agents with any presence, counted per agent",
        "agent_presence",
        measures.groups_of(lambda row: row.agent and row.agent.id),
        COUNT,
        filters=PRESENCE_FILTERS,
        is_related=False,
    ),
    Metric(
        "knowledge_article_usage",
        "Number of times an article was used; can not be filtered",
        "knowledge_article_usage",
        filters=(),
    ),
    Metric(
        "knowledge_search_score",
        "How well a search matched the article used, from 0 to 1",
        "knowledge_article_usage",
        measures.field_numbers_of("search_score"),
        {"Average": "Mean score", "Min": "Worst score", "Max": "Best score"},
        filters=("agent_id",),
    ),
)
METRICS = {metric.id: metric for metric in _METRICS}

# `--add-metric-after` adds it to the catalogue while the server runs.
LATE_METRIC = Metric(
    "reopened_conversations",
    "Number of times a closed conversation was opened again",
    "reopened_conversations",
    filters=CONVERSATION_FILTERS,
    is_related=False,
)
