"""Days that several tests use."""

from datetime import date, timedelta

from dixa_assets.model.days import Window
from dixa_assets_tests.support.simulator import COPENHAGEN

DAY = Window.of_day(date(2025, 11, 5), COPENHAGEN)
# Samoa skipped this day when it crossed the date line.
APIA_GAP = date(2011, 12, 30)


def windows(first: date, number: int, zone: str = COPENHAGEN) -> list[Window]:
    return [Window.of_day(first + timedelta(days=each), zone) for each in range(number)]
