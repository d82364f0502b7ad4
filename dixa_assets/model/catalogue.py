"""The catalogue: the metrics and records that Dixa offers, and their changes over time.

This module parses and serialises; `merge.py` compares. A catalogue only grows: an entry that Dixa
no longer lists is kept as retired, so its asset and its table stay.
"""

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from pydantic import TypeAdapter

from dixa_assets.errors import CatalogueError, printable
from dixa_assets.model.shape import undescribed

# Longer ids are refused, longer descriptions are cut.
LONGEST_NAME, LONGEST_DESCRIPTION = 500, 5000
Kind = Literal["metric", "record"]
# The tables that all metrics share, in the same schema as their views: days, weeks and months.
METRIC_TABLES = ("metric_values", "period_values")


@dataclass(frozen=True, slots=True)
class FilterAttribute:
    """An attribute by which an entry can be filtered."""

    attribute: str
    description: str = ""


@dataclass(frozen=True, slots=True)
class Aggregation:
    """A measure of a metric."""

    measure: str
    description: str = ""


@dataclass(frozen=True, slots=True)
class FieldMetadata:
    """A field of a record's rows. The catalogue has no type for it; the values have one."""

    field: str
    description: str = ""
    nullable: bool = True


@dataclass(frozen=True, slots=True)
class Entry:
    """One metric or record of the catalogue.

    `name` is `id` as an identifier. It is the name of the table or view, and is set once, when the
    entry is first seen. `first_seen` and `retired_at` are ISO instants. Two ids that differ only in
    capitals are one entry. It keeps its first id, under which its rows are stored; `spelling` is
    the id as Dixa writes it now, if that differs.
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
        """Parse a MetricMetadata or MetricRecordMetadata of the API.

        Raises:
            KeyError, TypeError, AttributeError: The item is malformed.
        """
        related = data.get("relatedRecordIds" if kind == "metric" else "relatedMetricIds") or []
        if not isinstance(related, list):
            raise TypeError("the related ids are not a list")
        return cls(
            kind=kind,
            id=_named(data, "id"),
            description=_described(data),
            filters=tuple(
                FilterAttribute(name, text)
                for name, text, _ in _parts(data, "filters", "filterAttribute")
            ),
            aggregations=tuple(
                Aggregation(name, text) for name, text, _ in _parts(data, "aggregations", "measure")
            ),
            fields=tuple(
                FieldMetadata(printable(name), text, part.get("nullable") is not False)
                for name, text, part in _parts(data, "fieldsMetadata", "field")
            ),
            related_ids=tuple(dict.fromkeys(item for item in related if isinstance(item, str))),
        )

    @property
    def schema(self) -> str:
        """The DuckDB schema of its table or view."""
        return f"dixa_{self.kind}s"

    @property
    def key(self) -> str:
        """`schema/name`: the asset key without account and translation."""
        return f"{self.schema}/{self.name}"

    @property
    def api_id(self) -> str:
        """The id as Dixa writes it."""
        return self.spelling or self.id

    @property
    def is_live(self) -> bool:
        """True if Dixa still lists the entry."""
        return self.retired_at is None

    @property
    def attributes(self) -> frozenset[str]:
        """The attributes by which the entry can be filtered."""
        return frozenset(item.attribute for item in self.filters)

    def required_filter_attribute(self, preferred: str) -> str:
        """The attribute whose values are all sent if Dixa rejects requests without a filter.

        This is the preferred attribute, or one of the entry's own if it lacks that one. Among its
        own, a non-nullable attribute comes first. Empty if `preferred` is empty or the entry has no
        attribute.
        """
        if not preferred or preferred in self.attributes:
            return preferred
        never_null = {item.field for item in self.fields if not item.nullable}
        return min(self.attributes, key=lambda name: (name not in never_null, name), default="")


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between two versions of an entry; `before` and `after` are JSON or None.

    A change without an `id` is about the whole list: the API returned a part that Dixa does not
    document.
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
    """The behaviour of an account's API where its documentation leaves a question open.

    `setting` and `value` say how loads adapt to it; both are empty if loads do not adapt.
    """

    question: str
    assumed: str
    observed: str
    verdict: str
    evidence: str
    since: str
    setting: str = ""
    value: str = ""


def by_id(entries: Iterable[Entry]) -> dict[tuple[str, str], Entry]:
    """Entries by kind and id."""
    return {(entry.kind, entry.id): entry for entry in entries}


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All entries ever seen, ordered by kind and id, and all their changes.

    `filter_names` maps every filter attribute ever seen, oldest first, to the name of its table.
    `facts` are the probe's findings about the account.
    """

    entries: tuple[Entry, ...] = ()
    changes: tuple[Change, ...] = ()
    filter_names: Mapping[str, str] = field(default_factory=dict)
    facts: tuple[Fact, ...] = ()

    @property
    def live(self) -> tuple[Entry, ...]:
        """The entries that Dixa lists now."""
        return tuple(entry for entry in self.entries if entry.is_live)

    @property
    def version(self) -> str:
        """A digest of the content: equal catalogues have equal versions."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:20]

    def changed_items(self, *changes: str) -> defaultdict[tuple[str, str], list[str]]:
        """The items of changes of these kinds, by the kind and the id of their entry."""
        found: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        for each in self.changes:
            if each.change in changes and each.item:
                found[each.kind, each.id].append(each.item)
        return found

    def to_json(self) -> str:
        """Return the catalogue as JSON. `from_json` restores an equal catalogue."""
        return TypeAdapter(Catalogue).dump_json(self, indent=1).decode()

    @staticmethod
    def from_json(text: str) -> "Catalogue":
        """Read a catalogue that `to_json` wrote.

        Raises:
            pydantic.ValidationError: The text is not a catalogue.
        """
        return TypeAdapter(Catalogue).validate_json(text)


@dataclass(frozen=True, slots=True)
class Listing:
    """The result of fetching both catalogues: the usable entries, and the problems with others.

    `undescribed` lists the parts of the lists that Dixa does not document: kind of the list, kind
    of the part, its name.
    """

    entries: tuple[Entry, ...]
    problems: tuple[str, ...] = ()
    undescribed: tuple[tuple[Kind, str, str], ...] = ()

    @classmethod
    def from_api(
        cls, metrics: Sequence[Mapping[str, Any]], records: Sequence[Mapping[str, Any]]
    ) -> Self:
        """Parse both catalogue lists. A malformed item is skipped and becomes a problem.

        Raises:
            CatalogueError: A list has no usable item.
        """
        entries: dict[tuple[Kind, str], Entry] = {}
        problems = []
        unknown: list[tuple[Kind, str, str]] = []
        lists: dict[Kind, Sequence[Mapping[str, Any]]] = {"metric": metrics, "record": records}
        for kind, items in lists.items():
            usable = []
            for item in items:
                try:
                    entry = Entry.from_api(kind, item)
                except (KeyError, TypeError, AttributeError) as error:
                    problems.append(f"a {kind} was skipped: its entry is malformed ({error!r})")
                    continue
                if (kind, entry.id) in entries:
                    problems.append(f"the {kind} '{entry.id}' is listed twice: the first is used")
                    continue
                entries[kind, entry.id] = entry
                usable.append(item)
            if not usable:
                raise CatalogueError(
                    f"Dixa's catalogue of {kind}s has no usable {kind}. This is treated as a "
                    "fault, not as an empty catalogue. Nothing was changed."
                )
            unknown += [(kind, *each) for each in sorted(undescribed(kind, usable))]
        return cls(tuple(entries.values()), tuple(problems), tuple(unknown))


def to_identifier(text: str) -> str:
    """`text` as letters, digits and underscores, not starting with a digit."""
    name = text
    if not re.fullmatch(r"[A-Za-z0-9_]+", text):
        ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
        name = re.sub(r"[^A-Za-z0-9]+", "_", ascii_text).strip("_")
    return f"_{name}" if not name or name[0].isdigit() else name


def distinct_identifier(text: str, taken: Iterable[str]) -> str:
    """`to_identifier(text)`, with a suffix if SQL, which ignores case, finds it in `taken`."""
    name = to_identifier(text)
    in_use = {other.lower() for other in taken}
    digest, found, length = hashlib.sha256(text.encode()).hexdigest(), name, 6
    while found.lower() in in_use:
        found, length = f"{name}_{digest[:length]}", length + 1
    return found


def _described(data: Mapping[str, Any]) -> str:
    text = data.get("description")
    lines = text.splitlines() if isinstance(text, str) else ()
    return "\n".join(printable(line.expandtabs()) for line in lines)[:LONGEST_DESCRIPTION]


def _named(data: Mapping[str, Any], key: str) -> str:
    name = data[key]
    if not isinstance(name, str) or not name.strip() or len(name) > LONGEST_NAME:
        raise TypeError(f"{key} is not a short string")
    if re.search("[\0\ud800-\udfff]", name):
        raise TypeError(f"{key} contains a zero byte or half a character")
    return name


def _parts(data: Mapping[str, Any], key: str, named: str) -> list[tuple[str, str, Any]]:
    """Name, description and content of the parts in a list. Of equal names, the first counts."""
    parts = {_named(part, named): part for part in reversed(data.get(key) or [])}
    return [(name, _described(part), part) for name, part in reversed(parts.items())]
