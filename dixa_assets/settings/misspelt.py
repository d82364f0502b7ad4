"""Unknown names in settings and environment variables, with the nearest known name."""

import re
import textwrap
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple
from zoneinfo import available_timezones

from dixa_assets.errors import ConfigError, printable
from dixa_assets.model.catalogue import Catalogue
from dixa_assets.model.options import EVERY_RECORD, HASH_KEY, LoadSettings
from dixa_assets.model.privacy import OWN_VALUE, normalised

PREFIX = "DIXA_"
VARIABLE = re.compile(rf"\b{PREFIX}[A-Z0-9_]+")
# Variables that are read directly, not through an attribute of the component.
VARIABLES = frozenset({"DIXA_API_KEY", "DIXA_ALERT_WEBHOOK", HASH_KEY})
# Settings that name fields of records.
FIELD_SETTINGS = ("exclude_fields", "only_fields", "hash_fields")
# Minimal similarity of a misspelt variable to a known one. Other programs may use the others.
MIN_SIMILARITY = 0.8


class Mistake(NamedTuple):
    """An unknown name in a setting. `is_sure` is False if the name may exist in Dixa."""

    setting: str
    problem: str
    is_sure: bool = True


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """The most similar known name, ignoring case; empty if none is similar."""
    by_lower = {each.lower(): each for each in sorted(known)}
    found = get_close_matches(name.lower(), by_lower, n=1, cutoff=cutoff)
    return by_lower[found[0]] if found else ""


def hint(name: str, known: Collection[str]) -> str:
    """The end of a sentence about an unknown name: the nearest known name, or all known names."""
    if meant := nearest(name, known):
        return f"; did you mean {printable(meant)}?"
    all_known = textwrap.shorten(printable(", ".join(sorted(known))), 200, placeholder=" …")
    return f"; known names: {all_known}." if known else "."


def refuse_mistakes(mistakes: Sequence[Mistake], *, selects_nothing: bool) -> None:
    """Raise if no entry is selected, or if a setting names a misspelt field."""
    if selects_nothing:
        nothing = Mistake("include", "`include` and `exclude` together select no metric or record.")
        serious = [each for each in mistakes if each.setting == "include"] or [nothing]
    else:
        serious = [each for each in mistakes if each.setting in FIELD_SETTINGS and each.is_sure]
    if serious:
        raise ConfigError.of(each[:2] for each in serious)


def zone_problem(zone: str) -> str:
    """The problem of a name that is not a time zone; empty if it is one."""
    known = available_timezones()
    if zone in known:
        return ""
    meant = nearest(zone, known)
    advice = f"; did you mean {meant}?" if meant else ", for instance Europe/Copenhagen."
    return f"'{zone}' is not a zone of the IANA database{advice}"


def variables_read(folder: Path) -> set[str]:
    """The environment variables that the YAML files of a folder read, and those always read."""
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in folder.rglob("*.yaml")]
    return {*VARIABLES, *(name for each in texts for name in VARIABLE.findall(each))}


def unknown_variables(names: Iterable[str], read: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield each variable that looks like a setting and is not read, with the nearest known one.

    The second string is empty if no known name is similar. It is also empty for a known name with a
    suffix, such as `DIXA_API_KEY_OLD`, which is deliberate.
    """
    for name in sorted(names):
        if not name.upper().startswith(PREFIX) or name in read:
            continue
        bare = {each.removeprefix(PREFIX): each for each in read}
        meant = nearest(name[len(PREFIX) :], bare, cutoff=MIN_SIMILARITY)
        on_purpose = any(name.startswith(f"{each}_") for each in read)
        yield name, "" if on_purpose or not meant else bare[meant]


def unknown_names(
    catalogue: Catalogue, settings: LoadSettings, values: Mapping[str, Collection[str]]
) -> Iterator[Mistake]:
    """Yield every name in the settings that the catalogue never had.

    `values` has the values of each filter attribute that was fetched.
    """
    filters, breakdowns = settings.filters, settings.breakdowns
    ids = {entry.id for entry in catalogue.entries}
    metrics = {entry.id for entry in catalogue.entries if entry.kind == "metric"}
    # Setting, chosen names, known names, and what a known name is.
    rows: list[tuple[str, Collection[str], Collection[str], str]] = [
        ("include", settings.include, ids, "metric or record of Dixa"),
        ("exclude", settings.exclude, ids, "metric or record of Dixa"),
        ("filters", filters, ids, "metric or record of Dixa"),
        ("breakdowns", breakdowns, metrics, "metric of Dixa"),
    ]
    removed = catalogue.changed_items("filter removed")
    for entry in catalogue.entries:
        known = entry.attributes.union(removed[entry.kind, entry.id])
        what = f"filter attribute of {entry.kind} '{entry.id}'"
        rows.append(("filters", filters.get(entry.id, ()), known, what))
        if entry.kind == "metric":
            rows.append(("breakdowns", breakdowns.get(entry.id, ()), known, what))
    pairs = {(name, value) for each in filters.values() for name in each for value in each[name]}
    rows += [
        ("filters", [value], values[name], f"value of {name}")
        for name, value in sorted(pairs)
        if name in values
    ]
    required = [settings.required_filter] if settings.required_filter else []
    rows.append(("required_filter", required, catalogue.filter_names, "filter attribute"))
    for row in rows:
        yield from _unknown(*row)
    yield from _unknown_fields(catalogue, settings)


def _unknown_fields(catalogue: Catalogue, settings: LoadSettings) -> Iterator[Mistake]:
    """Yield every name in `FIELD_SETTINGS` that neither the catalogue nor a row ever had."""
    others = catalogue.changed_items("field removed", "field only in rows")
    fields = {
        # A row's own value is a field too, and a filter attribute may be.
        entry.id: {OWN_VALUE, *entry.attributes, *(item.field for item in entry.fields)}
        | {*others[entry.kind, entry.id]}
        for entry in catalogue.entries
        if entry.kind == "record"
    }
    every = fields[EVERY_RECORD] = {OWN_VALUE, *catalogue.filter_names}.union(*fields.values())
    for setting in FIELD_SETTINGS:
        chosen: Mapping[str, Sequence[str]] = getattr(settings, setting)
        yield from _unknown(setting, chosen, fields, "record of Dixa")
        for id_ in chosen.keys() & fields.keys():
            what = f"field of record '{id_}'" if id_ != EVERY_RECORD else "field of any record"
            known = {*map(normalised, fields[id_])}
            names = [name for name in chosen[id_] if normalised(name) not in known]
            # Rows may have fields that the catalogue does not list. A typo resembles a known name.
            yield from _unknown(setting, names, fields[id_], what, every)


def _unknown(
    setting: str,
    chosen: Iterable[str],
    known: Collection[str],
    what: str,
    typo_of: Collection[str] = (),
) -> Iterator[Mistake]:
    """Yield a mistake per unknown name. With `typo_of`, it is sure if one of them is similar."""
    for name in chosen:
        if name not in known:
            is_sure = not typo_of or bool(nearest(name, typo_of))
            yield Mistake(setting, f"'{name}' is not a {what}{hint(name, known)}", is_sure)
