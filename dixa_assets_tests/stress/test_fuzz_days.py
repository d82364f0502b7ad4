"""Whatever a vendor answers as a whole, a day is exact or failed; `fuzz_days` has the rule."""

import pytest

from dixa_assets.api import client, extract
from dixa_assets_tests.stress import fuzz_days
from dixa_assets_tests.stress.fuzz import Violation

pytestmark = pytest.mark.slow


def test_a_day_is_exact_or_failed_in_words() -> None:
    ends = fuzz_days.run(300, first_seed=0)
    assert ends["exact"] >= 50
    assert {"ApiUnavailable", "RowsMoved"} <= set(ends)


def test_the_rule_notices_an_error_that_is_taken_for_no_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "_problem_of_list", lambda _: "")
    with pytest.raises(Violation, match="exact: .* lack"):
        fuzz_days.run(300, first_seed=0)


def test_the_rule_notices_rows_that_came_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    # No row equals another.
    monkeypatch.setattr(extract, "_text", lambda row: object())
    with pytest.raises(Violation, match="exact: .* extra"):
        fuzz_days.run(300, first_seed=0)
