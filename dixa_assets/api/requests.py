"""What is asked for one entry: its filters, its breakdowns, and the request bodies."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from dixa_assets.api.client import DixaClient
from dixa_assets.errors import ApiContractBroken, ConfigError
from dixa_assets.model.catalogue import Entry, Kind
from dixa_assets.model.counts import Usage
from dixa_assets.model.days import MILLISECOND, Window


@dataclass(frozen=True, slots=True)
class FilterValue:
    """A value of a filter attribute, as the vendor's filter endpoint gave it."""

    value: str
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What to ask for one entry, whatever the day.

    `filters` go with every request. `breakdowns` add, to a metric's total, one request per value.
    `excluded_fields` of a record are dropped before anything is written anywhere.
    `is_end_exclusive` is true where the API was found to leave out a period's end, `is_by_primary`
    false where it was found to look at another time of a row than its primary timestamp.
    """

    entry: Entry
    filters: Mapping[str, Sequence[str]] = field(default_factory=dict)
    breakdowns: Mapping[str, Sequence[FilterValue]] = field(default_factory=dict)
    excluded_fields: frozenset[str] = frozenset()
    is_end_exclusive: bool = False
    is_by_primary: bool = True

    def body(self, window: Window, /, **narrowed: str) -> dict[str, Any]:
        """The request body for a window, with attributes of `narrowed` set to one value.

        It is not documented whether a period's end belongs to it. Records are asked for up to the
        end itself, since a row exactly on it is left to the next window; a metric's end is the
        last millisecond before, so that no event counts in two days, unless it is known not to.
        So is a record's where a row does not tell on which side of the end it lies.
        """
        is_told = self.entry.kind == "record" and self.is_by_primary
        is_left_out = is_told or self.is_end_exclusive
        end = window.end if is_left_out else window.end - MILLISECOND
        filters = {name: list(values) for name, values in self.filters.items()}
        filters |= {name: [value] for name, value in narrowed.items()}
        body: dict[str, Any] = {
            "id": self.entry.asked_as,
            "periodFilter": {"_type": "Interval", "start": _z(window.start), "end": _z(end)},
            "timezone": window.timezone,
        }
        if filters:
            body["filters"] = [
                {"attribute": name, "values": values} for name, values in filters.items()
            ]
        if self.entry.aggregations:
            body["aggregations"] = [item.measure for item in self.entry.aggregations]
        return body

    def narrowings(self) -> Iterator[tuple[str, FilterValue]]:
        """Each attribute and value that the metric's total is broken down by."""
        for attribute, values in self.breakdowns.items():
            wanted = self.filters.get(attribute)
            for value in values:
                if wanted is None or value.value in wanted:
                    yield attribute, value


@dataclass(frozen=True, slots=True)
class Choices:
    """What the user chose about requests, by the vendor's id.

    `filters` are values to keep, `breakdowns` the attributes a metric is broken down by.
    `required_filters` name, per kind of entry, an attribute whose values are all sent with every
    request that has no filter on it.
    """

    filters: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    breakdowns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    required_filters: Mapping[Kind, str] = field(default_factory=dict)
    is_end_exclusive: bool = False
    is_by_primary: bool = True

    def breakdowns_of(self, entry: Entry) -> Sequence[str]:
        """The attributes an entry is broken down by: none for a record."""
        return self.breakdowns.get(entry.id, ()) if entry.kind == "metric" else ()

    def build_request(
        self, client: DixaClient, entry: Entry, excluded_fields: frozenset[str]
    ) -> Request:
        """The request for an entry; the values of its breakdowns are asked for."""
        filters = dict(self.filters.get(entry.id, {}))
        required = entry.compulsory_filter(self.required_filters.get(entry.kind, ""))
        if required and required not in filters:
            filters[required] = [item.value for item in fetch_filter_values(client, required)]
        breakdowns = self.breakdowns_of(entry)
        check_attributes(entry, filters=filters, breakdowns=breakdowns)
        return Request(
            entry,
            filters,
            {attribute: fetch_filter_values(client, attribute) for attribute in breakdowns},
            excluded_fields,
            self.is_end_exclusive,
            self.is_by_primary,
        )


def fetch_filter_values(
    client: DixaClient, attribute: str, usage: Usage | None = None
) -> tuple[FilterValue, ...]:
    """The values the vendor offers for a filter attribute, in its order."""
    values = {}
    for item in client.fetch_filter_values(attribute, usage):
        value = item.get("value") if isinstance(item, dict) else None
        if not isinstance(value, str):
            raise ApiContractBroken(f"filter '{attribute}'", "a value is missing or not a text.")
        label = item.get("label")
        values[value] = FilterValue(value, label if isinstance(label, str) else None)
    return tuple(values.values())


def check_attributes(
    entry: Entry, *, filters: Collection[str] = (), breakdowns: Collection[str] = ()
) -> None:
    """Refuse to filter or break an entry down by what it does not advertise.

    The vendor ignores an attribute it does not know for an entry, and answers with numbers that
    were never filtered.
    """
    for setting, attributes in (("filters", filters), ("breakdowns", breakdowns)):
        for attribute in attributes:
            if attribute not in entry.attributes:
                known = ", ".join(sorted(entry.attributes)) or "none"
                raise ConfigError(
                    f"{setting} of {entry.kind} '{entry.id}'",
                    f"'{attribute}' is no filter attribute of it. Dixa would ignore it and give "
                    f"unfiltered numbers. It can be filtered by: {known}.",
                )


def _z(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%dT%H:%M:%S.") + f"{instant.microsecond // 1000:03d}Z"
