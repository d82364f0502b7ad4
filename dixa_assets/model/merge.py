"""Merge the listing that Dixa returns now into the known catalogue."""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from dixa_assets.model.catalogue import (
    METRIC_TABLES,
    Catalogue,
    Change,
    Entry,
    Kind,
    Listing,
    distinct_identifier,
    to_identifier,
)

ONLY_IN_ROWS = "field only in rows"
# The changes that name a field which Dixa added.
NEW_FIELD = ("field added", ONLY_IN_ROWS)


def merge(
    known: Catalogue,
    listing: Listing,
    *,
    at: str,
    is_still_described: Callable[[Entry], bool],
) -> Catalogue:
    """Return the known catalogue, updated with a listing.

    Args:
        known: The catalogue so far.
        listing: The entries that Dixa lists now.
        at: The instant of the fetch, ISO.
        is_still_described: Called with each live entry that is not listed. True if Dixa still
            describes it: the list was then truncated, and the entry is not retired.
    """
    listed = {(entry.kind, entry.id): entry for entry in _as_known(known, listing.entries)}
    entries: dict[tuple[Kind, str], Entry] = {}
    changes: list[Change] = []
    for old in known.entries:
        new = listed.pop((old.kind, old.id), None)
        if new is not None:
            differences = _differences(old, new, at)
            changes += differences
            # If only the order of the parts differs, the old entry stays.
            entry = replace(new, name=old.name, first_seen=old.first_seen) if differences else old
        elif old.is_live and not is_still_described(old):
            entry = replace(old, retired_at=at)
            changes.append(Change(at, old.kind, old.id, "retired"))
        else:
            entry = old
        entries[old.kind, old.id] = entry
    # Plain identifiers first: if two names collide, an id that is an identifier keeps its name.
    for entry in sorted(listed.values(), key=lambda new: (new.id != to_identifier(new.id), new.id)):
        taken = [other.name for other in entries.values() if other.kind == entry.kind]
        name = distinct_identifier(entry.id, [*taken, *METRIC_TABLES])
        entries[entry.kind, entry.id] = replace(entry, name=name, first_seen=at)
        changes.append(Change(at, entry.kind, entry.id, "added"))
    reported = {(each.kind, each.change, each.item) for each in known.changes if not each.id}
    changes += [
        Change(at, kind, "", what, item)
        for kind, what, item in listing.undescribed
        if (kind, what, item) not in reported
    ]
    ordered = tuple(entries[key] for key in sorted(entries))
    filter_names = name_filters(ordered, known.filter_names)
    return Catalogue(ordered, known.changes + tuple(changes), filter_names, known.facts)


def name_filters(entries: Iterable[Entry], known: Mapping[str, str]) -> dict[str, str]:
    """The table names of all filter attributes: the known ones, then new ones in order."""
    names = dict(known)
    for attribute in sorted({name for entry in entries for name in entry.attributes}):
        if attribute not in names:
            names[attribute] = distinct_identifier(attribute, names.values())
    return names


def note_findings(
    known: Catalogue,
    types: Iterable[tuple[str, str, str]],
    fields: Mapping[str, Collection[str]],
    at: str,
) -> Catalogue:
    """Return the catalogue with a change for each new finding of loads.

    Args:
        known: The catalogue so far.
        types: Undocumented types in loaded values: asset key, field, type.
        fields: Fields of loaded rows, by the name of the record's table.
        at: The instant of the change, ISO.
    """
    by_key = {entry.key: entry for entry in known.entries}
    found = [
        Change(at, entry.kind, entry.id, "unknown type", field, after=json.dumps(type_))
        for key, field, type_ in sorted(types)
        if (entry := by_key.get(key))
    ]
    found += [
        Change(at, entry.kind, entry.id, ONLY_IN_ROWS, field)
        for entry in known.entries
        if entry.kind == "record"
        for field in sorted({*fields.get(entry.name, ())} - {one.field for one in entry.fields})
    ]
    reported = {replace(change, changed_at="") for change in known.changes}
    new = [change for change in found if replace(change, changed_at="") not in reported]
    return replace(known, changes=(*known.changes, *new)) if new else known


def _as_known(known: Catalogue, listed: Sequence[Entry]) -> Iterator[Entry]:
    """The listed entries under their known ids, which may differ in capitals."""
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


def _differences(old: Entry, new: Entry, at: str) -> list[Change]:
    change = partial(Change, at, old.kind, old.id)
    changes = []
    if not old.is_live:
        changes.append(change("restored", before=_json(old.retired_at)))
    if old.api_id != new.api_id:
        changes.append(change("id changed", None, _json(old.api_id), _json(new.api_id)))
    if old.description != new.description:
        texts = _json(old.description), _json(new.description)
        changes.append(change("description changed", None, *texts))
    for part, items_of in _PARTS.items():
        before, after = items_of(old), items_of(new)
        for item in dict.fromkeys([*before, *after]):
            if item in before and item in after and before[item] == after[item]:
                continue
            verb = "removed" if item not in after else "changed" if item in before else "added"
            values = _json(before.get(item)), _json(after.get(item))
            changes.append(change(f"{part} {verb}", item, *values))
    return changes


# The parts of an entry that can change, by name.
_PARTS: dict[str, Callable[[Entry], dict[str, Any]]] = {
    "filter": lambda entry: {item.attribute: asdict(item) for item in entry.filters},
    "aggregation": lambda entry: {item.measure: asdict(item) for item in entry.aggregations},
    "field": lambda entry: {item.field: asdict(item) for item in entry.fields},
    "relation": lambda entry: dict.fromkeys(entry.related_ids),
}


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)
