"""Read a catalogue from the vendor's lists, tolerantly, and from stored text, exactly."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dixa_assets.errors import CatalogueError
from dixa_assets.model.catalogue import (
    Aggregation,
    Catalogue,
    Change,
    Entry,
    Fact,
    FieldMetadata,
    FilterAttribute,
    Listing,
)
from dixa_assets.simulator.metrics import METRICS
from dixa_assets.simulator.records import RECORDS
from dixa_assets_tests.support.catalogues import FIRST, LAST, LATER, METRIC, RECORD, fresh, listing

# From the vendor's lists


def test_a_metric_is_read_whole() -> None:
    assert Entry.from_api("metric", METRIC) == Entry(
        kind="metric",
        id="csat",
        description="Share of happy customers",
        filters=(FilterAttribute("queue_id", "A queue"),),
        aggregations=(Aggregation("Percentage", "0 to 100"),),
        related_ids=("ratings",),
    )


def test_a_record_is_read_whole() -> None:
    assert Entry.from_api("record", RECORD) == Entry(
        kind="record",
        id="ratings",
        description="Ratings",
        filters=(FilterAttribute("channel"),),
        fields=(FieldMetadata("agent_id", "Who", True),),
        related_ids=("csat",),
    )


@pytest.mark.parametrize("key", ["filters", "aggregations", "fieldsMetadata", "relatedRecordIds"])
@pytest.mark.parametrize("nothing", [None, []])
def test_a_list_that_is_null_or_empty_is_a_list_that_is_missing(key: str, nothing: Any) -> None:
    assert Entry.from_api("metric", {"id": "bare", key: nothing}) == Entry("metric", "bare")


def test_unknown_keys_are_ignored_at_every_level() -> None:
    strange = {
        **METRIC,
        "category": "conversations",
        "filters": [{**METRIC["filters"][0], "operators": ["IsOne"]}],
        "aggregations": [{**METRIC["aggregations"][0], "unit": {"name": "%"}}],
    }
    assert Entry.from_api("metric", strange) == Entry.from_api("metric", METRIC)


@pytest.mark.parametrize("description", [None, 3, ["text"], {}])
def test_a_description_that_is_not_a_text_is_ignored(description: Any) -> None:
    data = {
        "id": "bare",
        "description": description,
        "filters": [{"filterAttribute": "queue_id", "description": description}],
    }
    expected = Entry("metric", "bare", filters=(FilterAttribute("queue_id"),))
    assert Entry.from_api("metric", data) == expected


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("a\0b", "a\\x00b"),
        ("\x1b]0;title\x07\x1b[2J", "\\x1b]0;title\\x07\\x1b[2J"),
        ("c\x9b2Jsi", "c\\x9b2Jsi"),
        ("to the \u202eleft", "to the \\u202eleft"),
        ("one\r\ntwo\u2028three", "one\ntwo\nthree"),
        ("a\ttab", "a       tab"),
        ("Naïve – 名前 😀\u200d", "Naïve – 名前 😀\u200d"),
        ("x" * 9000, "x" * 5000),
    ],
    ids=ascii,
)
def test_a_description_controls_no_terminal_and_is_not_endless(text: str, read: str) -> None:
    data = {"id": "bare", "description": text, "filters": [{"filterAttribute": "queue_id"}]}
    data["filters"][0]["description"] = text  # type: ignore[index]
    entry = Entry.from_api("metric", data)
    assert (entry.description, entry.filters[0].description) == (read, read)


@pytest.mark.parametrize("odd", ["a\0b", "a\ud800b", "x" * 501], ids=ascii)
@pytest.mark.parametrize(
    "place", ["id", "filters filterAttribute", "aggregations measure"], ids=lambda each: each
)
def test_an_entry_with_a_name_that_cannot_be_stored_is_left_out(odd: str, place: str) -> None:
    part, _, key = place.partition(" ")
    entry = {"id": "odd", part: [{key: odd}]} if key else {"id": odd}
    listing = Listing.from_api([entry, {"id": "csat"}], [{"id": "ratings"}])
    assert [entry.id for entry in listing.entries] == ["csat", "ratings"]
    assert len(listing.problems) == 1
    assert listing.problems[0].isprintable()
    assert len(listing.problems[0]) < 200


def test_a_field_with_a_control_character_has_a_name_that_can_be_shown() -> None:
    fields = [{"field": "a\x1b[2J\nb"}, {"field": "c"}]
    entry = Entry.from_api("record", {"id": "ratings", "fieldsMetadata": fields})
    assert [item.field for item in entry.fields] == ["a\\x1b[2J\\nb", "c"]


def test_an_undocumented_key_is_noted_in_few_characters_that_can_be_shown() -> None:
    listing = Listing.from_api([{"id": "csat", "\x1b]0;x\x07" + "k" * 900: 1}], [{"id": "ratings"}])
    ((kind, change, item),) = listing.undescribed
    assert (kind, change) == ("metric", "unknown key")
    assert item.isprintable()
    assert len(item) == 100


@pytest.mark.parametrize("nullable", [True, None, "no", 0, False])
def test_a_field_is_nullable_unless_the_catalogue_denies_it(nullable: Any) -> None:
    fields = [{"field": "agent_id", "nullable": nullable}, {"field": "csid"}]
    entry = Entry.from_api("record", {"id": "ratings", "fieldsMetadata": fields})
    assert [item.nullable for item in entry.fields] == [nullable is not False, True]


def test_an_item_listed_twice_in_an_entry_is_read_once() -> None:
    data = {
        "id": "twice",
        "filters": [
            {"filterAttribute": "queue_id", "description": "first"},
            {"filterAttribute": "channel"},
            {"filterAttribute": "queue_id", "description": "second"},
        ],
        "relatedRecordIds": ["a", "b", "a", 7],
    }
    entry = Entry.from_api("metric", data)
    assert set(entry.filters) == {FilterAttribute("queue_id", "first"), FilterAttribute("channel")}
    assert len(entry.filters) == 2
    assert entry.related_ids == ("a", "b")


@pytest.mark.parametrize(
    "item",
    [
        {},
        {"id": None},
        {"id": 7},
        {"id": ""},
        {"id": "  "},
        {"id": ["csat"]},
        "csat",
        None,
        7,
        ["csat"],
        {"id": "csat", "filters": 7},
        {"id": "csat", "filters": "queue_id"},
        {"id": "csat", "filters": ["queue_id"]},
        {"id": "csat", "filters": [{"description": "of nothing"}]},
        {"id": "csat", "aggregations": [None]},
        {"id": "csat", "fieldsMetadata": {"field": "csid"}},
        {"id": "csat", "relatedRecordIds": 7},
    ],
)
def test_a_malformed_item_alone_is_left_out(item: Any) -> None:
    found = Listing.from_api([item, {"id": "other"}], [RECORD])
    assert [entry.id for entry in found.entries] == ["other", "ratings"]
    assert len(found.problems) == 1
    assert "a metric was skipped: its entry is malformed" in found.problems[0]


def test_an_id_listed_twice_is_read_once() -> None:
    found = listing(METRIC, {"id": "csat", "description": "another"})
    assert [entry.id for entry in found.entries] == ["csat", "ratings"]
    assert found.entries[0].description == METRIC["description"]
    assert found.problems == ("the metric 'csat' is listed twice: the first is used",)


def test_a_metric_and_a_record_may_share_an_id() -> None:
    found = listing({"id": "same"}, records=({"id": "same"},))
    assert [(entry.kind, entry.id) for entry in found.entries] == [
        ("metric", "same"),
        ("record", "same"),
    ]
    assert found.problems == ()


@pytest.mark.parametrize(
    ("metrics", "records", "kind"),
    [
        ([], [RECORD], "metric"),
        ([METRIC], [], "record"),
        ([], [], "metric"),
        ([{"id": None}], [RECORD], "metric"),
        ([METRIC], ["ratings"], "record"),
    ],
)
def test_a_list_without_a_usable_entry_is_refused(
    metrics: list[Any], records: list[Any], kind: str
) -> None:
    with pytest.raises(CatalogueError, match=f"catalogue of {kind}s .* Nothing was changed"):
        Listing.from_api(metrics, records)


def test_the_simulated_catalogue_is_read_without_a_problem() -> None:
    found = Listing.from_api(
        [one.to_api() for one in METRICS.values()], [one.to_api() for one in RECORDS.values()]
    )
    assert found.problems == ()
    assert [one.id for one in found.entries] == [*METRICS, *RECORDS]
    for one in found.entries:
        truth = METRICS[one.id].filters if one.kind == "metric" else RECORDS[one.id].filters
        assert one.attributes == frozenset(truth)


# From stored text

texts = st.text(max_size=8)
instants = st.sampled_from([FIRST, LATER, LAST])
kinds = st.sampled_from(["metric", "record"])
entries = st.builds(
    Entry,
    kind=kinds,
    id=texts,
    name=texts,
    description=texts,
    filters=st.lists(st.builds(FilterAttribute, texts, texts), max_size=3).map(tuple),
    aggregations=st.lists(st.builds(Aggregation, texts, texts), max_size=3).map(tuple),
    fields=st.lists(st.builds(FieldMetadata, texts, texts, st.booleans()), max_size=3).map(tuple),
    related_ids=st.lists(texts, max_size=3).map(tuple),
    first_seen=instants,
    retired_at=st.none() | instants,
    spelling=texts,
)
changes = st.builds(
    Change,
    changed_at=instants,
    kind=kinds,
    id=texts,
    change=texts,
    item=st.none() | texts,
    before=st.none() | texts,
    after=st.none() | texts,
)
catalogues = st.builds(
    Catalogue,
    entries=st.lists(entries, max_size=3).map(tuple),
    changes=st.lists(changes, max_size=3).map(tuple),
    filter_names=st.dictionaries(texts, texts, max_size=3),
    facts=st.lists(st.builds(Fact, *[texts] * 8), max_size=2).map(tuple),
)


@given(catalogues)
def test_a_catalogue_written_and_read_is_the_same(catalogue: Catalogue) -> None:
    again = Catalogue.from_json(catalogue.to_json())
    assert again == catalogue
    assert again.version == catalogue.version
    assert list(again.filter_names) == list(catalogue.filter_names)


@given(catalogues, catalogues)
def test_versions_are_equal_if_and_only_if_catalogues_are(one: Catalogue, other: Catalogue) -> None:
    assert (one.version == other.version) == (
        one == other and list(one.filter_names) == list(other.filter_names)
    )


@pytest.mark.parametrize("key", ["id", "description"])
def test_a_catalogue_with_half_a_character_can_be_stored(
    key: str,
) -> None:
    half = json.loads('"half \\ud83d"')
    catalogue = fresh(METRIC, {"id": "other", key: half})
    assert Catalogue.from_json(catalogue.to_json()) == catalogue
