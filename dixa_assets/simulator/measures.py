"""Functions that compute the aggregates of a metric from the rows of its record.

Which metric uses which function is declared in `metrics`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from math import fsum, sqrt

from dixa_assets.simulator.people import PRESENCES, WORKING
from dixa_assets.simulator.values import Json, Row

Reducer = Callable[[Sequence[Row]], list[Json]]

PRESENCE = "AgentPresenceDuration"
MEASURES = ("Min", "Max", "Sum", "Count", "Percentage", PRESENCE, "StdDev", "Average")


def measure_of(aggregate: Json) -> str:
    """The measure of an aggregate. Only the list of presence durations names none."""
    return str(aggregate.get("measure", PRESENCE))


def count_of(rows: Sequence[Row]) -> list[Json]:
    """The number of rows."""
    return [_count(len(rows))]


def numbers_of(rows: Sequence[Row]) -> list[Json]:
    """The number of rows, and every statistic of their `value`. Statistics ignore nulls."""
    return [_count(len(rows)), *_statistics(row.value for row in rows)]


def field_numbers_of(name: str) -> Reducer:
    """A reducer that returns every statistic of a numeric field, without its nulls."""
    return lambda rows: _statistics(row.field(name) for row in rows)


def share_of(condition: Callable[[Row], bool]) -> Reducer:
    """A reducer that returns the percentage of rows that meet a condition."""
    return lambda rows: _percentage(sum(map(condition, rows)), rows)


def net_promoters_of(rows: Sequence[Row]) -> list[Json]:
    """The percentage of scores 9 and 10 minus the percentage of scores 0 to 6."""
    scores = [score_of(row) for row in rows]
    net = sum(score >= 9 for score in scores) - sum(score <= 6 for score in scores)
    return _percentage(net, rows)


def groups_of(key: Callable[[Row], object]) -> Reducer:
    """A reducer over groups of rows: Count is the number of groups, Sum the number of rows."""

    def reduce(rows: Sequence[Row]) -> list[Json]:
        sizes = Counter(map(key, rows))
        # A row without a key belongs to no group.
        del sizes[None]
        return [_count(len(sizes)), *_statistics(sizes.values())]

    return reduce


def presence_of(rows: Sequence[Row]) -> list[Json]:
    """The seconds in each presence status, as one aggregate without a measure."""
    durations = [
        {
            "value": fsum(map(score_of, matching)),
            "status": {
                "status": status.value,
                "description": f"Agents were {status.label.lower()}",
            },
        }
        for status in PRESENCES
        if (matching := [row for row in rows if row.field("presence_status") == status])
    ]
    description = "Seconds per presence status"
    aggregate = {"value": durations, "description": description, "_type": f"{PRESENCE}Value"}
    return [aggregate] if durations else []


def working_time_of(rows: Sequence[Row]) -> list[Json]:
    """The seconds in the status "working", as one number."""
    matching = [row for row in rows if row.field("presence_status") == WORKING]
    return [_double(PRESENCE, fsum(map(score_of, matching)))] if matching else []


def score_of(row: Row) -> float:
    """The number in a row's `value`."""
    if not isinstance(row.value, (int, float)):
        raise TypeError(f"a row of {row.record_id} has no number")
    return float(row.value)


def _count(value: int) -> Json:
    return {"value": value, "measure": "Count", "_type": "LongAggregateValue"}


def _double(measure: str, value: float) -> Json:
    return {"value": value, "measure": measure, "_type": "DoubleAggregateValue"}


def _percentage(part: int, rows: Sequence[Row]) -> list[Json]:
    return [_double("Percentage", 100.0 * part / len(rows))] if rows else []


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
