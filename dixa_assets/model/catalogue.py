"""The catalogue: what Dixa offers, as frozen entries, and how it changes over time.

Parsing, (de)serialising, comparing. No network, no Dagster, no SQL. A catalogue only grows:
an entry that Dixa no longer lists is kept as retired, so its asset and its table stay.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, Literal, Self, TypeVar

from pydantic import TypeAdapter

from dixa_assets.errors import CatalogueError
from dixa_assets.model.shape import undescribed
from dixa_assets.model.values import speakable

Kind = Literal["metric", "record"]
T = TypeVar("T")
# The name of the table that all metrics share, in the same schema as their views.
RESERVED_METRIC_NAME = "metric_values"


@dataclass(frozen=True, slots=True)
class FilterAttribute:
    """An attribute by which an entry can be filtered."""

    attribute: str
    description: str = ""

    @classmethod
    def from_api(cls, data: Mapping[str, Any]) -> Self:
        """From `{filterAttribute, description?}`."""
        return cls(_named(data, "filterAttribute"), _text(data.get("description")))


@dataclass(frozen=True, slots=True)
class Aggregation:
    """A measure a metric can be asked for."""

    measure: str
    description: str = ""

    @classmethod
    def from_api(cls, data: Mapping[str, Any]) -> Self:
        """From `{measure, description?}`."""
        return cls(_named(data, "measure"), _text(data.get("description")))


@dataclass(frozen=True, slots=True)
class FieldMetadata:
    """A field of a record's rows. The catalogue gives no type; only the data do."""

    field: str
    description: str = ""
    nullable: bool = True

    @classmethod
    def from_api(cls, data: Mapping[str, Any]) -> Self:
        """From `{field, description, nullable}`; only the name is relied on."""
        nullable = data.get("nullable")
        return cls(
            _named(data, "field"),
            _text(data.get("description")),
            nullable if isinstance(nullable, bool) else True,
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """One metric or record of the catalogue.

    `name` is `id` as an identifier: the last part of the asset key and the relation's name. It is
    given once, when the entry is first seen. `first_seen` and `retired_at` are ISO instants.
    An id that comes back in other capitals is the same entry: it keeps the id that its rows are
    stored by, and `spelling` is how Dixa writes it now.
    """

    kind: Kind
    id: str
    name: str = ""
    description: str = ""
    filters: tuple[FilterAttribute, ...] = ()
    aggregations: tuple[Aggregation, ...] = ()
    fields: tuple[FieldMetadata, ...] = ()
    related_ids: tuple[str, ...] = ()
    first_seen: str = ""
    retired_at: str | None = None
    spelling: str = ""

    @classmethod
    def from_api(cls, kind: Kind, data: Mapping[str, Any]) -> Self:
        """From the vendor's MetricMetadata or MetricRecordMetadata; raises on what is unusable."""
        related = data.get("relatedRecordIds" if kind == "metric" else "relatedMetricIds") or []
        if not isinstance(related, list):
            raise TypeError("the related ids are not a list")
        return cls(
            kind=kind,
            id=_named(data, "id"),
            description=_text(data.get("description")),
            filters=_unique(map(FilterAttribute.from_api, data.get("filters") or []), "attribute"),
            aggregations=_unique(
                map(Aggregation.from_api, data.get("aggregations") or []), "measure"
            ),
            fields=_unique(map(FieldMetadata.from_api, data.get("fieldsMetadata") or []), "field"),
            related_ids=tuple(dict.fromkeys(item for item in related if isinstance(item, str))),
        )

    @property
    def schema(self) -> str:
        """The DuckDB schema, and first part of the asset key."""
        return f"dixa_{self.kind}s"

    @property
    def key(self) -> str:
        """The asset key, `schema/name`."""
        return f"{self.schema}/{self.name}"

    @property
    def asked_as(self) -> str:
        """The id as Dixa writes it."""
        return self.spelling or self.id

    @property
    def is_live(self) -> bool:
        """Whether Dixa still lists the entry."""
        return self.retired_at is None

    @property
    def attributes(self) -> frozenset[str]:
        """The attributes the entry can be filtered by."""
        return frozenset(item.attribute for item in self.filters)

    def compulsory_filter(self, preferred: str) -> str:
        """The attribute whose values are all sent, where Dixa insists on a filter.

        It is the preferred one, or one of the entry's own where it has no such attribute: first
        one that every row has by the catalogue. Empty if nothing is preferred or there is none.
        """
        if not preferred or preferred in self.attributes:
            return preferred
        always = {item.field for item in self.fields if not item.nullable}
        return min(self.attributes, key=lambda each: (each not in always, each), default="")


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between two versions of an entry; `before` and `after` are JSON or None.

    Without an `id` it is about the whole list: it has what the vendor's description has not.
    """

    changed_at: str
    kind: Kind
    id: str
    change: str
    item: str | None = None
    before: str | None = None
    after: str | None = None


@dataclass(frozen=True, slots=True)
class Fact:
    """What an account's API answered to a question that its documentation leaves open.

    `setting` and `value` are what is done differently because of it, if anything.
    """

    question: str
    assumed: str
    observed: str
    verdict: str
    evidence: str
    since: str
    setting: str = ""
    value: str = ""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All entries ever seen, ordered by kind and id, and every change among them.

    `filter_names` holds every filter attribute ever mentioned, with the identifier its table is
    named by, in the order they were first seen. `facts` are what the account was found to do.
    """

    entries: tuple[Entry, ...] = ()
    changes: tuple[Change, ...] = ()
    filter_names: Mapping[str, str] = field(default_factory=dict)
    facts: tuple[Fact, ...] = ()

    @property
    def adapted(self) -> dict[str, str]:
        """What is done differently because of a fact: settings with their values."""
        return {fact.setting: fact.value for fact in self.facts if fact.setting}

    @property
    def live(self) -> tuple[Entry, ...]:
        """The entries Dixa lists now."""
        return tuple(entry for entry in self.entries if entry.is_live)

    @property
    def version(self) -> str:
        """A digest of the content: equal catalogues have equal versions."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:20]

    def to_json(self) -> str:
        """The catalogue as text that `from_json` reads back to an equal one."""
        return TypeAdapter(Catalogue).dump_json(self, indent=1).decode()

    @staticmethod
    def from_json(text: str) -> "Catalogue":
        """From the text `to_json` gave."""
        return TypeAdapter(Catalogue).validate_json(text)


@dataclass(frozen=True, slots=True)
class Listing:
    """What one fetch of both catalogues gave: usable entries, and what was wrong with the rest.

    `undescribed` is what the vendor's description of the answers does not have: of which kind's
    list, what it is, and its name.
    """

    entries: tuple[Entry, ...]
    problems: tuple[str, ...] = ()
    undescribed: tuple[tuple[Kind, str, str], ...] = ()

    @classmethod
    def from_api(
        cls, metrics: Sequence[Mapping[str, Any]], records: Sequence[Mapping[str, Any]]
    ) -> Self:
        """From both catalogue lists. A broken item costs itself alone; a list of nothing raises."""
        entries: dict[tuple[Kind, str], Entry] = {}
        problems = []
        odd: list[tuple[Kind, str, str]] = []
        lists: tuple[tuple[Kind, Sequence[Mapping[str, Any]]], ...] = (
            ("metric", metrics),
            ("record", records),
        )
        for kind, items in lists:
            usable = []
            for item in items:
                try:
                    entry = Entry.from_api(kind, item)
                except (KeyError, TypeError, AttributeError) as error:
                    problems.append(f"a {kind} was left out, its entry is malformed ({error!r})")
                    continue
                if (kind, entry.id) in entries:
                    problems.append(f"the {kind} '{entry.id}' is listed twice, the first one holds")
                    continue
                entries[kind, entry.id] = entry
                usable.append(item)
            if not any(entry.kind == kind for entry in entries.values()):
                raise CatalogueError(
                    f"Dixa's catalogue of {kind}s came back without a single usable {kind}. This "
                    "is taken for a fault, not for an empty catalogue; nothing was changed."
                )
            odd += [(kind, *each) for each in sorted(undescribed(kind, usable))]
        return cls(tuple(entries.values()), tuple(problems), tuple(odd))


def merge(
    known: Catalogue,
    listing: Listing,
    *,
    at: str,
    is_still_described: Callable[[Entry], bool],
) -> Catalogue:
    """The known catalogue brought up to date with a listing.

    Args:
        known: The catalogue so far.
        listing: What Dixa lists now.
        at: The instant of the fetch, ISO.
        is_still_described: Asked for each live entry that is not listed: whether Dixa still
            describes it. A list cut short then retires nothing.
    """
    listed = {(entry.kind, entry.id): entry for entry in _as_known(known, listing.entries)}
    entries: dict[tuple[Kind, str], Entry] = {}
    changes: list[Change] = []
    for old in known.entries:
        new = listed.pop((old.kind, old.id), None)
        if new is not None:
            differences = _differences(old, new, at)
            changes += differences
            # Without a difference the old entry is kept: a list in another order is no change.
            entry = replace(new, name=old.name, first_seen=old.first_seen) if differences else old
        elif old.is_live and not is_still_described(old):
            entry = replace(old, retired_at=at)
            changes.append(Change(at, old.kind, old.id, "retired"))
        else:
            entry = old
        entries[old.kind, old.id] = entry
    # Plain identifiers first: of two ids that collide, the one that needs no change keeps its name.
    for entry in sorted(listed.values(), key=lambda new: (new.id != to_identifier(new.id), new.id)):
        taken = [other.name for other in entries.values() if other.kind == entry.kind]
        name = distinct_identifier(entry.id, [*taken, RESERVED_METRIC_NAME])
        entries[entry.kind, entry.id] = replace(entry, name=name, first_seen=at)
        changes.append(Change(at, entry.kind, entry.id, "added"))
    told = {(change.kind, change.change, change.item) for change in known.changes if not change.id}
    changes += [
        Change(at, kind, "", what, item)
        for kind, what, item in listing.undescribed
        if (kind, what, item) not in told
    ]
    filter_names = dict(known.filter_names)
    for attribute in sorted({name for entry in entries.values() for name in entry.attributes}):
        if attribute not in filter_names:
            filter_names[attribute] = distinct_identifier(attribute, filter_names.values())
    ordered = tuple(entries[key] for key in sorted(entries))
    return Catalogue(ordered, known.changes + tuple(changes), filter_names, known.facts)


def note_unknown_types(
    known: Catalogue, seen: Iterable[tuple[str, str, str]], at: str
) -> Catalogue:
    """The catalogue with a change for each type of values that it has not told of.

    Args:
        known: The catalogue so far.
        seen: Types that the vendor does not document, as loads met them: asset key, field, type.
        at: The instant to note, ISO.
    """
    by_key = {entry.key: entry for entry in known.entries}
    told = {(each.kind, each.id, each.change, each.item, each.after) for each in known.changes}
    changes = [
        Change(at, entry.kind, entry.id, "unknown type", field, after=json.dumps(type_))
        for key, field, type_ in sorted(seen)
        if (entry := by_key.get(key))
        and (entry.kind, entry.id, "unknown type", field, json.dumps(type_)) not in told
    ]
    return replace(known, changes=known.changes + tuple(changes)) if changes else known


def _as_known(known: Catalogue, listed: Sequence[Entry]) -> Iterator[Entry]:
    """The listed entries by the ids that they are known by, whatever their capitals."""
    now = {(entry.kind, entry.id) for entry in listed}
    before = {(entry.kind, entry.id) for entry in known.entries}
    gone = {(kind, id_.casefold()): id_ for kind, id_ in sorted(before - now)}
    first_ids = {
        (kind, id_): gone.pop((kind, id_.casefold()), id_) for kind, id_ in sorted(now - before)
    }
    for entry in listed:
        other: Kind = "record" if entry.kind == "metric" else "metric"
        related = tuple(first_ids.get((other, id_), id_) for id_ in entry.related_ids)
        first_id = first_ids.get((entry.kind, entry.id), entry.id)
        spelling = entry.id if first_id != entry.id else ""
        yield replace(entry, id=first_id, spelling=spelling, related_ids=related)


def to_identifier(text: str) -> str:
    """`text` as letters, digits and underscores, not starting with a digit."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9]+", "_", ascii_text).strip("_") if not _plain(text) else text
    return f"_{name}" if not name or name[0].isdigit() else name


