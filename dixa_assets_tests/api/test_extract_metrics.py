"""From the API's aggregates to staged rows: measures, breakdowns, filters and their values."""

from collections.abc import Callable
from typing import Any

import pytest

from dixa_assets.api.client import DixaClient
from dixa_assets.api.extract import extract, extract_filter_values
from dixa_assets.api.requests import FilterValue, Request, check_attributes, fetch_filter_values
from dixa_assets.errors import ApiContractBroken, ConfigError
from dixa_assets.model.tables import filter_relation, relation_of
from dixa_assets.simulator.metrics import METRICS
from dixa_assets.simulator.people import filter_values
from dixa_assets.simulator.values import to_instant
from dixa_assets.simulator.world import Filter, World
from dixa_assets.staging import Staged
from dixa_assets_tests.support.days import DAY
from dixa_assets_tests.support.simulator import COPENHAGEN, MILLISECOND, NOW, Json, Simulator
from dixa_assets_tests.support.staged import answer, lines, metric_entry, record_entry

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
    extract(client, Request(metric_entry(metric_id)), DAY, staged)
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
    extract(client, Request(metric_entry("closed_conversations")), DAY, staged)
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
    extract(client, Request(metric_entry("agent_presence_duration")), DAY, staged)
    found = lines(staged)
    statuses = [one["status"] for one in found]
    assert {one["measure"] for one in found} == {"AgentPresenceDuration"}
    assert len(set(statuses)) == len(statuses) > 1
    assert None not in statuses


def test_a_metric_is_asked_for_the_measures_it_offers(
    simulator: Simulator, client: DixaClient, stage: Callable[..., Staged]
) -> None:
    extract(client, Request(metric_entry("handling_time")), DAY, stage())
    extract(client, Request(metric_entry("message_length")), DAY, stage())
    asked = [one["body"] for one in simulator.requests()]
    assert asked[0] == {
        "id": "handling_time",
        "periodFilter": {
            "_type": "Interval",
            "start": to_instant(DAY.start),
            "end": to_instant(DAY.end - MILLISECOND),
        },
        "timezone": COPENHAGEN,
        "aggregations": ["Count", "Average", "Min", "Max", "Sum", "StdDev"],
    }
    assert asked[1] == {
        "id": "message_length",
        "periodFilter": {
            "_type": "Interval",
            "start": to_instant(DAY.start),
            "end": to_instant(DAY.end - MILLISECOND),
        },
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
    extract(client, Request(metric_entry("csat")), DAY, staged)
    (row,) = lines(staged)
    assert (row["measure"], row["value"], row["aggregate"]) == (measure, None, aggregate)


def test_a_number_of_unknown_type_is_a_number(
    simulator: Simulator, client: DixaClient, world: World, stage: Callable[..., Staged]
) -> None:
    simulator.tell("faults", kind="unknown_type", type="HologramAggregateValue")
    staged = stage()
    extract(client, Request(metric_entry("rating_score")), DAY, staged)
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
    extract(client, Request(metric_entry("csat")), DAY, staged)
    (row,) = lines(staged)
    assert (row["measure"], row["value"], row["aggregate"]) == ("Average", None, None)
    assert staged.totals == {}


@pytest.mark.parametrize("data", [{"id": "csat"}, {"id": "csat", "aggregates": None}, {}])
def test_a_metric_without_aggregates_has_no_rows(
    simulator: Simulator, client: DixaClient, stage: Callable[..., Staged], data: Json
) -> None:
    answer(simulator, data)
    staged = stage()
    extract(client, Request(metric_entry("csat")), DAY, staged)
    assert lines(staged) == []


def test_empty_aggregates_are_no_rows(
    simulator: Simulator, client: DixaClient, stage: Callable[..., Staged]
) -> None:
    simulator.tell("faults", kind="empty")
    staged = stage()
    extract(client, Request(metric_entry("csat")), DAY, staged)
    assert lines(staged) == []
    assert staged.usage.requests == 1


@pytest.mark.parametrize("aggregates", [{"Count": 5}, 7, "Count"])
def test_aggregates_that_are_no_list_are_refused(
    simulator: Simulator, client: DixaClient, stage: Callable[..., Staged], aggregates: Any
) -> None:
    answer(simulator, {"id": "csat", "aggregates": aggregates})
    with pytest.raises(ApiContractBroken, match="'csat'"):
        extract(client, Request(metric_entry("csat")), DAY, stage())


def test_an_answer_about_another_metric_is_refused(
    simulator: Simulator, client: DixaClient, stage: Callable[..., Staged]
) -> None:
    answer(simulator, {"id": "nps", "aggregates": []})
    with pytest.raises(ApiContractBroken, match="'csat'.*'nps'"):
        extract(client, Request(metric_entry("csat")), DAY, stage())


def test_a_count_no_double_can_hold_is_refused(
    simulator: Simulator, client: DixaClient, stage: Callable[..., Staged]
) -> None:
    aggregate = {"_type": "LongAggregateValue", "measure": "Count", "value": 2**53 + 1}
    answer(simulator, {"id": "csat", "aggregates": [aggregate]})
    with pytest.raises(ApiContractBroken, match="too large"):
        extract(client, Request(metric_entry("csat")), DAY, stage())


# Breakdowns and filters.

CHANNELS = tuple(
    FilterValue(one.value, one.label) for one in (filter_values("channel") or ()) if one.label
)


def test_a_breakdown_has_a_request_and_rows_per_value_with_its_label(
    simulator: Simulator, client: DixaClient, world: World, stage: Callable[..., Staged]
) -> None:
    request = Request(metric_entry("closed_conversations"), breakdowns={"channel": CHANNELS})
    staged = stage()
    extract(client, request, DAY, staged)
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
    request = Request(metric_entry("closed_conversations"), breakdowns={"channel": CHANNELS[:2]})
    staged = stage()
    extract(client, request, DAY, staged)
    rows = world.rows("closed_conversations", start=DAY.start, end=DAY.end, now=NOW)
    assert staged.totals == {"Count": len(rows)}


def test_several_breakdowns_stand_side_by_side(
    simulator: Simulator, client: DixaClient, stage: Callable[..., Staged]
) -> None:
    directions = (FilterValue("INBOUND"), FilterValue("OUTBOUND", "Out"))
    breakdowns = {"channel": CHANNELS[:2], "initial_direction": directions}
    staged = stage()
    request = Request(metric_entry("closed_conversations"), breakdowns=breakdowns)
    extract(client, request, DAY, staged)
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
    request = Request(
        metric_entry("closed_conversations"),
        filters={"channel": [first, second], "initial_direction": ["INBOUND"]},
        breakdowns={"channel": CHANNELS},
    )
    extract(client, request, DAY, stage())
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
    staged = stage(relation_of(entry).stored_in)
    extract(client, Request(entry, filters={"channel": [channel]}), DAY, staged)
    everything = world.rows("ratings", start=DAY.start, end=DAY.end, now=NOW)
    kept = [row for row in everything if Filter("channel", (channel,)).keeps(row)]
    assert 0 < len(kept) < len(everything)
    assert staged.rows == len(kept)


@pytest.mark.parametrize("name", ["channel", "window", "self", "not an identifier"])
def test_an_attribute_of_any_name_can_be_broken_down_by(
    simulator: Simulator, client: DixaClient, stage: Callable[..., Staged], name: str
) -> None:
    request = Request(metric_entry("csat"), breakdowns={name: (FilterValue("v"),)})
    extract(client, request, DAY, stage())
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
    staged = stage(filter_relation("channel", "channel").stored_in)
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
