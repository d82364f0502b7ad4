"""Asset checks: what `quality` finds, on every metric and record, shown by Dagster.

They end an asset's load and ask the warehouse only. Their severity is WARN: the data are stored
either way, and what a check doubts, a person decides. A load that cannot ask leaves its checks
unexecuted, which Dagster does not show as passed.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import dagster as dg

from dixa_assets import quality
from dixa_assets.catalogue import Catalogue, Entry
from dixa_assets.partitions import history_of
from dixa_assets.quality import Finding
from dixa_assets.warehouse import Query

DESCRIPTIONS = {
    "completeness": "Every day from the first loaded one to yesterday is loaded.",
    "schema": "Fields or measures in the data are those of the catalogue.",
    "not_null": "Fields that the catalogue calls non-nullable have a value in every row.",
    "window": "Every row's primary timestamp lies in the day it was loaded for.",
    "reconciliation": "The metric agrees with the rows of its record, day by day.",
}


@dataclass(frozen=True, slots=True)
class Checks:
    """The checks of one metric or record: by name, how each looks at the warehouse."""

    key: dg.AssetKey
    looks: Mapping[str, Callable[[Query], Finding]]

    @property
    def specs(self) -> list[dg.AssetCheckSpec]:
        """The checks as Dagster knows them before any load."""
        return [
            dg.AssetCheckSpec(name, asset=self.key, description=DESCRIPTIONS[name])
            for name in self.looks
        ]

    def results(self, query: Query) -> Iterator[dg.AssetCheckResult]:
        """What each check finds now."""
        for name, look in self.looks.items():
            yield _result(self.key, name, look(query))


def build_checks(
    entry: Entry,
    catalogue: Catalogue,
    *,
    partitions_def: dg.DailyPartitionsDefinition,
    history_days: int,
    excluded_fields: frozenset[str],
) -> Checks:
    """The checks of one metric or record.

    Args:
        entry: The metric or record.
        catalogue: The catalogue it belongs to, with what it is related to.
        partitions_def: The days it can be loaded for.
        history_days: How many days before it was first seen it gets by itself.
        excluded_fields: Fields of a record that are not stored.
    """
    key = dg.AssetKey([entry.schema, entry.name])
    asset_key = key.to_user_string()

    def completeness(query: Query) -> Finding:
        until = datetime.fromisoformat(entry.retired_at) if entry.retired_at else None
        days = partitions_def.get_partition_keys(current_time=until)
        history = history_of(entry.first_seen, partitions_def, history_days)
        since = history[0] if history else entry.first_seen[:10]
        return quality.completeness(query, asset_key, days, since=since)

    looks: dict[str, Callable[[Query], Finding]] = {"completeness": completeness}
    if entry.kind == "record":
        looks["schema"] = lambda query: quality.fields(query, entry, excluded_fields)
        looks["not_null"] = lambda query: quality.not_null(query, entry, excluded_fields)
        looks["window"] = lambda query: quality.window(query, asset_key)
        return Checks(key, looks)
    looks["schema"] = lambda query: quality.measures(query, entry)
    record = quality.record_behind(entry, catalogue.entries)
    if record is not None:
        averages = quality.averages_of(record, catalogue.entries)
        looks["reconciliation"] = lambda query: quality.reconciliation(
            query, entry, record, averages
        )
    return Checks(key, looks)


def _result(key: dg.AssetKey, name: str, finding: Finding) -> dg.AssetCheckResult:
    metadata: dict[str, dg.MetadataValue | float] = dict(finding.figures)
    if finding.table:
        metadata["cases"] = dg.MetadataValue.table(
            [dg.TableRecord({k: to_cell(v) for k, v in row.items()}) for row in finding.table]
        )
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=name,
        passed=finding.passed,
        severity=dg.AssetCheckSeverity.WARN,
        description=finding.reason,
        metadata=metadata,
    )


def to_cell(value: object) -> str | int | float | bool | None:
    """A value as Dagster's tables take it: a plain number, text or nothing."""
    if value is None or value != value:  # noqa: PLR0124
        return None
    if isinstance(value, datetime):
        # DuckDB's instants have a zone, its dates have none.
        return value.isoformat(" ", "milliseconds") if value.tzinfo else f"{value:%Y-%m-%d}"
    plain = getattr(value, "item", lambda: value)()
    return plain if isinstance(plain, (str, int, float, bool)) else str(plain)
