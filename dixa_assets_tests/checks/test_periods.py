"""The check of weeks and months sees a period that is wrong, missing or cannot be compared."""

from datetime import date

import pytest

from dixa_assets.checks.registry import Finding, Subject, Verdict, checks_of
from dixa_assets.model.catalogue import by_id
from dixa_assets.model.days import days_from
from dixa_assets.model.options import LoadSettings, LoadSpec, Options
from dixa_assets.simulator.metrics import METRICS
from dixa_assets.warehouse.warehouse import Warehouse
from dixa_assets_tests.support.loading import load_days
from dixa_assets_tests.support.simulator import COPENHAGEN, Simulator
from dixa_assets_tests.support.staged import spec_of

# With a clock change.
WEEK = days_from(date(2025, 10, 20), 7, COPENHAGEN)
CHANGE = (
    "UPDATE dixa_metrics.metric_values SET value = value + 1 WHERE partition_date = '2025-10-22'"
)


def metric(metric_id: str) -> LoadSpec:
    return spec_of("metric", metric_id, periods=("week", "month"))


def look(warehouse: Warehouse, spec: LoadSpec) -> Finding:
    subject = Subject(spec, by_id((spec.entry,)), Options(LoadSettings(periods=("week", "month"))))
    (adds_up,) = [check for check in checks_of(subject) if check.name == "adds_up"]
    with warehouse.reading() as query:
        return adds_up.look(query, subject)


@pytest.mark.parametrize(
    ("metric_id", "totals"),
    [
        ("closed_conversations", 1),
        # Count and Sum.
        ("first_response_time", 2),
        # A Count of agents does not add up, their Sum does.
        ("conversation_assignments_per_agent", 1),
        ("active_agents", 0),
        ("agent_presence_duration", 3),
        ("csat", 0),
    ],
)
def test_sound_weeks_pass_and_other_measures_are_not_compared(
    metric_id: str, totals: int, simulator: Simulator, warehouse: Warehouse
) -> None:
    spec = metric(metric_id)
    assert look(warehouse, spec).verdict is Verdict.NO_DATA
    load_days(simulator.url, warehouse, spec, WEEK)
    found = look(warehouse, spec)
    assert found.verdict is (Verdict.PASSED if totals else Verdict.NO_DATA)
    assert [*found.figures.values()] == [totals, 0, 0]


def test_a_week_that_differs_from_its_days_fails(
    simulator: Simulator, warehouse: Warehouse
) -> None:
    spec = metric("closed_conversations")
    load_days(simulator.url, warehouse, spec, WEEK)
    with warehouse.reading() as query:
        query(CHANGE)
    found = look(warehouse, spec)
    assert found.verdict is Verdict.FAILED
    (case,) = found.cases
    assert (case["period"], case["last day"], case["measure"]) == ("week", "2025-10-26", "Count")
    assert case["sum of its days"] == case["whole period"] + 1


def test_a_week_with_a_missing_day_is_not_compared(
    simulator: Simulator, warehouse: Warehouse
) -> None:
    spec = metric("closed_conversations")
    load_days(simulator.url, warehouse, spec, WEEK[1:])
    assert look(warehouse, spec).verdict is Verdict.NO_DATA


def test_a_refused_period_is_named(simulator: Simulator, warehouse: Warehouse) -> None:
    spec = metric("csat")
    load_days(simulator.url, warehouse, spec, WEEK[:-1])
    simulator.tell("faults", kind="status", status=400, id="csat", skip=1, times=1, body="{}")
    load_days(simulator.url, warehouse, spec, WEEK[-1:])
    found = look(warehouse, spec)
    assert found.verdict is Verdict.FAILED
    assert [(case["period"], case["last day"]) for case in found.cases] == [("week", "2025-10-26")]
    assert "Load the last day of each again" in found.reason
    load_days(simulator.url, warehouse, spec, WEEK[-1:])
    assert look(warehouse, spec).verdict is Verdict.NO_DATA


def test_a_period_without_values_is_not_missed_if_its_days_have_none(
    simulator: Simulator, warehouse: Warehouse
) -> None:
    assert METRICS["nps"].measures.keys() == {"Percentage"}
    simulator.tell("faults", kind="empty", id="nps", times=None)
    load_days(simulator.url, warehouse, metric("nps"), WEEK)
    assert look(warehouse, metric("nps")).verdict is Verdict.NO_DATA
