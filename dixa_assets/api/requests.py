"""The requests for one entry: its filters, its breakdowns, and the request bodies."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from dixa_assets.api.client import DixaClient
from dixa_assets.errors import ApiContractBroken, ConfigError
from dixa_assets.model.catalogue import Entry
from dixa_assets.model.counts import Usage
from dixa_assets.model.days import MILLISECOND, Period
from dixa_assets.model.options import LoadSpec


@dataclass(frozen=True, slots=True)
class FilterValue:
    """A value of a filter attribute, from the vendor's filter endpoint."""

    value: str
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """The request for an entry, on any day.

    Args:
        spec: How the entry is loaded.
        filters: Attributes with the values to keep, sent with every request.
        breakdowns: Attributes with values: each value adds one request to a metric's total.
    """

    spec: LoadSpec
    filters: Mapping[str, Sequence[str]] = field(default_factory=dict)
    breakdowns: Mapping[str, Sequence[FilterValue]] = field(default_factory=dict)

    def body(self, period: Period, /, **narrowed: str) -> dict[str, Any]:
        """The request body for a period; each attribute in `narrowed` is limited to one value.

        The vendor does not document whether the end belongs to a period. A metric's period ends
        one millisecond early, so that no event counts in two days. A record's period ends at the
        end itself, because each row shows its timestamp; but if the probe found that another
        timestamp selects the rows, it ends one millisecond early too. If the probe found that the
        API excludes the end, every period ends at the end itself.
        """
        entry, spec = self.spec.entry, self.spec
        rows_show_their_side = entry.kind == "record" and spec.selects_by_primary_timestamp
        is_exclusive = rows_show_their_side or spec.is_end_exclusive
        end = period.end if is_exclusive else period.end - MILLISECOND
        filters = {name: list(values) for name, values in self.filters.items()}
        filters |= {name: [value] for name, value in narrowed.items()}
        body: dict[str, Any] = {
            "id": entry.api_id,
            "periodFilter": {
                "_type": "Interval",
                "start": _to_utc_text(period.start),
                "end": _to_utc_text(end),
            },
            "timezone": spec.timezone,
        }
        if filters:
            body["filters"] = [
                {"attribute": name, "values": values} for name, values in filters.items()
            ]
        if entry.aggregations:
            body["aggregations"] = [item.measure for item in entry.aggregations]
        return body

    def breakdown_values(self) -> Iterator[tuple[str, FilterValue]]:
        """Each attribute and value by which the metric's total is broken down."""
        for attribute, values in self.breakdowns.items():
            wanted = self.filters.get(attribute)
            for value in values:
                if wanted is None or value.value in wanted:
                    yield attribute, value


def build_request(client: DixaClient, spec: LoadSpec) -> Request:
    """Build the request for an entry. Fetch the values of its breakdowns and required filter."""
    filters = dict(spec.filters)
    required = spec.required_filter
    if required and required not in filters:
        filters[required] = [item.value for item in fetch_filter_values(client, required)]
    check_attributes(spec.entry, filters=filters, breakdowns=spec.breakdowns)
    breakdowns = {name: fetch_filter_values(client, name) for name in spec.breakdowns}
    return Request(spec, filters, breakdowns)


def fetch_filter_values(
    client: DixaClient, attribute: str, usage: Usage | None = None
) -> tuple[FilterValue, ...]:
    """The values the vendor offers for a filter attribute, in its order."""
    values = {}
    for item in client.fetch_filter_values(attribute, usage):
        value = item.get("value") if isinstance(item, dict) else None
        if not isinstance(value, str):
            raise ApiContractBroken(
                f"filter '{attribute}'", "a value is missing or is not a string."
            )
        label = item.get("label")
        values[value] = FilterValue(value, label if isinstance(label, str) else None)
    return tuple(values.values())


def check_attributes(
    entry: Entry,
    *,
    filters: Mapping[str, Sequence[str]] | None = None,
    breakdowns: Collection[str] = (),
) -> None:
    """Reject attributes that the entry does not advertise.

    The vendor ignores such an attribute and returns unfiltered numbers.
    """
    filters = filters or {}
    for attribute, values in filters.items():
        if not values:
            raise ConfigError(
                f"filters of {entry.kind} '{entry.id}'",
                f"'{attribute}' has no values, in the settings or at Dixa. Nothing was requested, "
                "because an empty filter could empty every day.",
            )
    for setting, attributes in (("filters", filters), ("breakdowns", breakdowns)):
        for attribute in attributes:
            if attribute not in entry.attributes:
                known = ", ".join(sorted(entry.attributes)) or "none"
                raise ConfigError(
                    f"{setting} of {entry.kind} '{entry.id}'",
                    f"'{attribute}' is not one of its filter attributes. Dixa would ignore it and "
                    f"return unfiltered numbers. It can be filtered by: {known}.",
                )


def _to_utc_text(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%dT%H:%M:%S.") + f"{instant.microsecond // 1000:03d}Z"
