"""A short run of `lives`, and lives in which the rule notices a fault."""

from collections.abc import Iterator
from typing import Any

import pytest

from dixa_assets.orchestration import history
from dixa_assets.warehouse import objects, read_copy
from dixa_assets_tests.stress import lives
from dixa_assets_tests.stress.fuzz import Violation
from dixa_assets_tests.stress.lives import Lives, Step, living
from dixa_assets_tests.support.simulator import Simulator

pytestmark = pytest.mark.slow


@pytest.fixture
def all_lives(simulator: Simulator) -> Iterator[Lives]:
    with living(simulator) as found:
        yield found


def life(*operations: list[Any]) -> list[Step]:
    """A life in which the sensor ticks after each operation."""
    return [(name, arguments, True) for name, *arguments in operations]


LOADS = ["load", 2, 2, 3]
PROGRAM = {text.partition(" AS ")[0]: at for at, (text, _) in enumerate(lives.PROGRAMS)}


def test_no_day_is_lost_unseen(simulator: Simulator) -> None:
    ends = lives.run(5, 1, simulator)
    assert ends["restore"] > 1
    assert ends["refusals"] + ends["refused loads"] > 1


def test_the_rule_notices_lost_days_that_nobody_is_told_about(
    all_lives: Lives, monkeypatch: pytest.MonkeyPatch
) -> None:
    deleted = life(["delete", True])
    all_lives.check(deleted)
    monkeypatch.setattr(history, "_lost_days", lambda *_: set())
    with pytest.raises(Violation, match="shown as loaded, and is not in the table"):
        all_lives.check(deleted)


def test_the_rule_notices_an_older_load_of_a_day(
    all_lives: Lives, monkeypatch: pytest.MonkeyPatch
) -> None:
    restored = life(["backup"], LOADS, ["restore", "move", 0])
    all_lives.check(restored)
    monkeypatch.setattr(history, "_is_held", lambda *_: True)
    with pytest.raises(Violation, match="shown as loaded, and is not in the table"):
        all_lives.check(restored)


def test_the_rule_notices_a_view_of_another_program_that_is_replaced(
    all_lives: Lives, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = PROGRAM["DROP VIEW dixa_metrics.csat; CREATE VIEW dixa_metrics.csat"]
    replaced = life(["program", number], LOADS)
    all_lives.check(replaced)
    monkeypatch.setattr(objects, "is_own_view", lambda *_: True)
    monkeypatch.setattr("dixa_assets.warehouse.schema.is_own_view", lambda *_: False)
    with pytest.raises(Violation, match="load changed what is not ours: .'dixa_metrics.csat'"):
        all_lives.check(replaced)


def test_the_rule_notices_a_file_that_is_replaced_by_a_read_copy(
    all_lives: Lives, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = life(["publish", "text"])
    all_lives.check(published)
    monkeypatch.setattr(read_copy, "_refuse_other_file", lambda *_: None)
    with pytest.raises(Violation, match="the text was replaced"):
        all_lives.check(published)
