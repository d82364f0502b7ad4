"""Compute a metric's aggregates from the rows of its record: the truth about every number."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from math import fsum, sqrt

from dixa_assets.simulator.people import PRESENCES, WORKING
from dixa_assets.simulator.values import Json, Row

Reducer = Callable[[Sequence[Row]], list[Json]]

MEASURES = (
    "Min",
    "Max",
    "Sum",
    "Count",
    "Percentage",
    "AgentPresenceDuration",
    "StdDev",
    "Average",
)


def count_of(rows: Sequence[Row]) -> list[Json]:
    """The number of rows."""
    return [_count(len(rows))]


def numbers_of(rows: Sequence[Row]) -> list[Json]:
    """Count of the rows and every statistic over their `value`."""
    values = (row.value for row in rows)
    return [_count(len(rows)), *_statistics(value for value in values if is_number(value))]


def field_numbers_of(name: str) -> Reducer:
    """A reducer to every statistic over a numeric field; null fields do not count."""

    def reduce(rows: Sequence[Row]) -> list[Json]:
        values = (row.field(name) for row in rows)
        return _statistics(value for value in values if is_number(value))

    return reduce


def share_of(holds: Callable[[Row], bool]) -> Reducer:
    """A reducer to the percentage of rows for which something holds."""

    def reduce(rows: Sequence[Row]) -> list[Json]:
        if not rows:
            return []
        return [_double("Percentage", 100.0 * sum(map(holds, rows)) / len(rows))]

    return reduce


def net_promoters_of(rows: Sequence[Row]) -> list[Json]:
    """The share of 9 and 10 less the share of 0 to 6, in percent."""
    if not rows:
        return []
    scores = [score_of(row) for row in rows]
    net = sum(score >= 9 for score in scores) - sum(score <= 6 for score in scores)
    return [_double("Percentage", 100.0 * net / len(scores))]


def groups_of(key: Callable[[Row], object]) -> Reducer:
    """A reducer over groups: Count is the number of groups, Sum that of all rows."""

    def reduce(rows: Sequence[Row]) -> list[Json]:
        sizes: dict[object, int] = defaultdict(int)
        for row in rows:
            sizes[key(row)] += 1
        sizes.pop(None, None)
        return [_count(len(sizes)), *_statistics(sizes.values())]

    return reduce


def presence_of(rows: Sequence[Row]) -> list[Json]:
    """The seconds spent in each presence status, as one aggregate without a measure."""
    durations = [
        {
            "value": fsum(score_of(row) for row in matching),
            "status": {
                "status": status.value,
                "description": f"Agents were {status.label.lower()}",
            },
        }
        for status in PRESENCES
        if (matching := [row for row in rows if row.field("presence_status") == status])
    ]
    if not durations:
        return []
    return [
        {
            "value": durations,
            "description": "Seconds per presence status",
            "_type": "AgentPresenceDurationValue",
        }
    ]


def working_time_of(rows: Sequence[Row]) -> list[Json]:
    """The seconds spent working, as a single number."""
    matching = [row for row in rows if row.field("presence_status") == WORKING]
    if not matching:
        return []
    return [_double("AgentPresenceDuration", fsum(score_of(row) for row in matching))]


def is_number(value: object) -> bool:
    """Whether a value can be averaged; a Boolean can not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def score_of(row: Row) -> float:
    """The number a row carries at its top level."""
    if not isinstance(row.value, (int, float)):
        raise TypeError(f"a row of {row.record_id} without a number")
    return float(row.value)


def _count(value: int) -> Json:
    return {"value": value, "measure": "Count", "_type": "LongAggregateValue"}


def _double(measure: str, value: float) -> Json:
    return {"value": value, "measure": measure, "_type": "DoubleAggregateValue"}


def _statistics(values: Iterable[object]) -> list[Json]:
    numbers = [float(value) for value in values if isinstance(value, (int, float))]
    if not numbers:
        return []
    total = fsum(numbers)
    average = total / len(numbers)
    spread = sqrt(fsum((number - average) ** 2 for number in numbers) / len(numbers))
    return [
        _double("Sum", total),
        _double("Min", min(numbers)),
        _double("Max", max(numbers)),
        _double("Average", average),
        _double("StdDev", spread),
    ]
