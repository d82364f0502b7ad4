"""Fields are left out or hashed under every spelling and at every depth."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dixa_assets.model.catalogue import Catalogue, Change, Entry, FieldMetadata
from dixa_assets.model.options import LoadSettings, Options
from dixa_assets.model.privacy import FieldPolicy, Treatment, blanked, folded, looks_personal

SECRET = "jane.doe@example.com"
EXCLUDING = FieldPolicy(excluded=frozenset({"contactpoint"}))
HASHING = FieldPolicy(hashed=frozenset({"contactpoint"}), key="a key")
SPELLINGS = ("contact_point", "Contact_Point", "contactPoint", "CONTACT-POINT", "contact point")
names = st.sampled_from(SPELLINGS)
others = st.text(max_size=5) | st.sampled_from(["value", "values", "label", "_type", "name"])
leaves = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
hidden = st.sampled_from(
    [SECRET, [SECRET], {"email": SECRET}, {"_type": "StringField", "value": SECRET, "label": "J"}]
)


def holding(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Objects and lists of the inner values; some hold the secret under the excluded name."""
    objects = st.dictionaries(others, inner, max_size=3)
    with_field = st.tuples(objects, names, hidden).map(lambda x: {**x[0], x[1]: x[2]})
    pairs = st.tuples(names, st.sampled_from(["field", "value"]), hidden).map(
        lambda x: {"name": x[0], x[1]: x[2]}
    )
    return objects | with_field | pairs | st.lists(inner, max_size=3)


nested = st.recursive(leaves, holding, max_leaves=12)


@given(nested)
def test_no_nesting_hides_an_excluded_field(content: Any) -> None:
    typed = {"_type": "NewField", "value": content}
    assert SECRET not in json.dumps(EXCLUDING.apply("other", typed))


@given(nested)
def test_no_nesting_hides_a_hashed_field(content: Any) -> None:
    typed = {"_type": "NewField", "value": content}
    assert SECRET not in json.dumps(HASHING.apply("other", typed))


@given(nested)
def test_a_value_without_the_excluded_field_does_not_change(content: Any) -> None:
    typed = {"_type": "NewField", "value": content}
    if not any(each in json.dumps(content) for each in SPELLINGS):
        assert EXCLUDING.apply("other", typed) == typed


@pytest.mark.parametrize("name", [*SPELLINGS, "contact_point_2", "contact_point_label"])
def test_a_field_is_excluded_under_every_spelling(name: str) -> None:
    assert EXCLUDING.treatment(name) is Treatment.EXCLUDED
    assert EXCLUDING.treatment("point") is Treatment.STORED


def test_a_value_of_any_depth_can_be_treated() -> None:
    content: Any = {"contact_point": SECRET}
    for _ in range(20_000):
        content = [content]
    kept = EXCLUDING.apply("other", {"_type": "NewField", "value": content})["value"]
    while isinstance(kept, list):
        (kept,) = kept
    assert kept == {}


def test_equal_values_have_equal_digests_whatever_their_type() -> None:
    def digest(typed: Any, policy: FieldPolicy = HASHING) -> Any:
        return policy.apply("contact_point", typed)

    five = digest({"_type": "LongField", "value": 5, "label": "five"})
    assert five == digest({"_type": "DoubleField", "value": 5.0})
    assert five == digest({"_type": "StringField", "value": "5"})
    assert five.keys() == {"_type", "value"}
    assert len(five["value"]) == 64
    assert five != digest({"_type": "LongField", "value": 6})
    other_key = FieldPolicy(hashed=frozenset({"contactpoint"}), key="another key")
    assert five != digest({"_type": "LongField", "value": 5}, other_key)
    items = [{"_type": "StringField", "value": "5", "label": "five"}, None]
    assert digest({"_type": "ListField", "values": items})["values"] == [five["value"], None]
    assert digest({"_type": "StringField"})["value"] is None


def test_the_key_is_in_no_text_about_a_policy() -> None:
    assert "a key" not in repr(HASHING)
    assert "a key" not in repr(Options(LoadSettings(), hash_key="a key"))


@pytest.mark.parametrize(
    ("name", "description", "expected"),
    [
        ("contact_point", "", True),
        ("customerName", "", True),
        ("E-Mail", "", True),
        ("comment", "", True),
        ("caller", "The phone number of the customer", True),
        ("caller", "The customer's contact point", True),
        ("recipients", "All email addresses of the conversation", True),
        ("channel", "Such as e-mail or chat", False),
        ("queue_id", "The queue at that time", False),
        ("csid", "Number of the conversation", False),
    ],
)
def test_fields_look_personal_by_name_or_description(
    name: str, description: str, expected: bool
) -> None:
    assert looks_personal(name, description) is expected


@given(nested, st.sampled_from([SECRET, f" {SECRET.upper()}\n"]))
def test_no_part_of_a_value_keeps_a_forgotten_text(content: Any, written: str) -> None:
    typed = json.loads(json.dumps(content).replace(json.dumps(SECRET), json.dumps(written)))
    kept = blanked(typed, lambda text: folded(text) == SECRET)
    assert SECRET not in json.dumps(kept).lower()


def test_only_named_fields_are_allowed_and_later_ones_are_listed() -> None:
    added = [
        Change("2025-01-01", "record", "ratings", "field added", name)
        for name in ("Queue-Id", "new", "new_and_excluded")
    ]
    entry = Entry("record", "ratings", "ratings", fields=(FieldMetadata("queue_id"),))
    settings = LoadSettings(
        only_fields={"*": ["queue_id"], "ratings": ["agentId"], "other": ["new"]},
        exclude_fields={"ratings": ["new_and_excluded"]},
        hash_fields={"ratings": ["customer"]},
    )
    options = Options(settings)
    policy = options.policy("ratings")
    kept = [
        name
        for name in ("QUEUE_ID", "agent_id", "customer", "value", "new", "rest")
        if policy.treatment(name).is_kept
    ]
    assert kept == ["QUEUE_ID", "agent_id", "customer", "value"]
    assert policy.treatment("new") is Treatment.NOT_ALLOWED
    assert options.unnamed_fields(Catalogue((entry,), tuple(added))) == ["ratings.new"]
    assert options.policy("another").treatment("new") is Treatment.NOT_ALLOWED
    assert Options(LoadSettings()).policy("ratings").is_plain
