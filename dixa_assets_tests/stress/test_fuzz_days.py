"""Whatever a vendor answers as a whole, a day is exact or failed; `fuzz_days` has the rule."""

import pytest

from dixa_assets.api import client, extract
from dixa_assets_tests.stress import fuzz_days
from dixa_assets_tests.stress.fuzz import Violation

pytestmark = pytest.mark.slow


def test_a_day_is_exact_or_failed_in_words() -> None:
    ends = fuzz_days.run(60, first_seed=0)
    assert ends["exact"] >= 10
    assert {"ApiUnavailable", "RowsMoved"} <= set(ends)


# Cases that the search found when the loader had a fault.
ONE_ROW = {
    **{"rows": 1, "start": 0, "seconds": 0.0, "tick": 0.0001, "kinds": 1, "order": "stable"},
    **{"is_newest_first": False, "is_end_exclusive": False, "largest_page": 300, "precision": 1},
    **{"seed": 0, "answers": []},
}
TIED_ROWS = ONE_ROW | {"rows": 301, "kinds": 10_000, "order": "ties"}
TIMED_OUT = {"first": 0, "times": 1, "body": {"message": "Task timed out after 29.00 seconds"}}


def test_the_rule_notices_an_error_that_is_taken_for_no_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "_problem_of_list", lambda _: "")
    with fuzz_days.fuzzing() as days, pytest.raises(Violation, match="exact: 1 lack"):
        days.check(ONE_ROW | {"answers": [TIMED_OUT]})


def test_the_rule_notices_rows_that_came_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    # No row equals another.
    monkeypatch.setattr(extract, "_text", lambda row: object())
    with fuzz_days.fuzzing() as days, pytest.raises(Violation, match="exact: 1 lack, 1 extra"):
        days.check(TIED_ROWS)
