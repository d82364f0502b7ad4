"""Staged rows hold every value exactly, with its label and its type."""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dixa_assets.errors import ApiContractBroken
from dixa_assets.model.tables import METRIC_VALUES
from dixa_assets.model.values import FIELD_TYPES, NOTHING, VARCHAR, Value, read_value
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


contents = st.sampled_from([None, True, 1, 2**60, 2**70, 0.5, "text", ["x"]])
instants = st.sampled_from([None, "2025-03-02T09:15:00Z", "2025-03-02T09:15:00.5Z[GMT]", "soon"])
# Instants come twice as often.
typed_values = st.sampled_from([*sorted(FIELD_TYPES), "InstantField", "NewField"]).map(
    lambda kind: st.fixed_dictionaries(
        {"_type": st.just(kind)},
        optional={
            "value": instants if kind == "InstantField" else contents,
            "label": st.sampled_from([None, "Label", 1]),
            "values": st.lists(contents, max_size=2),
            "timestamp": instants,
        },
    )
)
# A field has one or two types, so that values of the same type follow each other.
values_of_a_field = st.lists(typed_values, min_size=1, max_size=2).flatmap(
    lambda kinds: st.lists(st.one_of(kinds), min_size=2, max_size=6)
)


@settings(max_examples=400)
@given(values_of_a_field)
def test_a_value_is_staged_the_same_whatever_came_before_it(
    tmp_path_factory: pytest.TempPathFactory, values: list[dict[str, Any]]
) -> None:
    folder = tmp_path_factory.mktemp("staged")
    quick, slow = (Staged(folder / name, METRIC_VALUES) for name in ("quick", "slow"))
    for typed in values:
        line: dict[str, Any] = {}
        quick.put_field(line, "x", typed)
        quick.add_row(line)
        put_row(slow, {"x": read_value(typed)})
    assert lines(quick) == lines(slow)
    assert quick.types == slow.types


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
