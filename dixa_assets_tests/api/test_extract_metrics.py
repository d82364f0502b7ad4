"""Metrics: aggregates of the API become staged rows, with breakdowns and filters."""

from collections.abc import Callable
from typing import Any

import pytest

from dixa_assets.api.client import DixaClient
from dixa_assets.api.extract import extract_filter_values
from dixa_assets.api.requests import FilterValue, build_request, check_attributes
from dixa_assets.errors import ApiContractBroken, ConfigError
from dixa_assets.model.tables import filter_relation
from dixa_assets.simulator.metrics import METRICS
from dixa_assets.simulator.people import filter_values
from dixa_assets.simulator.values import to_instant
from dixa_assets.simulator.world import Filter, World
from dixa_assets.staging import Staged
from dixa_assets_tests.support.days import END, START, aggregates_of, rows_of
from dixa_assets_tests.support.simulator import COPENHAGEN, MILLISECOND, Json, Simulator
from dixa_assets_tests.support.staged import (
    Extracted,
    lines,
    metric_request,
    record_request,
    spec_of,
)

CSAT, CLOSED = metric_request("csat"), "closed_conversations"
Answer = Callable[..., None]

# Aggregates.


def numbers(aggregates: list[Json]) -> list[tuple[str, str | None, float]]:
    """(measure, status, value) of the simulator's aggregates; presence has one per status."""
    found: list[tuple[str, str | None, float]] = []
    for one in aggregates:
        if isinstance(one["value"], list):
            found += [
                ("AgentPresenceDuration", part["status"]["status"], part["value"])
                for part in one["value"]
            ]
        else:
            found.append((one["measure"], None, one["value"]))
    return found


@pytest.mark.parametrize("metric_id", METRICS)
def test_the_numbers_of_every_metric_equal_the_simulators(
    extracted: Extracted, world: World, metric_id: str
) -> None:
    staged = extracted(metric_request(metric_id))
    expected = numbers(aggregates_of(world, metric_id))
    assert expected
    found = [(one["measure"], one["status"], one["value"]) for one in lines(staged)]
    assert found == expected
    assert staged.totals == {
        f"{measure} ({status})" if status else measure: value for measure, status, value in expected
    }


def test_a_row_of_a_metric_names_its_metric_day_and_measure(
    extracted: Extracted, world: World
) -> None:
    assert lines(extracted(metric_request(CLOSED))) == [
        {
            "metric": CLOSED,
            "partition_date": "2025-11-05",
            "interval_start": "2025-11-04T23:00:00+00:00",
            "interval_end": "2025-11-05T23:00:00+00:00",
            "timezone": COPENHAGEN,
            "breakdown_attribute": None,
            "breakdown_value": None,
            "breakdown_label": None,
            "measure": "Count",
            "status": None,
            "value": float(len(rows_of(world, CLOSED))),
            "aggregate": None,
        }
    ]


def test_presence_durations_have_a_row_per_status(extracted: Extracted) -> None:
    found = lines(extracted(metric_request("agent_presence_duration")))
    statuses = [one["status"] for one in found]
    assert {one["measure"] for one in found} == {"AgentPresenceDuration"}
    assert len(set(statuses)) == len(statuses) > 1
    assert None not in statuses


def test_a_request_names_the_measures_that_the_metric_has(
    simulator: Simulator, extracted: Extracted
) -> None:
    extracted(metric_request("handling_time"))
    extracted(metric_request("message_length"))
    end = to_instant(END - MILLISECOND)
    common = {
        "periodFilter": {"_type": "Interval", "start": to_instant(START), "end": end},
        "timezone": COPENHAGEN,
    }
    measures = ["Count", "Average", "Min", "Max", "Sum", "StdDev"]
    assert [one["body"] for one in simulator.requests()] == [
        {"id": "handling_time", **common, "aggregations": measures},
        {"id": "message_length", **common},
    ]


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
def test_an_aggregate_of_unknown_shape_is_stored_whole(
    answer: Answer, extracted: Extracted, aggregate: Any, measure: str
) -> None:
    answer({"data": {"id": "csat", "aggregates": [aggregate]}})
    (row,) = lines(extracted(CSAT))
    assert (row["measure"], row["value"], row["aggregate"]) == (measure, None, aggregate)


