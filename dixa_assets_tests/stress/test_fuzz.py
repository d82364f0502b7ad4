"""Whatever the vendor answers, a day is replaced whole or untouched; `fuzz` has the rule."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from dixa_assets.staging import Staged
from dixa_assets_tests.stress import fuzz
from dixa_assets_tests.stress.fuzz import Fuzz, Violation

pytestmark = pytest.mark.slow

ROW = {"primaryTimestampField": {"name": "at", "timestamp": "2025-11-05T09:00:00.000Z"}}


@pytest.fixture(scope="module")
def fuzzing() -> Iterator[Fuzz]:
    with fuzz.fuzzing() as running:
        yield running


def case(target: str = "ratings", *, pages: int = 2, **more: Any) -> dict[str, Any]:
    return {"target": target, "pages": pages, "changes": [], "wires": [], **more}


def change(do: str, path: list[int], value: Any = None) -> dict[str, Any]:
    return {"page": 0, "times": 99, "do": do, "path": path, "value": value}


def wire(**what: Any) -> dict[str, Any]:
    return {"page": 0, "times": 99, **what}


def test_mutated_answers_replace_a_day_whole_or_leave_it_untouched() -> None:
    ends = fuzz.run(150, first_seed=0)
    assert ends.total() >= 150
    assert ends["replaced"] >= 25
    assert {"ApiContractBroken", "ApiRefused", "ApiUnavailable"} <= set(ends)


@pytest.mark.parametrize("target", fuzz.TARGETS)
@pytest.mark.parametrize("pages", [1, 3])
def test_answers_as_they_are_replace_the_day(target: str, pages: int, fuzzing: Fuzz) -> None:
    assert fuzzing.check(case(target, pages=pages)) == "replaced"


@pytest.mark.parametrize(
    ("odd", "end"),
    [
        (wire(status=400, headers={"content-type": "text/plain; charset=hex"}), "ApiRefused"),
        (wire(status=400, headers={"content-type": "text/plain; charset=undefined"}), "ApiRefused"),
        (wire(status=503, headers={"content-type": "text/plain; charset=rot13"}), "ApiUnavailable"),
        (wire(status=400, body="[" * 5000), "ApiRefused"),
        (wire(status=204), "ApiUnavailable"),
        (wire(status=429, headers={"retry-after": "9" * 400}), "ApiRefused"),
        (
            wire(status=503, headers={"retry-after": "Mon, 01 Jan 99999999999 00:00:00 GMT"}),
            "ApiUnavailable",
        ),
        (change("replace", [1, 0], "http://["), "ApiContractBroken"),
        (change("replace", [1, 0], "//a\u2100b?pageKey=K1"), "ApiContractBroken"),
        (change("replace", [1, 0], "?pageKey=\ud800"), "ApiRefused"),
        (change("replace", [], {"data": [ROW], "pageKey": "\ud800"}), "ApiRefused"),
        (
            change("replace", [1, 0], f"https://{fuzz.TOKEN}.example/?pageKey=K1"),
            "ApiContractBroken",
        ),
        (change("replace", [0, 0, 1, 0], "deep:5000"), "ApiUnavailable"),
        (change("replace", [0, 0, 1, 0], "raw:1e999"), "ApiContractBroken"),
        (change("replace", [0, 0, 1, 0], "raw:" + "9" * 5000), "ApiUnavailable"),
        (change("replace", [0, 0, 1, 0], "raw:" + "9" * 400), "replaced"),
        (change("replace", [0, 0, 1, 0], "deep:600"), "replaced"),
    ],
)
def test_odd_answers_end_as_they_should(odd: dict[str, Any], end: str, fuzzing: Fuzz) -> None:
    kind = "changes" if "do" in odd else "wires"
    assert fuzzing.check(case(**{kind: [odd]})) == end


def test_a_presence_status_without_a_duration_is_kept_without_a_value(fuzzing: Fuzz) -> None:
    nothing = change("drop", [0, 1, 0, 0, 0, 0])
    assert fuzzing.check(case("agent_presence_duration", changes=[nothing])) == "replaced"


@pytest.mark.parametrize("depth", range(900, 1001, 4))
def test_nesting_of_any_depth_is_stored_or_refused(depth: int, fuzzing: Fuzz) -> None:
    deep = change("replace", [0, 0, 1, 0], f"deep:{depth}")
    assert fuzzing.check(case(changes=[deep])) in {
        "replaced",
        "ApiContractBroken",
        "ApiUnavailable",
    }


@pytest.mark.parametrize("target", ["agent_presence_duration", "first_response_time"])
def test_an_answer_about_something_endless_is_refused_in_few_words(
    target: str, fuzzing: Fuzz
) -> None:
    renamed = change("replace", [0, 0], [fuzz.TOKEN, "x" * 5000])
    assert fuzzing.check(case(target, changes=[renamed])) == "ApiContractBroken"


def test_the_rule_notices_a_row_that_is_lost(
    fuzzing: Fuzz, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = Staged.add_row

    def lose_the_third(staged: Staged, *row: Any) -> None:
        if staged.rows == 2 and not hasattr(staged, "lost"):
            staged.lost = True  # type: ignore[attr-defined]
        else:
            add(staged, *row)

    monkeypatch.setattr(Staged, "add_row", lose_the_third)
    with pytest.raises(Violation, match="11 rows are there, the last reading had 12") as raised:
        fuzzing.check(case())
    shown = str(raised.value).partition("case: ")[2]
    assert json.loads(shown) == case()


def test_the_rule_notices_an_error_of_another_kind(
    fuzzing: Fuzz, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Staged, "add_row", fail)
    with pytest.raises(Violation, match="ZeroDivisionError"):
        fuzzing.check(case())


def test_the_rule_notices_a_day_that_is_not_replaced(
    fuzzing: Fuzz, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuzz.Warehouse, "replace", lambda *_: None)
    with pytest.raises(Violation):
        fuzzing.check(case())
