"""Days that several tests use."""

from datetime import date

from dixa_assets.model.days import Day
from dixa_assets_tests.support.simulator import COPENHAGEN

DAY = Day.of(date(2025, 11, 5), COPENHAGEN)
# The day that Samoa skipped when it crossed the date line.
APIA_GAP = date(2011, 12, 30)
