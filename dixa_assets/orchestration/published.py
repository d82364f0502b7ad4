"""Assets made of the whole database: the read copy, the report, the lake's maintenance.

To add one, write a function that returns a `Published`, and add it to `published_assets`.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from dixa_assets.model.options import Options
from dixa_assets.model.tables import METRICS_DAILY
from dixa_assets.orchestration.assets import as_failure, step_name
from dixa_assets.orchestration.naming import DixaAsset, Names, Specs
from dixa_assets.orchestration.resources import WAREHOUSE
from dixa_assets.orchestration.settings import Account
from dixa_assets.warehouse.warehouse import Warehouse

# Earlier states of the lake can be read for this long.
SNAPSHOT_RETENTION = timedelta(days=7)
# Before the daily schedule; no zone's clocks change at this hour.
NIGHTLY = "30 4 * * *"


@dataclass(frozen=True)
class Published:
    """An asset made of the whole database.

    Args:
        name: Its name in the schema `dixa`.
        description: Its description in Dagster.
        kind: Its kind in Dagster.
        run: Makes it and returns the metadata of the materialization.
        deps: The assets it reads.
        metadata: Its metadata before any run.
        cron: When it is made. Empty: after loads, by the publish sensor.
        views: Views, by schema and name, that are materialized with it.
    """

    name: str
    description: str
    kind: str
    run: Callable[[Warehouse], Mapping[str, Any]]
    deps: Sequence[dg.AssetKey] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    cron: str = ""
    views: Sequence[tuple[str, str]] = ()

    @property
    def schema_and_name(self) -> tuple[str, str]:
        """Its schema and name."""
        return METRICS_DAILY.schema, self.name

    def describe(self, names: Names) -> DixaAsset:
        """Describe the asset before translation."""
        spec = dg.AssetSpec(
            names.key(*self.schema_and_name),
            deps=self.deps,
            group_name=names.of("dixa"),
            description=self.description,
            kinds={self.kind},
            metadata=self.metadata,
        )
        return DixaAsset(*self.schema_and_name, spec)

    def build(self, names: Names, specs: Specs) -> dg.AssetsDefinition:
        """Build the asset."""
        warehouse = names.of(WAREHOUSE)

        @dg.multi_asset(
            name=step_name(names.key(*self.schema_and_name)),
            specs=[specs[self.schema_and_name]],
            required_resource_keys={warehouse},
        )
        def publish(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
            started = time.monotonic()
            with as_failure():
                made = self.run(getattr(context.resources, warehouse))
            for view in self.views:
                # A view has no step of its own. Without an event Dagster shows it as missing.
                context.log_event(dg.AssetMaterialization(specs.key(*view)))
            return dg.MaterializeResult(
                metadata={**made, "seconds": round(time.monotonic() - started, 3)}
            )

        return publish


def published_assets(
    account: Account, *, shown: Sequence[dg.AssetKey], tables: Sequence[dg.AssetKey]
) -> list[Published]:
    """List the assets that an account publishes.

    Args:
        account: The account.
        shown: The view of all metrics, and the records. The report shows them.
        tables: All other tables. The read copy has them too.
    """
    published = []
    if account.report:
        published.append(_report(account.report, account.options, shown))
    if account.read_copy:
        published.append(_read_copy(account.read_copy, [*shown, *tables]))
    if account.is_lake:
        published.append(_lake_maintenance())
    return published


def _report(path: Path, options: Options, deps: Sequence[dg.AssetKey]) -> Published:
    def run(warehouse: Warehouse) -> Mapping[str, Any]:
        # Only this step needs the template engine.
        from dixa_assets.report.render import write_report

        written = write_report(warehouse, path, options=options)
        return {
            "path": dg.MetadataValue.path(path),
            "pages": len(written.pages),
            "days": len(written.days),
            "bytes": path.stat().st_size,
        }

    return Published(
        "report",
        "One HTML file for managers, with every metric and record. It is replaced after loads.",
        "html",
        run,
        deps,
        views=[(METRICS_DAILY.schema, METRICS_DAILY.name)],
    )


def _read_copy(path: Path, deps: Sequence[dg.AssetKey]) -> Published:
    return Published(
        "read_copy",
        "A compact copy of the database for programs that keep it open. Each run replaces it.",
        "duckdb",
        lambda warehouse: {"bytes": warehouse.publish(path)},
        deps,
        {"path": str(path)},
    )


def _lake_maintenance() -> Published:
    return Published(
        "lake",
        "Maintenance of the lake's files: it merges small files and removes files that no reader "
        "needs.",
        "ducklake",
        lambda warehouse: warehouse.maintain(SNAPSHOT_RETENTION),
        cron=NIGHTLY,
    )
