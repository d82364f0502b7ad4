"""Charts as SVG, drawn without a script. They stretch with the page, so their texts are HTML."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import islice
from math import ceil, floor, isfinite, log10
from typing import Any

from dixa_assets.report.formats import SECONDS

Values = Sequence[float | None]
# The width and height of a drawing in units of its own.
SIZE = 1000
ROUND_SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)


@dataclass(frozen=True, slots=True)
class Figure:
    """The numbers of a chart or a table, and the SQL that returns them.

    `name` is the name of the CSV file. `columns` are in the order of the statement, the axis first.
    """

    name: str
    sql: str
    columns: Mapping[str, Sequence[Any]]

    def rows(self, most: int) -> list[tuple[Any, ...]]:
        """The first rows."""
        return [*islice(zip(*self.columns.values(), strict=True), most)]


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over days, weeks or months, all of one unit.

    `lines` has the label of each drawn column of the figure, `starts` the first day of each place.
    `band` names the columns with the ends of the likely range of the first line. Values at `hollow`
    places are not final; `missing` places are not loaded; `marks` are texts over some places.
    """

    title: str
    unit: str
    figure: Figure
    lines: Mapping[str, str]
    starts: Sequence[date]
    band: tuple[str, str] | None = None
    hollow: frozenset[int] = frozenset()
    missing: frozenset[int] = frozenset()
    marks: Mapping[int, str] = field(default_factory=dict)

    @property
    def series(self) -> dict[str, Values]:
        """The values of each line, by its label."""
        return {label: self.figure.columns[column] for column, label in self.lines.items()}

    @property
    def ticks(self) -> list[float]:
        """Round values of the upright axis, from the bottom to the top. Zero is one of them."""
        drawn = (self.figure.columns[column] for column in (*self.lines, *(self.band or ())))
        values = [0, *(value for column in drawn for value in column if value is not None)]
        low, high = min(values), max(values)
        if self.unit == "percent" and low >= 0 and high <= 100:
            return [0, 25, 50, 75, 100]
        step = _step((high - low) or 1, self.unit)
        return [each * step for each in range(floor(low / step), ceil((high or step) / step) + 1)]

    @property
    def levels(self) -> list[tuple[float, float]]:
        """The ticks, each with its distance from the top in percent of the height."""
        ticks = self.ticks
        return [(100 * (ticks[-1] - each) / (ticks[-1] - ticks[0]), each) for each in ticks]

    def places(self, most: int) -> list[tuple[float, str]]:
        """At most `most` texts of the axis, each with its place in percent of the width."""
        every = max(1, ceil(len(self.starts) / most))
        is_long = (self.starts[-1] - self.starts[0]).days > 300
        return [
            (self.place(at), f"{day:%b %Y}" if is_long else f"{day.day} {day:%b}")
            for at, day in enumerate(self.starts)
            if at % every == 0
        ]

    def place(self, at: int) -> float:
        """The middle of a place, in percent of the width."""
        return 100 * (at + 0.5) / len(self.starts)

    def line(self, values: Values, only: Iterable[int] | None = None) -> str:
        """The path of a line with its gaps; or a dot at each of some places."""
        ticks = self.ticks
        return path(values, ticks[0], ticks[-1], only)

    def area(self) -> str:
        """The path of the band: a bar at each place."""
        low, high = (self.figure.columns[column] for column in self.band) if self.band else ((), ())
        ticks, width = self.ticks, SIZE / len(self.starts)
        return "".join(
            f"M{at * width:.0f} {_y(a, ticks[0], ticks[-1])}h{width:.1f}"
            f"V{_y(b, ticks[0], ticks[-1])}h-{width:.1f}z"
            for at, (a, b) in enumerate(zip(low, high, strict=True))
            if a is not None and b is not None
        )

    def stripes(self, places: Iterable[int]) -> str:
        """The path of upright stripes, as wide as a place."""
        width = SIZE / len(self.starts)
        return "".join(f"M{at * width:.1f} 0h{width:.1f}v{SIZE}h-{width:.1f}z" for at in places)


def path(values: Values, low: float, high: float, only: Iterable[int] | None = None) -> str:
    """The path of values between two bounds, with a gap for each that is absent."""
    chosen, parts, is_drawn = None if only is None else {*only}, [], False
    for at, value in enumerate(values):
        if value is None or (chosen is not None and at not in chosen):
            is_drawn = False
            continue
        # The round ends of a line without length are a dot.
        start, end = ("L", "") if is_drawn else ("M", "h0")
        x = round(SIZE * (at + 0.5) / len(values))
        parts.append(f"{start}{x} {_y(value, low, high)}{end}")
        is_drawn = chosen is None
    return "".join(parts)


def spark(values: Values, only: Iterable[int] | None = None) -> str:
    """The path of a small line, or of some of its dots. A change below a fifth stays small."""
    known = [value for value in values if value is not None] or [0]
    middle = (min(known) + max(known)) / 2
    half = 0.6 * max(max(known) - min(known), abs(max(known)) / 4, 1e-9)
    return path(values, middle - half, middle + half, only)


def number(value: float | None) -> float | None:
    """A value as JSON: an integer if it is whole, None if it is not finite."""
    if value is None or not isfinite(value):
        return None
    return int(value) if value == int(value) else value


def _y(value: float, low: float, high: float) -> int:
    return round(SIZE * (high - value) / ((high - low) or 1))


def _step(span: float, unit: str) -> float:
    """A round step: at most four of them make the span."""
    if unit in SECONDS:
        span *= SECONDS[unit]
        hours = _step(span / 3600, "number") * 3600
        return next((step for step in ROUND_SECONDS if span <= 4 * step), hours) / SECONDS[unit]
    power = 10.0 ** floor(log10(span / 4))
    step = next(each * power for each in (1, 2, 5, 10) if span <= 4 * each * power)
    return max(step, 1) if unit == "count" else step