def distinct_identifier(text: str, taken: Iterable[str]) -> str:
    """`to_identifier(text)`, told apart from names in use (which SQL compares without case)."""
    name = to_identifier(text)
    in_use = {other.lower() for other in taken}
    digest, found, length = hashlib.sha256(text.encode()).hexdigest(), name, 6
    while found.lower() in in_use:
        found, length = f"{name}_{digest[:length]}", length + 1
    return found


def _plain(text: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9_]+", text) is not None


def _differences(old: Entry, new: Entry, at: str) -> list[Change]:
    change = partial(Change, at, old.kind, old.id)
    changes = []
    if not old.is_live:
        changes.append(change("restored", before=_json(old.retired_at)))
    if old.asked_as != new.asked_as:
        changes.append(change("id changed", None, _json(old.asked_as), _json(new.asked_as)))
    if old.description != new.description:
        texts = _json(old.description), _json(new.description)
        changes.append(change("description changed", None, *texts))
    for word, items_of in _PARTS.items():
        before, after = items_of(old), items_of(new)
        for item in dict.fromkeys([*before, *after]):
            if item in before and item in after and before[item] == after[item]:
                continue
            verb = "removed" if item not in after else "changed" if item in before else "added"
            values = _json(before.get(item)), _json(after.get(item))
            changes.append(change(f"{word} {verb}", item, *values))
    return changes


# The parts of an entry that can change, each by name.
_PARTS: dict[str, Callable[[Entry], dict[str, Any]]] = {
    "filter": lambda entry: {item.attribute: asdict(item) for item in entry.filters},
    "aggregation": lambda entry: {item.measure: asdict(item) for item in entry.aggregations},
    "field": lambda entry: {item.field: asdict(item) for item in entry.fields},
    "relation": lambda entry: dict.fromkeys(entry.related_ids),
}


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)


def _text(value: Any) -> str:
    return speakable(value) if isinstance(value, str) else ""


def _named(data: Mapping[str, Any], key: str) -> str:
    name = data[key]
    if not isinstance(name, str) or not name.strip():
        raise TypeError(f"{key} is not a text")
    if name != speakable(name):
        raise TypeError(f"{key} holds a zero byte or half a character")
    return name


def _unique(items: Iterable[T], key: str) -> tuple[T, ...]:
    """The items, the first of those that share a name alone."""
    named = {getattr(item, key): item for item in reversed(list(items))}
    return tuple(reversed(named.values()))
