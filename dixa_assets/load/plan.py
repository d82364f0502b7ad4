"""How an asset's days are asked for: several in one request, one by one, or in parts side by side.

What earlier loads brought decides. An answer's last page is seldom full, so days of few rows cost
a request each unless they share one; a day of many pages is slow to read one page after another.
"""

from collections import deque
from dataclasses import dataclass, replace

from dixa_assets.model.rows import Volume
from dixa_assets.model.window import Window

# Pages that one request walks through. Its last page is half full on average, so that 10 pages
# cost a twentieth more than the rows need.
PAGES_AT_A_TIME = 10
# Days in one request at most, however few rows they have. Dixa's own presets go up to a year.
MOST_DAYS = 92


@dataclass(frozen=True, slots=True)
class Ask:
    """Days that are fetched and written together, and the windows that cover them."""

    days: tuple[Window, ...]
    windows: tuple[Window, ...]


def next_ask(waiting: deque[Window], volume: Volume, *, page_rows: int, most_parts: int) -> Ask:
    """Take the next days off `waiting`.

    Records averaging under 10 pages a day share a request; days of 20 pages and more are fetched
    in parts.

    Args:
        waiting: Days in order, at least one.
        volume: What the asset's loads have brought so far.
        page_rows: Rows a page holds.
        most_parts: In how many parts a day may be fetched side by side.
    """
    day = waiting.popleft()
    if volume.alone or not volume.days or day.is_empty:
        return Ask((day,), (day,))
    pages_a_day = volume.rows / volume.days / page_rows
    parts = min(int(pages_a_day / PAGES_AT_A_TIME), most_parts)
    if parts > 1:
        return Ask((day,), tuple(day.parts(parts)))
    together = int(min(PAGES_AT_A_TIME / pages_a_day, MOST_DAYS)) if pages_a_day else MOST_DAYS
    days = [day]
    while waiting and len(days) < together and waiting[0].start == days[-1].end:
        days.append(waiting.popleft())
    return Ask(tuple(days), (replace(day, end=days[-1].end),))
