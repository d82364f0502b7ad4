"""Figures of a period against earlier ones, and the changes that are normal."""

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
# The standard errors that are normal: for one percentage, and for one figure among many.
LIKELY, SURE = 1.96, 3.0
# Units of figures that grow with the length of a period.
SUMMED = ("count", "hours worked")


@dataclass(frozen=True, slots=True)
class Measure:
    """A column of the marts, its names for people, and its unit.

    `better` is 1 if more is better, -1 if less is, and 0 if neither. A percentage has the column
    `n` with the number of its `cases`. Late ratings change a measure that `ripens`.
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
    """A measure in a period, in the one before, and usually: the mean of earlier periods.

    `starts` has the first days of the period and of the one before. `judged` is the value that is
    compared with `usual`: of a period that is not ripe, the value of its ripe days. `normal` is the
    largest difference of the two that is normal; None if it is unknown. `recent` has the last
    periods.
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
    normal: float | None
    recent: Values

    @property
    def change(self) -> float | None:
        """The difference from the usual value; None if it cannot be judged."""
        if self.judged is None or self.usual is None or self.normal is None:
            return None
        return self.judged - self.usual

    @property
    def clarity(self) -> float:
        """The size of the change, in multiples of the largest normal one."""
        return abs(self.change or 0) / max(self.normal or 0, 1e-9)

    @property
    def has_moved(self) -> bool:
        """True if the change is larger than a normal one."""
        return self.clarity > 1

    @property
    def verdict(self) -> str:
        """`better`, `worse`, or `moved` if neither; `normal`; empty if it cannot be judged."""
        if self.change is None or not self.has_moved:
            return "" if self.change is None else "normal"
        direction = self.measure.better * self.change
        return "better" if direction > 0 else "worse" if direction < 0 else "moved"


@dataclass(frozen=True)
class Periods:
    """The rows of a mart by day, week or month (`name`), for periods without a gap.

    `whole` has the first days of the periods that are loaded as a whole. The ratings of all days
    until `ripe_until` have arrived. `ripe_answers` has CSAT and the number of answers of the ripe
    days of a period that is not ripe.
    """

    name: str
    starts: Sequence[date]
    rows: Mapping[date, Any]
    whole: Set[date]
    ripe_until: date
    ripe_answers: Mapping[date, tuple[float | None, float]] = field(default_factory=dict)

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
        """The place of the last whole period, which also has its ratings if `ripe`."""
        whole = (at for at in reversed(range(len(self.starts))) if self.is_whole(at))
        return next((at for at in whole if self.is_ripe(at) or not ripe), None)

    def compare(self, measure: Measure, at: int, days: "Periods", part: str = "") -> Compared:
        """Compare a measure at a place with earlier ones.

        `days` tell how much the days of a week vary. `part` is the name of a queue, agent and so
        on; empty for the whole account.
        """
        values, ns = self.values(measure.column), self.values(measure.n)
        # A day is compared with its weekday.
        step = 7 if self.name == "day" else 1
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
        judged, n, is_ripe = values[at], ns[at], self.is_ripe(at) or not measure.ripens
        if not is_ripe:
            judged, n = self.ripe_answers.get(self.starts[at], (None, 0))
        normal, is_count = None, measure.unit == "count"
        if measure.n and judged is not None and usual is not None:
            pooled = (judged * (n or 0) + usual * m) / ((n or 0) + m or 1)
            normal = normal_of_share(pooled, n or 0, m, SURE if part else LIKELY)
        elif is_ripe and self.name == "week" and not part and usual is not None:
            normal = self._normal_of_week(days, measure, at, usual)
        elif is_ripe and (is_count or not part):
            normal = normal_of_mean([earlier], is_count=is_count)
        return Compared(
            measure=measure,
            label=f"{part}: {measure.label}" if part else measure.label,
            starts=(self.starts[at], self.starts[max(at - step, 0)]),
            now=values[at],
            before=values[at - step] if at >= step and self.is_whole(at - step) else None,
            usual=usual,
            n=n if measure.n else None,
            is_ripe=is_ripe,
            judged=judged,
            normal=normal,
            recent=values[max(at + 1 - RECENT[self.name], 0) : at + 1],
        )

    def _normal_of_week(
        self, days: "Periods", measure: Measure, at: int, usual: float
    ) -> float | None:
        """The largest normal change of a week, by how much the same weekdays vary."""
        by_day = dict(zip(days.starts, days.values(measure.column), strict=True))
        before = [
            [by_day.get(day - timedelta(weeks=back + 1)) for back in range(EARLIER["week"])]
            for day in (self.starts[at] + timedelta(days=each) for each in range(7))
        ]
        normal = normal_of_mean(before, is_count=measure.unit == "count")
        known = [value for values in before for value in values if value is not None]
        if normal is None or measure.unit not in SUMMED or not any(known):
            return normal
        # The figures of a week are larger than those of its days.
        return normal * usual / mean(known)


def next_start(start: date, period: str) -> date:
    """The first day after a period."""
    if period == "month":
        return (start.replace(day=28) + timedelta(days=4)).replace(day=1)
    return start + timedelta(days=7 if period == "week" else 1)


def normal_of_share(share: float, n: float, m: float, errors: float) -> float | None:
    """The largest normal difference of a percentage of `n` and of `m` cases; None for few cases."""
    if min(n, m) < FEW:
        return None
    return errors * sqrt(max(share * (100 - share), 0) * (1 / n + 1 / m))


def normal_of_mean(before: Sequence[Sequence[float | None]], *, is_count: bool) -> float | None:
    """The largest normal change of the mean of values, by the earlier values of each.

    The values may be the days of a week; then the earlier ones of each are days of its weekday.
    """
    groups = [[each for each in earlier if each is not None] for earlier in before]
    errors = [each - median(known) for known in groups for each in known]
    spare = len(errors) - len(groups)
    # Two values tell little about the spread, and half a week little about a week.
    if not all(groups) or spare < 2:
        return None
    spread = sqrt(sum(error * error for error in errors) / spare)
    if is_count:
        # A count varies by its root at least. One bad week must not hide the next one.
        level = mean(median(known) for known in groups)
        spread = max(1.4826 * median(map(abs, errors)), sqrt(level))
    return SURE * spread * sqrt(sum(1 + 1 / len(known) for known in groups)) / len(groups)