def test_a_number_of_an_unknown_type_is_stored_as_a_number(
    simulator: Simulator, extracted: Extracted, world: World
) -> None:
    simulator.tell("faults", kind="unknown_type", type="HologramAggregateValue")
    staged = extracted(metric_request("rating_score"))
    found = [(one["measure"], one["status"], one["value"]) for one in lines(staged)]
    assert found == numbers(aggregates_of(world, "rating_score"))
    assert staged.unknown == {"aggregates": "HologramAggregateValue"}


@pytest.mark.parametrize("value", [{"value": None}, {}])
def test_a_measure_without_a_number_is_null_and_not_zero(
    answer: Answer, extracted: Extracted, value: Json
) -> None:
    aggregate = {"_type": "DoubleAggregateValue", "measure": "Average", **value}
    answer({"data": {"id": "csat", "aggregates": [aggregate]}})
    staged = extracted(CSAT)
    (row,) = lines(staged)
    assert (row["measure"], row["value"], row["aggregate"]) == ("Average", None, None)
    assert staged.totals == {}


@pytest.mark.parametrize("aggregates", [{}, {"aggregates": None}, {"aggregates": []}])
def test_a_metric_without_aggregates_has_no_rows(
    answer: Answer, extracted: Extracted, aggregates: Json
) -> None:
    answer({"data": {"id": "csat", **aggregates}})
    staged = extracted(CSAT)
    assert lines(staged) == []
    assert staged.usage.requests == 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"id": "csat", "aggregates": {"Count": 5}}, "'csat'.*not a list"),
        ({"id": "csat", "aggregates": 7}, "'csat'.*not a list"),
        ({"id": "csat", "aggregates": "Count"}, "'csat'.*not a list"),
        ({"id": "nps", "aggregates": []}, "'csat'.*'nps'"),
        ({"id": "csat", "aggregates": [{"measure": "Count", "value": 2**53 + 1}]}, "too large"),
    ],
)
def test_an_answer_that_cannot_be_stored_is_an_error(
    answer: Answer, extracted: Extracted, data: Json, message: str
) -> None:
    answer({"data": data})
    with pytest.raises(ApiContractBroken, match=message):
        extracted(CSAT)


# Breakdowns and filters.

CHANNELS = tuple(
    FilterValue(one.value, one.label) for one in (filter_values("channel") or ()) if one.label
)


def test_a_breakdown_sends_a_request_and_stores_a_labelled_row_per_value(
    simulator: Simulator, extracted: Extracted, world: World
) -> None:
    staged = extracted(metric_request(CLOSED, breakdowns={"channel": CHANNELS}))
    assert [one["body"].get("filters") for one in simulator.requests()] == [
        None,
        *([{"attribute": "channel", "values": [one.value]}] for one in CHANNELS),
    ]
    total = len(rows_of(world, CLOSED))
    by_channel = [
        len(rows_of(world, CLOSED, filters=[Filter("channel", (one.value,))])) for one in CHANNELS
    ]
    assert total == sum(by_channel) > 0
    names = ("breakdown_attribute", "breakdown_value", "breakdown_label", "value")
    assert [tuple(line[name] for name in names) for line in lines(staged)] == [
        (None, None, None, total),
        *(
            ("channel", one.value, one.label, rows)
            for one, rows in zip(CHANNELS, by_channel, strict=True)
        ),
    ]
    assert staged.totals == {"Count": total}


def test_several_breakdowns_are_not_combined(extracted: Extracted) -> None:
    directions = (FilterValue("INBOUND"), FilterValue("OUTBOUND", "Out"))
    breakdowns = {"channel": CHANNELS[:2], "initial_direction": directions}
    found = lines(extracted(metric_request(CLOSED, breakdowns=breakdowns)))
    assert [(one["breakdown_attribute"], one["breakdown_value"]) for one in found] == [
        (None, None),
        ("channel", CHANNELS[0].value),
        ("channel", CHANNELS[1].value),
        ("initial_direction", "INBOUND"),
        ("initial_direction", "OUTBOUND"),
    ]


