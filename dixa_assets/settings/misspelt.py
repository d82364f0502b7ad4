"""Names in settings that nothing has, each with the nearest that something has."""

import re
import textwrap
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import NamedTuple

from dixa_assets.model.catalogue import Catalogue, Entry
from dixa_assets.model.tables import RECORD_VALUE

PREFIX = "DIXA_"
# Read wherever this project runs, and no attribute of the component.
VARIABLES = frozenset({"DIXA_API_KEY", "DIXA_ALERT_WEBHOOK"})
# How alike a misspelt variable is to the one that is meant. Others may be somebody else's.
ALIKE = 0.8
# Stands for every record.
EVERY = "*"


class Mistake(NamedTuple):
    """A setting, and what is wrong with it; not sure if what it names may exist all the same."""

    setting: str
    problem: str
    is_sure: bool = True


def nearest(name: str, known: Iterable[str], *, alike: float = 0.6) -> str:
    """The most similar of the known names, whatever its case; empty if none is similar."""
    by_lower = {each.lower(): each for each in sorted(known)}
    found = get_close_matches(name.lower(), by_lower, n=1, cutoff=alike)
    return by_lower[found[0]] if found else ""


def hint(name: str, known: Collection[str]) -> str:
    """How a sentence about an unknown name ends: with what may be meant, or what there is."""
    if meant := nearest(name, known):
        return f"; did you mean {meant}?"
    there = textwrap.shorten(", ".join(sorted(known)), 200, placeholder=" …")
    return f"; there are {there}." if known else "."


def unknown_variables(names: Iterable[str], read: Collection[str]) -> Iterator[tuple[str, str]]:
    """Each variable that looks like a setting and is not read, with the one misspelt by it.

    A known name with a part behind it, such as `DIXA_API_KEY_OLD`, was written so on purpose.
    """
    for name in sorted(names):
        if not name.upper().startswith(PREFIX) or name in read:
            continue
        bare = {each.removeprefix(PREFIX): each for each in read}
        meant = nearest(name[len(PREFIX) :], bare, alike=ALIKE)
        on_purpose = any(name.startswith(f"{each}_") for each in read)
        yield name, "" if on_purpose or not meant else bare[meant]


def unknown_names(
    catalogue: Catalogue,
    *,
    include: Collection[str] = (),
    exclude: Collection[str] = (),
    filters: Mapping[str, Mapping[str, Sequence[str]]],
    breakdowns: Mapping[str, Sequence[str]],
    required_filter: str = "",
    values: Mapping[str, Collection[str]],
) -> Iterator[Mistake]:
    """Setting and problem of each name that a known catalogue never had.

    What was withdrawn is still known. `values` are those of the filter attributes that were asked.
    """
    ids = {entry.id for entry in catalogue.entries}
    metrics = {entry.id for entry in catalogue.entries if entry.kind == "metric"}
    either = "metric or record of Dixa's"
    yield from _unknown("include", include, ids, either)
    yield from _unknown("exclude", exclude, ids, either)
    yield from _unknown("filters", filters, ids, either)
    yield from _unknown("breakdowns", breakdowns, metrics, "metric of Dixa's")
    for setting, chosen in (("filters", filters), ("breakdowns", breakdowns)):
        for entry in catalogue.entries:
            if entry.id in chosen and (setting == "filters" or entry.kind == "metric"):
                known = entry.attributes | _withdrawn(catalogue, entry, "filter")
                what = f"filter attribute of {entry.kind} '{entry.id}'"
                yield from _unknown(setting, chosen[entry.id], known, what)
    asked = {(name, value) for each in filters.values() for name in each for value in each[name]}
    for name, value in sorted(asked):
        if name in values:
            yield from _unknown("filters", [value], values[name], f"value of {name}")
    if required_filter:
        attributes = catalogue.filter_names
        yield from _unknown("required_filter", [required_filter], attributes, "filter attribute")


def unknown_fields(
    catalogue: Catalogue,
    exclude_fields: Mapping[str, Sequence[str]],
    stored: Mapping[str, Collection[str]] | None = None,
) -> Iterator[Mistake]:
    """The same for the fields of records: those that the catalogue had, and those in the tables."""
    if not exclude_fields:
        return
    records = {entry.id: entry for entry in catalogue.entries if entry.kind == "record"}
    yield from _unknown("exclude_fields", exclude_fields, {*records, EVERY}, "record of Dixa's")
    fields = {
        # A row's own value is a field too, whatever the catalogue says.
        name: {
            RECORD_VALUE.field,
            *(item.field for item in entry.fields),
            *(stored or {}).get(entry.name, ()),
        }
        | _withdrawn(catalogue, entry, "field")
        for name, entry in records.items()
    }
    fields[EVERY] = {field for each in fields.values() for field in each}
    for name, chosen in exclude_fields.items():
        if name in fields:
            what = f"field of record '{name}'" if name != EVERY else "field of any record"
            for field in chosen:
                # Rows may have fields that the catalogue does not tell of. A typo is none of them.
                is_sure = bool(nearest(field, fields[EVERY]))
                for mistake in _unknown("exclude_fields", [field], fields[name], what):
                    yield mistake._replace(is_sure=is_sure)


def _unknown(
    setting: str, names: Iterable[str], known: Collection[str], what: str
) -> Iterator[Mistake]:
    for name in names:
        if name not in known:
            yield Mistake(setting, f"'{name}' is no {what}{hint(name, known)}")


def _withdrawn(catalogue: Catalogue, entry: Entry, part: str) -> set[str]:
    """Filters or fields that an entry once had."""
    return {
        change.item
        for change in catalogue.changes
        if (change.kind, change.id, change.change) == (entry.kind, entry.id, f"{part} removed")
        and change.item
    }


def variables_in(texts: Iterable[str]) -> set[str]:
    """The variables of this project's that are named in texts."""
    return {name for text in texts for name in re.findall(rf"\b{PREFIX}[A-Z0-9_]+", text)}
