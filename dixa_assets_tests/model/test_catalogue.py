"""The catalogue: what is tolerated, how it grows, what is said to have changed, how it is named."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dixa_assets.catalogue import (
    RESERVED_METRIC_NAME,
    Aggregation,
    Catalogue,
    Change,
    Entry,
    FieldMetadata,
    FilterAttribute,
    Listing,
    distinct_identifier,
    merge,
    to_identifier,
)
from dixa_assets.errors import CatalogueError
from dixa_assets.simulator.metrics import METRICS
from dixa_assets.simulator.records import RECORDS

Json = dict[str, Any]
METRIC: Json = {
    "id": "csat",
    "description": "Share of happy customers",
    "filters": [{"filterAttribute": "queue_id", "description": "A queue"}],
    "aggregations": [{"measure": "Percentage", "description": "0 to 100"}],
    "relatedRecordIds": ["ratings"],
}
RECORD: Json = {
    "id": "ratings",
    "description": "Ratings",
    "filters": [{"filterAttribute": "channel"}],
    "relatedMetricIds": ["csat"],
    "fieldsMetadata": [{"field": "agent_id", "description": "Who", "nullable": True}],
}
FIRST, LATER, LAST = "2025-01-01T00:00:00+00:00", "2025-02-01T00:00:00+00:00", "2025-03-01"


def never_described(_: Entry) -> bool:
    return False


def listing(*metrics: Json, records: tuple[Json, ...] = (RECORD,)) -> Listing:
    return Listing.from_api(metrics or (METRIC,), records)


def merged(known: Catalogue, new: Listing, at: str = LATER) -> Catalogue:
    return merge(known, new, at=at, is_still_described=never_described)


def fresh(*metrics: Json, records: tuple[Json, ...] = (RECORD,)) -> Catalogue:
    return merged(Catalogue(), listing(*metrics, records=records), FIRST)


def entry_of(catalogue: Catalogue, entry_id: str, kind: str = "metric") -> Entry:
    (found,) = [one for one in catalogue.entries if (one.kind, one.id) == (kind, entry_id)]
    return found


def news(known: Catalogue, later: Catalogue) -> list[tuple[Any, ...]]:
    """What was added to the list of changes, without instants."""
    assert later.changes[: len(known.changes)] == known.changes
    return [
        (one.kind, one.id, one.change, one.item, one.before, one.after)
        for one in later.changes[len(known.changes) :]
    ]


# Reading what the vendor sent.


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


def test_an_id_alone_is_an_entry() -> None:
    assert Entry.from_api("metric", {"id": "bare"}) == Entry("metric", "bare")


@pytest.mark.parametrize("key", ["filters", "aggregations", "fieldsMetadata", "relatedRecordIds"])
@pytest.mark.parametrize("nothing", [None, []])
def test_a_list_that_is_null_or_empty_is_a_list_that_is_missing(key: str, nothing: Any) -> None:
    assert Entry.from_api("metric", {"id": "bare", key: nothing}) == Entry("metric", "bare")


def test_keys_nobody_knows_are_ignored_at_every_level() -> None:
    strange = {
        **METRIC,
        "category": "conversations",
        "filters": [{**METRIC["filters"][0], "operators": ["IsOne"]}],
        "aggregations": [{**METRIC["aggregations"][0], "unit": {"name": "%"}}],
    }
    assert Entry.from_api("metric", strange) == Entry.from_api("metric", METRIC)


@pytest.mark.parametrize("description", [None, 3, ["text"], {}])
def test_a_description_that_is_no_text_is_no_description(description: Any) -> None:
    data = {
        "id": "bare",
        "description": description,
        "filters": [{"filterAttribute": "queue_id", "description": description}],
    }
    expected = Entry("metric", "bare", filters=(FilterAttribute("queue_id"),))
    assert Entry.from_api("metric", data) == expected


def test_descriptions_hold_no_zero_byte_which_would_cut_a_comment() -> None:
    entry = Entry.from_api("metric", {"id": "bare", "description": "a\0b"})
    assert entry.description == "a\ufffdb"


@pytest.mark.parametrize("odd", ["a\0b", "a\ud800b"])
def test_an_id_that_no_statement_can_hold_costs_itself_alone(odd: str) -> None:
    listing = Listing.from_api([{"id": odd}, {"id": "csat"}], [{"id": "ratings"}])
    assert [entry.id for entry in listing.entries] == ["csat", "ratings"]
    assert len(listing.problems) == 1


@pytest.mark.parametrize("nullable", [None, "no", 0])
def test_a_field_that_does_not_say_so_may_be_null(nullable: Any) -> None:
    assert FieldMetadata.from_api({"field": "agent_id", "nullable": nullable}).nullable is True
    assert FieldMetadata.from_api({"field": "agent_id"}).nullable is True


def test_a_field_that_is_never_null_says_so() -> None:
    assert FieldMetadata.from_api({"field": "csid", "nullable": False}).nullable is False


def test_what_is_listed_twice_within_an_entry_counts_once_as_first_described() -> None:
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
def test_a_malformed_item_costs_itself_alone(item: Any) -> None:
    found = Listing.from_api([item, {"id": "other"}], [RECORD])
    assert [entry.id for entry in found.entries] == ["other", "ratings"]
    assert len(found.problems) == 1
    assert "a metric was left out, its entry is malformed" in found.problems[0]


def test_an_id_listed_twice_holds_as_first_listed() -> None:
    found = listing(METRIC, {"id": "csat", "description": "another"})
    assert [entry.id for entry in found.entries] == ["csat", "ratings"]
    assert found.entries[0].description == METRIC["description"]
    assert found.problems == ("the metric 'csat' is listed twice, the first one holds",)


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
    with pytest.raises(CatalogueError, match=f"catalogue of {kind}s .* nothing was changed"):
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


# Bringing it up to date.


def test_a_new_entry_is_added_with_the_instant_and_a_name() -> None:
    known = fresh()
    later = merged(known, listing(METRIC, {"id": "new-one"}))
    assert entry_of(later, "new-one") == Entry(
        "metric", "new-one", name="new_one", first_seen=LATER
    )
    assert news(known, later) == [("metric", "new-one", "added", None, None, None)]
    assert later.changes[-1].changed_at == LATER


def test_an_unchanged_listing_changes_nothing() -> None:
    known = fresh(METRIC, {"id": "other"})
    later = merged(known, listing(METRIC, {"id": "other"}))
    assert later == known
    assert later.version == known.version


def test_an_entry_listed_no_more_is_retired_when_it_is_described_no_more() -> None:
    known = fresh(METRIC, {"id": "leaving"})
    later = merged(known, listing(METRIC))
    assert entry_of(later, "leaving") == replace(entry_of(known, "leaving"), retired_at=LATER)
    assert [one.id for one in later.live] == ["csat", "ratings"]
    assert news(known, later) == [("metric", "leaving", "retired", None, None, None)]


def test_an_entry_that_is_still_described_is_not_retired() -> None:
    known = fresh(METRIC, {"id": "hidden"})
    asked: list[str] = []

    def is_still_described(entry: Entry) -> bool:
        asked.append(entry.id)
        return True

    later = merge(known, listing(METRIC), at=LATER, is_still_described=is_still_described)
    assert later == known
    assert asked == ["hidden"]


def test_a_retired_entry_is_asked_about_no_more() -> None:
    retired = merged(fresh(METRIC, {"id": "gone"}), listing(METRIC))

    def ask(entry: Entry) -> bool:
        raise AssertionError(f"asked about {entry.id}")

    assert merge(retired, listing(METRIC), at=LAST, is_still_described=ask) == retired


def test_a_retired_entry_that_is_listed_again_is_restored_under_its_name() -> None:
    known = fresh(METRIC, {"id": "back-again"})
    retired = merged(known, listing(METRIC))
    later = merged(retired, listing(METRIC, {"id": "back-again"}), LAST)
    assert entry_of(later, "back-again") == entry_of(known, "back-again")
    assert news(retired, later) == [
        ("metric", "back-again", "restored", None, json.dumps(LATER), None)
    ]


# One change to the metric or record each: what it becomes, and what is then said to have changed.
CHANGES: dict[str, tuple[Json, tuple[str, str | None, Any, Any]]] = {
    "description": (
        {**METRIC, "description": "Happiness"},
        ("description changed", None, "Share of happy customers", "Happiness"),
    ),
    "filter added": (
        {**METRIC, "filters": [*METRIC["filters"], {"filterAttribute": "tag_id"}]},
        ("filter added", "tag_id", None, {"attribute": "tag_id", "description": ""}),
    ),
    "filter removed": (
        {**METRIC, "filters": []},
        ("filter removed", "queue_id", {"attribute": "queue_id", "description": "A queue"}, None),
    ),
    "filter changed": (
        {**METRIC, "filters": [{"filterAttribute": "queue_id", "description": "The queue"}]},
        (
            "filter changed",
            "queue_id",
            {"attribute": "queue_id", "description": "A queue"},
            {"attribute": "queue_id", "description": "The queue"},
        ),
    ),
    "aggregation added": (
        {**METRIC, "aggregations": [*METRIC["aggregations"], {"measure": "Count"}]},
        ("aggregation added", "Count", None, {"measure": "Count", "description": ""}),
    ),
    "aggregation removed": (
        {key: value for key, value in METRIC.items() if key != "aggregations"},
        (
            "aggregation removed",
            "Percentage",
            {"measure": "Percentage", "description": "0 to 100"},
            None,
        ),
    ),
    "aggregation changed": (
        {**METRIC, "aggregations": [{"measure": "Percentage", "description": "0 to 1"}]},
        (
            "aggregation changed",
            "Percentage",
            {"measure": "Percentage", "description": "0 to 100"},
            {"measure": "Percentage", "description": "0 to 1"},
        ),
    ),
    "relation added": (
        {**METRIC, "relatedRecordIds": ["ratings", "answers"]},
        ("relation added", "answers", None, None),
    ),
    "relation removed": (
        {**METRIC, "relatedRecordIds": None},
        ("relation removed", "ratings", None, None),
    ),
}
FIELD_CHANGES: dict[str, tuple[list[Json], tuple[str, str, Any, Any]]] = {
    "added": (
        [*RECORD["fieldsMetadata"], {"field": "csid", "description": "Number", "nullable": False}],
        (
            "field added",
            "csid",
            None,
            {"field": "csid", "description": "Number", "nullable": False},
        ),
    ),
    "removed": (
        [],
        (
            "field removed",
            "agent_id",
            {"field": "agent_id", "description": "Who", "nullable": True},
            None,
        ),
    ),
    "no longer null": (
        [{"field": "agent_id", "description": "Who", "nullable": False}],
        (
            "field changed",
            "agent_id",
            {"field": "agent_id", "description": "Who", "nullable": True},
            {"field": "agent_id", "description": "Who", "nullable": False},
        ),
    ),
}


def as_read(change: tuple[Any, ...]) -> tuple[Any, ...]:
    return (*change[:-2], *(part and json.loads(part) for part in change[-2:]))


@pytest.mark.parametrize("case", CHANGES)
def test_a_change_of_a_metric_is_told_with_before_and_after(case: str) -> None:
    known = fresh()
    data, change = CHANGES[case]
    later = merged(known, listing(data))
    assert [as_read(one) for one in news(known, later)] == [("metric", "csat", *change)]
    kept = entry_of(known, "csat")
    assert entry_of(later, "csat") == replace(
        Entry.from_api("metric", data), name=kept.name, first_seen=kept.first_seen
    )


@pytest.mark.parametrize("case", FIELD_CHANGES)
def test_a_change_of_a_field_is_told_with_before_and_after(case: str) -> None:
    known = fresh()
    fields, change = FIELD_CHANGES[case]
    later = merged(known, listing(METRIC, records=({**RECORD, "fieldsMetadata": fields},)))
    assert [as_read(one) for one in news(known, later)] == [("record", "ratings", *change)]


def test_several_changes_at_once_are_told_one_by_one() -> None:
    known = fresh()
    data = {**METRIC, "description": "New", "filters": [{"filterAttribute": "tag_id"}]}
    later = merged(known, listing(data))
    assert [one[2:4] for one in news(known, later)] == [
        ("description changed", None),
        ("filter removed", "queue_id"),
        ("filter added", "tag_id"),
    ]


def test_another_order_is_no_change() -> None:
    one: Json = {
        "id": "many",
        "filters": [{"filterAttribute": name} for name in ("a", "b", "c")],
        "aggregations": [{"measure": name} for name in ("Count", "Sum")],
        "relatedRecordIds": ["x", "y"],
    }
    turned = {key: value[::-1] if isinstance(value, list) else value for key, value in one.items()}
    known = fresh(METRIC, one)
    assert merged(known, listing(turned, METRIC)) == known


def test_entries_stand_in_order_of_kind_and_id() -> None:
    catalogue = fresh({"id": "b"}, {"id": "a"}, records=({"id": "d"}, {"id": "c"}))
    assert [one.id for one in catalogue.entries] == ["a", "b", "c", "d"]


def test_filter_attributes_keep_their_names_and_are_never_forgotten() -> None:
    known = fresh({"id": "one", "filters": [{"filterAttribute": "queue-id"}]}, records=(RECORD,))
    assert known.filter_names == {"channel": "channel", "queue-id": "queue_id"}
    later = merged(known, listing({"id": "one", "filters": [{"filterAttribute": "queue_id"}]}))
    assert later.filter_names["queue-id"] == "queue_id"
    assert later.filter_names["queue_id"].startswith("queue_id_")
    assert list(later.filter_names) == ["channel", "queue-id", "queue_id"]


# Names.

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


@given(anything)
def test_the_identifier_of_an_identifier_is_itself(text: str) -> None:
    assert to_identifier(to_identifier(text)) == to_identifier(text)


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
def test_an_id_that_is_no_identifier_becomes_one(text: str, name: str) -> None:
    assert to_identifier(text) == name


@given(some_ids)
def test_names_of_any_ids_are_distinct_without_case(ids: list[str]) -> None:
    names = names_of(fresh(*({"id": one} for one in ids)))
    assert set(names) == set(ids)
    lowered = [name.lower() for name in names.values()]
    assert len(set(lowered)) == len(ids)
    assert RESERVED_METRIC_NAME not in lowered


def names_of(catalogue: Catalogue) -> Mapping[str, str]:
    return {one.id: one.name for one in catalogue.entries if one.kind == "metric"}


@given(some_ids, st.randoms(use_true_random=False))
def test_names_do_not_depend_on_the_order_of_the_list(ids: list[str], random: Any) -> None:
    shuffled = random.sample(ids, len(ids))
    assert names_of(fresh(*({"id": one} for one in ids))) == names_of(
        fresh(*({"id": one} for one in shuffled))
    )


@given(some_ids, some_ids)
def test_names_once_given_stay_whatever_comes_and_goes(first: list[str], then: list[str]) -> None:
    known = fresh(*({"id": one} for one in first))
    later = merged(known, listing(*({"id": one} for one in then)))
    assert names_of(later).items() >= names_of(known).items()
    again = merged(later, listing(*({"id": one} for one in first)), LAST)
    assert names_of(again) == names_of(later)


def test_the_plain_one_of_two_new_ids_that_collide_keeps_its_name() -> None:
    digest = hashlib.sha256(b"a b").hexdigest()[:6]
    names = names_of(fresh({"id": "a b"}, {"id": "a_b"}))
    assert names == {"a b": f"a_b_{digest}", "a_b": "a_b"}


def test_a_metric_may_not_take_the_name_of_the_table_all_metrics_share() -> None:
    name = names_of(fresh({"id": RESERVED_METRIC_NAME}))[RESERVED_METRIC_NAME]
    assert name.startswith(f"{RESERVED_METRIC_NAME}_")


def test_an_id_that_is_named_like_anothers_way_out_still_gets_a_name_of_its_own() -> None:
    way_out = distinct_identifier("a-b", ["a_b"])
    names = names_of(fresh({"id": "a_b"}, {"id": "a-b"}, {"id": way_out}))
    assert len(set(names.values())) == 3


# As text and back.

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
)


@given(catalogues)
def test_a_catalogue_written_and_read_is_the_same(catalogue: Catalogue) -> None:
    again = Catalogue.from_json(catalogue.to_json())
    assert again == catalogue
    assert again.version == catalogue.version
    assert list(again.filter_names) == list(catalogue.filter_names)


@given(catalogues, catalogues)
def test_versions_are_equal_only_where_catalogues_are(one: Catalogue, other: Catalogue) -> None:
    assert (one.version == other.version) == (
        one == other and list(one.filter_names) == list(other.filter_names)
    )


def test_merging_goes_on_from_a_catalogue_that_was_read() -> None:
    known = Catalogue.from_json(fresh(METRIC, {"id": "leaving"}).to_json())
    later = merged(known, listing(METRIC))
    assert [one[2] for one in news(known, later)] == ["retired"]
    assert Catalogue.from_json(later.to_json()) == later


@pytest.mark.parametrize("key", ["id", "description"])
def test_half_a_character_in_an_entry_does_not_keep_the_catalogue_from_being_stored(
    key: str,
) -> None:
    half = json.loads('"half \\ud83d"')
    catalogue = fresh(METRIC, {"id": "other", key: half})
    assert Catalogue.from_json(catalogue.to_json()) == catalogue
