"""Figures of a period against earlier ones, and the changes that noise explains."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import date, timedelta
from math import sqrt
from statistics import mean, median
from typing import Any

from dixa_assets.report.charts import Values, number

# The number of earlier periods that a figure is compared with, and of those in a small line.
EARLIER = {"day": 8, "week": 4, "month": 4}
RECENT = {"day": 28, "week": 12, "month": 12}
# A percentage of fewer cases has no bar and no verdict.
FEW = 30
# The standard errors that are noise: of one figure, and of one among many or with a known spread.
LIKELY, SURE = 1.96, 3.0
# Units of figures that grow with the length of a period.
SUMMED = ("count", "hours worked")

# A change, and the largest change that is noise.
Change = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Measure:
    """A column of the marts.

    Args:
        column: The column.
        label: Its name for people.
        unit: Its unit.
        better: 1 if more is better, -1 if less is, 0 if neither.
        n: The column with the number of cases of a percentage.
        cases: The name of the cases.
        ripens: True if late ratings change it.
        short: Its name below its theme.
    """

    column: str
    label: str
    unit: str = "count"
    better: int = 0
    n: str = ""
    cases: str = ""
    ripens: bool = False
    short: str = ""


@dataclass(frozen=True, slots=True)
class Compared:
    """A measure in a period and in earlier ones.

    Args:
        measure: The measure.
        label: Its name, with the name of its part.
        starts: The first days of the period and of the one before.
        now: Its value.
        before: Its value one period earlier.
        usual: The mean of the earlier periods; for a day, the median of its weekday.
        n: The number of cases of a percentage that is judged.
        is_ripe: False if late ratings still change the value.
        judged: The value that is compared with `usual`: the one of the ripe days.
        change: The change of `judged` against `usual`; None if it cannot be judged.
        recent: The values of the last periods.
    """

    measure: Measure
    label: str
    starts: tuple[date, date]
    now: float | None
    before: float | None
    usual: float | None
    n: float | None
    is_ripe: bool
    judged: float | None
    change: Change | None
    recent: Values

    @property
    def clarity(self) -> float:
        """The size of the change in relation to noise."""
        return abs(self.change[0]) / (self.change[1] or 1e-9) if self.change else 0

    @property
    def verdict(self) -> str:
        """`better`, `worse`, or `moved` if neither; `noise`; empty if it cannot be judged."""
        if self.change is None:
            return ""
        if self.clarity <= 1:
            return "noise"
        direction = self.measure.better * self.change[0]
        return "better" if direction > 0 else "worse" if direction < 0 else "moved"


@dataclass(frozen=True)
class Periods:
    """The rows of a mart by day, week or month.

    Args:
        name: `day`, `week` or `month`.
        starts: The first day of each period, without a gap.
        rows: The rows by first day.
        whole: The first days of the periods that are loaded as a whole.
        ripe_until: The last day whose ratings have arrived.
        ripe_answers: CSAT and the number of answers of the ripe days of a period that is not ripe.
    """

    name: str
    starts: Sequence[date]
    rows: Mapping[date, Any]
    whole: Set[date]
    ripe_until: date
    ripe_answers: Mapping[date, tuple[float | None, float]] = field(default_factory=dict)

    @property
    def step(self) -> int:
        """The distance of comparable periods: a day is compared with its weekday."""
        return 7 if self.name == "day" else 1

    def values(self, column: str) -> list[float | None]:
        """The values of a column; None where it is absent."""
        return [number(getattr(self.rows.get(each), column, None)) for each in self.starts]

    def is_ripe(self, at: int) -> bool:
        """True if the ratings of a period have arrived."""
        return next_start(self.starts[at], self.name) - timedelta(days=1) <= self.ripe_until

    def is_whole(self, at: int) -> bool:
        """True if the period is loaded as a whole."""
        return self.starts[at] in self.whole

    def latest(self, *, ripe: bool) -> int | None:
        """The last whole period; the last one with all its ratings if `ripe`."""
        whole = (at for at in reversed(range(len(self.starts))) if self.is_whole(at))
        return next((at for at in whole if self.is_ripe(at) or not ripe), None)

    def compare(
        self, measure: Measure, at: int, *, days: "Periods | None" = None, part: str | None = None
    ) -> Compared:
        """Compare a measure in a period with earlier ones.

        Args:
            measure: The measure.
            at: The place of the period.
            days: The same by day, which tell how much the days of a week vary.
            part: The part of the account, such as a queue; None for the whole.
        """
        values, ns, step = self.values(measure.column), self.values(measure.n), self.step
        places = range(at - step, max(at - step * EARLIER[self.name], 0) - 1, -step)
        known = [
            (value, ns[each] or 0)
            for each in places
            if (value := values[each]) is not None and self.is_whole(each)
        ]
        earlier, m, usual = [value for value, _ in known], sum(n for _, n in known), None
        if earlier:
            usual = (median if self.name == "day" else mean)(earlier)
        if measure.n and m:
            usual = sum(value * n for value, n in known) / m
        is_ripe, change = self.is_ripe(at) or not measure.ripens, None
        judged, n = values[at], ns[at]
        if not is_ripe:
            judged, n = self.ripe_answers.get(self.starts[at], (None, 0))
        if measure.n:
            errors = LIKELY if part is None else SURE
            change = change_of_share(judged, n, usual, m, errors)
        elif is_ripe and self.name == "week" and days and usual is not None:
            change = self._change_by_weekday(days, measure, at, usual)
        elif is_ripe and (part is None or measure.unit == "count"):
            is_count = measure.unit == "count"
            change = change_of_mean([values[at]], [earlier], is_count=is_count)
        return Compared(
            measure=measure,
            label=measure.label if part is None else f"{part}: {measure.label}",
            starts=(self.starts[at], self.starts[max(at - step, 0)]),
            now=values[at],
            before=values[at - step] if at >= step and self.is_whole(at - step) else None,
            usual=usual,
            n=n if measure.n else None,
            is_ripe=is_ripe,
            judged=judged,
            change=change,
            recent=values[max(at + 1 - RECENT[self.name], 0) : at + 1],
        )

    def _change_by_weekday(
        self, days: "Periods", measure: Measure, at: int, usual: float
    ) -> Change | None:
        """The change of a week, judged by how much the same weekdays vary."""
        by_day = dict(zip(days.starts, days.values(measure.column), strict=True))
        week = [self.starts[at] + timedelta(days=each) for each in range(7)]
        before = [
            [by_day.get(day - timedelta(weeks=back + 1)) for back in range(EARLIER["week"])]
            for day in week
        ]
        is_count = measure.unit == "count"
        change = change_of_mean([by_day.get(day) for day in week], before, is_count=is_count)
        known = [value for values in before for value in values if value is not None]
        if change is None or measure.unit not in SUMMED or not any(known):
            return change
        # The figures of a week are larger than those of its days.
        return change[0] * usual / mean(known), change[1] * usual / mean(known)


def next_start(start: date, period: str) -> date:
    """The first day after a period."""
    if period == "month":
        return (start.replace(day=28) + timedelta(days=4)).replace(day=1)
    return start + timedelta(days=7 if period == "week" else 1)


def wilson(share: float, n: float, errors: float) -> tuple[float, float]:
    """The Wilson interval of a percentage of `n` cases."""
    p, z = share / 100, errors * errors / n
    middle, half = p + z / 2, errors * sqrt(p * (1 - p) / n + z / n / 4)
    return 100 * (middle - half) / (1 + z), 100 * (middle + half) / (1 + z)


def change_of_share(
    now: float | None, n: float | None, before: float | None, m: float, errors: float
) -> Change | None:
    """The change of a percentage of `m` cases to one of `n` cases, by Newcombe's interval."""
    if now is None or before is None or min(n or 0, m) < FEW:
        return None
    low, high = wilson(now, n or 0, errors)
    low_before, high_before = wilson(before, m, errors)
    if now > before:
        return now - before, sqrt((now - low) ** 2 + (high_before - before) ** 2)
    return now - before, sqrt((high - now) ** 2 + (before - low_before) ** 2)


def change_of_mean(
    now: Sequence[float | None], before: Sequence[Sequence[float | None]], *, is_count: bool
) -> Change | None:
    """The change of the mean of values against the medians of earlier values.

    Args:
        now: The values, such as the seven days of a week.
        before: For each value the earlier ones, such as earlier days of the same weekday.
        is_count: True if the values are counts, which vary by their root at least.
    """
    pairs = [
        (value, known)
        for value, earlier in zip(now, before, strict=True)
        if value is not None and (known := [each for each in earlier if each is not None])
    ]
    errors = [each - median(known) for _, known in pairs for each in known]
    spare = len(errors) - len(pairs)
    # Two values tell little about the spread, and half a week little about a week.
    if len(pairs) < len(now) or spare < 2:
        return None
    if is_count:
        # One bad week must not hide the next one.
        level = mean(median(known) for _, known in pairs)
        spread = max(1.4826 * median(map(abs, errors)), sqrt(level))
    else:
        spread = sqrt(sum(error * error for error in errors) / spare)
    error = spread * sqrt(sum(1 + 1 / len(known) for _, known in pairs)) / len(pairs)
    return mean(value - median(known) for value, known in pairs), SURE * error