def test_every_request_sends_the_filters_and_a_filtered_breakdown_has_only_their_values(
    simulator: Simulator, extracted: Extracted
) -> None:
    first, second, *_ = (one.value for one in CHANNELS)
    filters = {"channel": [first, second], "initial_direction": ["INBOUND"]}
    extracted(metric_request(CLOSED, filters, breakdowns={"channel": CHANNELS}))
    inbound = {"attribute": "initial_direction", "values": ["INBOUND"]}
    assert [one["body"]["filters"] for one in simulator.requests()] == [
        [{"attribute": "channel", "values": values}, inbound]
        for values in ([first, second], [first], [second])
    ]


def test_a_record_is_filtered_too(extracted: Extracted, world: World) -> None:
    channel = CHANNELS[0].value
    staged = extracted(record_request("ratings", filters={"channel": [channel]}))
    kept = rows_of(world, "ratings", filters=[Filter("channel", (channel,))])
    assert 0 < len(kept) < len(rows_of(world, "ratings"))
    assert staged.rows == len(kept)


@pytest.mark.parametrize("name", ["channel", "period", "self", "not an identifier"])
def test_a_breakdown_attribute_may_have_any_name(
    simulator: Simulator, extracted: Extracted, name: str
) -> None:
    extracted(metric_request("csat", breakdowns={name: (FilterValue("v"),)}))
    expected = [{"attribute": name, "values": ["v"]}]
    assert simulator.requests()[-1]["body"]["filters"] == expected


@pytest.mark.parametrize("setting", ["filters", "breakdowns"])
def test_an_attribute_that_the_entry_does_not_offer_is_rejected(setting: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_attributes(spec_of("metric", CLOSED).entry, **{setting: {"agent_id": ["someone"]}})
    message = str(caught.value)
    assert message.startswith(f"{setting} of metric '{CLOSED}': 'agent_id' is no")
    assert message.endswith("by: channel, contact_point, initial_direction, queue_id, tag_id.")


def test_the_error_says_that_an_entry_has_no_attributes() -> None:
    with pytest.raises(ConfigError, match="filtered by: none"):
        check_attributes(
            spec_of("metric", "knowledge_article_usage").entry, filters={"channel": ["chat"]}
        )


def test_a_request_is_built_with_the_values_that_the_api_offers(client: DixaClient) -> None:
    spec = spec_of("metric", "csat", breakdowns=("channel",), required_filter="channel")
    request = build_request(client, spec)
    assert request.breakdowns == {"channel": CHANNELS}
    assert request.filters == {"channel": [one.value for one in CHANNELS]}


def test_a_filter_of_the_user_replaces_the_required_one(client: DixaClient) -> None:
    filters = {"channel": [CHANNELS[0].value]}
    spec = spec_of("metric", "csat", filters=filters, required_filter="channel")
    assert build_request(client, spec).filters == filters


# Filter values.


def test_filter_values_are_staged_with_their_labels(
    client: DixaClient, stage: Callable[..., Staged]
) -> None:
    staged = stage(filter_relation("channel", "channel").stored_in)
    extract_filter_values(client, "channel", staged)
    assert lines(staged) == [{"value": one.value, "label": one.label} for one in CHANNELS]


def test_a_filter_value_that_is_listed_twice_is_staged_once(
    answer: Answer, client: DixaClient, stage: Callable[..., Staged]
) -> None:
    first, second = {"value": "a", "label": "A"}, {"value": "b"}
    answer({"data": [first, second, first]})
    staged = stage(filter_relation("channel", "channel").stored_in)
    extract_filter_values(client, "channel", staged)
    assert lines(staged) == [first, {**second, "label": None}]


@pytest.mark.parametrize("item", [{"label": "A"}, {"value": 7}, "a", None])
def test_a_filter_value_that_is_not_text_is_an_error(
    answer: Answer, client: DixaClient, stage: Callable[..., Staged], item: Any
) -> None:
    answer({"data": [item]})
    with pytest.raises(ApiContractBroken, match="filter 'channel'"):
        extract_filter_values(client, "channel", stage())
