"""Charts as SVG, drawn without a script. They stretch with the page, so their texts are HTML."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import ceil, floor, isfinite, log10
from typing import Any

from dixa_assets.report.formats import SECONDS

Values = Sequence[float | None]
# The size of every drawing in its own units.
WIDTH = HEIGHT = 1000
ROUND_SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)


@dataclass(frozen=True, slots=True)
class Figure:
    """The numbers of a chart or a table, and the SQL that returns them.

    Args:
        name: The name of its CSV file.
        sql: The statement.
        columns: The columns by their names in the statement, the axis first. None is absent.
    """

    name: str
    sql: str
    columns: Mapping[str, Sequence[Any]]

    def rows(self, most: int) -> list[tuple[Any, ...]]:
        """The first rows."""
        return [*islice(zip(*self.columns.values(), strict=True), most)]


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over days, weeks or months.

    Args:
        title: The title.
        unit: The unit of all values.
        figure: The numbers.
        lines: The labels of the lines, by column.
        texts: The texts of the axis.
        note: A sentence below the title.
        band: The columns with the lowest and the highest likely values of the first line.
        hollow: The places whose values are not final.
        missing: The places that are not loaded.
        marks: Texts above some places.
    """

    title: str
    unit: str
    figure: Figure
    lines: Mapping[str, str]
    texts: Sequence[str]
    note: str = ""
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
        values = [v for column in self._drawn() for v in column if v is not None]
        low, high = min([0.0, *values]), max([0.0, *values])
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
        """At most `most` texts of the axis, each with its place in percent."""
        every = max(1, ceil(len(self.texts) / most))
        return [(self.place(at), self.texts[at]) for at in range(0, len(self.texts), every)]

    def place(self, at: int) -> float:
        """The middle of a place, in percent of the width."""
        return 100 * (at + 0.5) / len(self.texts)

    def line(self, values: Values, only: Iterable[int] | None = None) -> str:
        """The path of a line with its gaps; or a dot for each of some places."""
        ticks = self.ticks
        return path(values, (ticks[0], ticks[-1]), only)

    def area(self) -> str:
        """The path of the band: a bar for each place."""
        if not self.band:
            return ""
        low, high = (self.figure.columns[column] for column in self.band)
        ticks, width = self.ticks, WIDTH / len(self.texts)
        bounds = ticks[0], ticks[-1]
        return "".join(
            f"M{at * width:.0f} {_y(a, bounds)}h{width:.1f}V{_y(b, bounds)}h-{width:.1f}z"
            for at, (a, b) in enumerate(zip(low, high, strict=True))
            if a is not None and b is not None
        )

    def stripes(self, places: Iterable[int]) -> str:
        """The path of upright stripes, as wide as a place."""
        width = WIDTH / max(len(self.texts), 1)
        return "".join(f"M{at * width:.1f} 0h{width:.1f}v{HEIGHT}h-{width:.1f}z" for at in places)

    def _drawn(self) -> list[Values]:
        return [*self.series.values(), *(self.figure.columns[each] for each in self.band or ())]


def path(values: Values, bounds: tuple[float, float], only: Iterable[int] | None = None) -> str:
    """The path of values, with a gap for each that is absent."""
    chosen, parts, drawn = None if only is None else set(only), [], False
    for at, value in enumerate(values):
        if value is None or (chosen is not None and at not in chosen):
            drawn = False
            continue
        x = round(WIDTH * (at + 0.5) / len(values))
        # The round ends of a line without length are a dot.
        parts.append(f"{'L' if drawn else 'M'}{x} {_y(value, bounds)}{'' if drawn else 'h0'}")
        drawn = chosen is None
    return "".join(parts)


def spark(values: Values, only: Iterable[int] | None = None) -> str:
    """The path of a small line, or of some of its dots. It shows at least a change of a fifth."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    low, high = min(known), max(known)
    room = max(high - low, abs(high) / 4, 1e-9)
    middle = (low + high) / 2
    return path(values, (middle - room * 0.6, middle + room * 0.6), only)


def number(value: float | None) -> float | None:
    """A value as JSON: an integer if it is whole, None if it is not finite."""
    if value is None or not isfinite(value):
        return None
    return int(value) if value == int(value) else value


def _y(value: float, bounds: tuple[float, float]) -> int:
    low, high = bounds
    return round(HEIGHT * (high - value) / ((high - low) or 1))


def _step(span: float, unit: str) -> float:
    """A round step: at most four of them make the span."""
    if unit in SECONDS:
        span *= SECONDS[unit]
        hours = _step(span / 3600, "number") * 3600
        return next((step for step in ROUND_SECONDS if span <= 4 * step), hours) / SECONDS[unit]
    power = 10.0 ** floor(log10(span / 4))
    least = 1 if unit == "count" else 0
    return next(max(each * power, least) for each in (1, 2, 5, 10) if span <= 4 * each * power)
