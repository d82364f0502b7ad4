"""Names of entries are distinct identifiers, and never change."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dixa_assets.model.catalogue import METRIC_TABLES, Catalogue, distinct_identifier, to_identifier
from dixa_assets_tests.support.catalogues import LAST, fresh, listing, merged

anything = st.text(min_size=1)
some_ids = st.lists(
    st.one_of(
        anything.filter(lambda text: "\0" not in text), st.text("aA_-é1", min_size=1, max_size=3)
    ),
    min_size=1,
    max_size=12,
    unique=True,
).filter(lambda ids: all(one.strip() for one in ids))


@given(anything)
def test_any_text_gives_an_identifier(text: str) -> None:
    assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", to_identifier(text))


@given(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]*", fullmatch=True))
def test_an_identifier_is_its_own_name(text: str) -> None:
    assert to_identifier(text) == text


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("first-response time", "first_response_time"),
        ("ventetid på kø", "ventetid_pa_k"),
        ("2nd_reply", "_2nd_reply"),
        ("50 %", "_50"),
        ("%", "_"),
        ("日本", "_"),
        ("_private_", "_private_"),
        ("csat/v2", "csat_v2"),
        ("a.b", "a_b"),
    ],
)
def test_an_id_becomes_an_identifier(text: str, name: str) -> None:
    assert to_identifier(text) == name


@given(some_ids)
def test_names_of_any_ids_are_distinct_without_case(ids: list[str]) -> None:
    names = names_of(fresh(*({"id": one} for one in ids)))
    assert set(names) == set(ids)
    lowered = [name.lower() for name in names.values()]
    assert len(set(lowered)) == len(ids)
    assert {*METRIC_TABLES}.isdisjoint(lowered)


def names_of(catalogue: Catalogue) -> Mapping[str, str]:
    return {one.id: one.name for one in catalogue.entries if one.kind == "metric"}


@given(some_ids, st.randoms(use_true_random=False))
def test_names_do_not_depend_on_the_order_of_the_list(ids: list[str], random: Any) -> None:
    shuffled = random.sample(ids, len(ids))
    assert names_of(fresh(*({"id": one} for one in ids))) == names_of(
        fresh(*({"id": one} for one in shuffled))
    )


@given(some_ids, some_ids)
def test_names_stay_when_entries_come_and_go(first: list[str], then: list[str]) -> None:
    known = fresh(*({"id": one} for one in first))
    later = merged(known, listing(*({"id": one} for one in then)))
    assert names_of(later).items() >= names_of(known).items()
    again = merged(later, listing(*({"id": one} for one in first)), LAST)
    assert names_of(again) == names_of(later)


def test_of_two_colliding_ids_the_plain_one_is_its_own_name() -> None:
    digest = hashlib.sha256(b"a b").hexdigest()[:6]
    names = names_of(fresh({"id": "a b"}, {"id": "a_b"}))
    assert names == {"a b": f"a_b_{digest}", "a_b": "a_b"}


@pytest.mark.parametrize("table", METRIC_TABLES)
def test_no_metric_has_the_name_of_a_table_of_all_metrics(table: str) -> None:
    assert names_of(fresh({"id": table}))[table].startswith(f"{table}_")


def test_an_id_equal_to_the_distinct_name_of_another_still_gets_a_distinct_name() -> None:
    taken = distinct_identifier("a-b", ["a_b"])
    names = names_of(fresh({"id": "a_b"}, {"id": "a-b"}, {"id": taken}))
    assert len(set(names.values())) == 3
