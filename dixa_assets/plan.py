"""How a record's days are asked for: several in one request, one by one, or in parts side by side.

What earlier loads brought decides. An answer's last page is seldom full, so days of few rows cost
a request each unless they share one; a day of many pages is slow to read one page after another.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

from dixa_assets.extract import Window

# One page in so many is not full: a twentieth more requests than the rows demand.
PAGES_AT_A_TIME = 10
# Dixa's own presets go up to a year; a quarter is what is asked for at once, however few rows.
MOST_DAYS = 92
MILLISECOND = timedelta(milliseconds=1)


@dataclass(slots=True)
class Volume:
    """What a record's loads have brought so far.

    `astray` means that a row lay outside what was asked for, or that days together were refused:
    from then on every day is asked for alone, in one window.
    """

    days: int = 0
    rows: int = 0
    astray: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """Days that are fetched and written together, and the windows that cover them."""

    days: tuple[Window, ...]
    windows: tuple[Window, ...]


def next_ask(waiting: deque[Window], volume: Volume, *, page_rows: int, most_parts: int) -> Ask:
    """Take the next days off `waiting`.

    Args:
        waiting: Days in order, at least one.
        volume: What the record's loads have brought so far.
        page_rows: Rows a page holds.
        most_parts: In how many parts a day may be fetched side by side.
    """
    day = waiting.popleft()
    if volume.astray or not volume.days or day.is_empty:
        return Ask((day,), (day,))
    pages_a_day = volume.rows / volume.days / page_rows
    parts = min(int(pages_a_day / PAGES_AT_A_TIME), most_parts)
    if parts > 1:
        return Ask((day,), tuple(_parts(day, parts)))
    together = int(min(PAGES_AT_A_TIME / pages_a_day, MOST_DAYS)) if pages_a_day else MOST_DAYS
    days = [day]
    while waiting and len(days) < together and waiting[0].start == days[-1].end:
        days.append(waiting.popleft())
    return Ask(tuple(days), (replace(day, end=days[-1].end),))


def _parts(day: Window, number: int) -> Iterator[Window]:
    """A day cut into equal windows, at whole milliseconds."""
    length = (day.end - day.start) // MILLISECOND
    cuts = [day.start + length * part // number * MILLISECOND for part in range(number + 1)]
    for start, end in zip(cuts, cuts[1:], strict=False):
        yield replace(day, start=start, end=end)
