"""Staged rows hold every value exactly, with its label and its type."""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dixa_assets.errors import ApiContractBroken
from dixa_assets.model.tables import METRIC_VALUES
from dixa_assets.model.values import NOTHING, VARCHAR, Value, read_value
from dixa_assets.staging import Staged
from dixa_assets_tests.support.staged import lines


def put_row(staged: Staged, fields: Mapping[str, Value]) -> None:
    line: dict[str, Any] = {}
    for name, value in fields.items():
        staged.put_value(line, name, value)
    staged.add_row(line)


@given(numbers=st.permutations([1, 0.5, 2**60 + 1]))
def test_a_column_of_fractions_and_an_integer_beyond_double_is_text(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[float]
) -> None:
    staged = Staged(tmp_path_factory.mktemp("staged") / "rows", METRIC_VALUES)
    for number in numbers:
        put_row(staged, {"n": read_value({"value": number})})
    staged.close()
    assert staged.types.of["n", "value"] == VARCHAR


def test_staged_rows_keep_labels_beside_values(stage: Callable[..., Staged]) -> None:
    staged = stage()
    tags = Value("VARCHAR[]", ["x"], ["X"])
    put_row(staged, {"q": Value(VARCHAR, "1", "One"), "t": tags})
    put_row(staged, {"q": Value(VARCHAR, "2"), "t": NOTHING})
    assert lines(staged) == [
        {
            ("q", "value"): "1",
            ("q", "label"): "One",
            ("t", "value"): ["x"],
            ("t", "label"): ["X"],
        },
        {("q", "value"): "2", ("t", "value"): None},
    ]
    assert staged.types.of == {
        ("q", "value"): VARCHAR,
        ("q", "label"): VARCHAR,
        ("t", "value"): "VARCHAR[]",
        ("t", "label"): "VARCHAR[]",
    }


def test_half_a_character_becomes_a_question_mark(stage: Callable[..., Staged]) -> None:
    staged = stage()
    put_row(staged, {"text": read_value({"value": json.loads('"a\\ud83db"')})})
    assert lines(staged) == [{("text", "value"): "a?b"}]


@pytest.mark.parametrize("number", [math.inf, -math.inf])
def test_a_number_beyond_any_column_is_refused(stage: Callable[..., Staged], number: float) -> None:
    with pytest.raises(ApiContractBroken, match="no column can hold a number"):
        stage().add_row({"value": number})


def test_a_discarded_file_is_gone(stage: Callable[..., Staged]) -> None:
    staged = stage()
    staged.discard()
    assert not staged.path.exists()
