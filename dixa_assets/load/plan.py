"""How an asset's days are asked for: several in one request, one by one, or in parts side by side.

What earlier loads brought decides. An answer's last page is seldom full, so days of few rows cost
a request each unless they share one; a day of many pages is slow to read one page after another.
"""

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from dixa_assets.model.counts import Volume
from dixa_assets.model.days import Window

# Pages that one request walks through. Its last page is half full on average, so that 10 pages
# cost a twentieth more than the rows need.
PAGES_AT_A_TIME = 10
# Days in one request at most, however few rows they have. Dixa's own presets go up to a year.
MOST_DAYS = 92
# Empty days that should have had this many rows are no chance.
ROWS_NOT_BY_CHANCE = 8
# Days that may be asked for besides, one before and one after.
DAYS_BESIDE = 2
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Ask:
    """Days that are fetched and written together, and the windows that cover them.

    `before` and `after` are days asked for besides: with rows of them, those between are whole.
    """

    days: tuple[Window, ...]
    windows: tuple[Window, ...]
    before: Window | None = None
    after: Window | None = None


def next_ask(
    waiting: deque[Window],
    volume: Volume,
    *,
    page_rows: int,
    most_parts: int,
    longest: int = MOST_DAYS,
    doubted: Collection[Window] = (),
) -> Ask:
    """Take the next days off `waiting`.

    Records averaging under 10 pages a day share a request; days of 20 pages and more are fetched
    in parts.

    Args:
        waiting: Days in order, at least one.
        volume: What the asset's loads have brought so far.
        page_rows: Rows a page holds.
        most_parts: In how many parts a day may be fetched side by side.
        longest: How many days a request may cover, without the two beside them.
        doubted: Days that an answer with others is not believed for.
    """
    day = waiting.popleft()
    if volume.alone or not volume.days or day.is_empty or day in doubted:
        return Ask((day,), (day,))
    pages_a_day = volume.rows_a_day / page_rows
    parts = min(int(pages_a_day / PAGES_AT_A_TIME), most_parts)
    if parts > 1:
        return Ask((day,), tuple(day.parts(parts)))
    together = int(min(PAGES_AT_A_TIME / pages_a_day, longest)) if pages_a_day else longest
    days = [day]
    while waiting and len(days) < together and waiting[0].start == days[-1].end:
        if waiting[0] in doubted:
            break
        days.append(waiting.popleft())
    ask = Ask(tuple(days), (replace(day, end=days[-1].end),))
    if is_proven(days, volume):
        return ask
    after = _beside(days[-1], DAY)
    # Of a day that is not over there may be no rows yet, and a vendor may not like to be asked.
    is_over = after.end <= datetime.now(UTC)
    return replace(ask, before=_beside(day, -DAY), after=after if is_over else None)


def _beside(day: Window, step: timedelta) -> Window:
    """The next or last day; where there was none, the one beside it."""
    found = Window.of_day(day.day + step, day.timezone)
    return _beside(found, step) if found.is_empty else found


def length_of(days: Sequence[Window]) -> int:
    """Whole days of 24 hours from the first day to the last, 1 at least."""
    return max(int((days[-1].end - days[0].start) / DAY), 1) if days else 1


def is_proven(days: Sequence[Window], volume: Volume) -> bool:
    """Whether an answer has covered so long a time before, to the hour."""
    return len(days) == 1 or days[-1].end - days[0].start <= volume.reach * DAY


def believed(
    ask: Ask, filled: Sequence[int], volume: Volume, *, has_before: bool, has_after: bool
) -> slice:
    """Which days of an answer to believe; the others are asked for again.

    An answer that ends early looks like one whose last days are empty, and a vendor may cut a long
    period without a word, in the middle of a day too. Until an answer has covered so long a time,
    a day is believed if rows came from before and after it. Afterwards empty days at either end
    are believed if so few rows are missing that chance explains it; otherwise neither they nor the
    day with rows beside them are.

    Args:
        ask: What was asked for.
        filled: Which of its days have rows, by their number.
        volume: What the record's loads have brought so far.
        has_before: Whether rows came of the day before them.
        has_after: Whether rows came of the day after them.
    """
    end = len(ask.days)
    first, last = (filled[0], filled[-1]) if filled else (end, -1)
    if not is_proven(ask.days, volume):
        start = 0 if has_before else min(first + 1, end)
        return slice(start, max(start, end if has_after else last))
    if not filled:
        last = end
    empty = first + max(end - 1 - last, 0)
    if empty * volume.rows_a_day < ROWS_NOT_BY_CHANCE:
        return slice(0, end)
    start, stop = first + (first > 0), last + (last == end - 1)
    return slice(start, max(start, stop))
