"""Assets made of the whole database: marts, report, read copy, the lake's maintenance.

To add one, write a function that returns a `Published`, and add it to `published_assets`.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from dixa_assets.marts.builder import MISSING, Marts
from dixa_assets.model.tables import MARTS, METRICS_DAILY
from dixa_assets.orchestration.assets import as_failure, describe_table, step_name
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
    """Assets that one step makes of the whole database.

    Args:
        name: The name of the step, without `dixa`.
        assets: The assets, before translation.
        run: Makes them, and returns the metadata of each materialization by name.
        cron: When they are made. Empty: after loads, by the publish sensor.
        views: Views, by schema and name, that are materialized with them.
    """

    name: str
    assets: Sequence[DixaAsset]
    run: Callable[[Warehouse], Mapping[str, Mapping[str, Any]]]
    cron: str = ""
    views: Sequence[tuple[str, str]] = ()

    def keys(self, specs: Specs) -> dict[dg.AssetKey, str]:
        """The keys of the assets after translation, with their code versions."""
        translated = [specs[each.schema, each.name] for each in self.assets]
        return {spec.key: spec.code_version or "" for spec in translated}

    def build(self, names: Names, specs: Specs) -> dg.AssetsDefinition:
        """Build the assets."""
        warehouse = names.of(WAREHOUSE)

        @dg.multi_asset(
            name=step_name(names.key(METRICS_DAILY.schema, self.name)),
            specs=[specs[each.schema, each.name] for each in self.assets],
            can_subset=True,
            required_resource_keys={warehouse},
        )
        def publish(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
            started = time.monotonic()
            with as_failure():
                made = self.run(getattr(context.resources, warehouse))
            for view in self.views:
                # A view has no step of its own. Without an event Dagster shows it as missing.
                context.log_event(dg.AssetMaterialization(specs.key(*view)))
            seconds = round(time.monotonic() - started, 3)
            for asset in self.assets:
                spec = specs[asset.schema, asset.name]
                if spec.key not in context.selected_asset_keys:
                    continue
                own = {"version": spec.code_version} if spec.code_version else {}
                yield dg.MaterializeResult(
                    asset_key=spec.key, metadata={**made[asset.name], "seconds": seconds} | own
                )

        return publish


def published_assets(
    account: Account,
    *,
    marts: Marts | None,
    shown: Sequence[dg.AssetKey],
    tables: Sequence[dg.AssetKey],
) -> list[Published]:
    """List the assets that an account publishes.

    Args:
        account: The account.
        marts: Its marts, if it has any.
        shown: The views of all metrics, and the records. The report shows them.
        tables: All other tables. The read copy has them too.
    """
    published = [_marts(account, marts)] if marts else []
    shown = [*shown, *(each.spec.key for step in published for each in step.assets)]
    if account.report:
        published.append(_report(account, account.report, shown))
    if account.read_copy:
        published.append(_read_copy(account, account.read_copy, [*shown, *tables]))
    if folder := account.settings.parquet_path:
        published.append(_parquet(account, folder, [*shown, *tables]))
    if account.is_lake:
        published.append(_lake_maintenance(account))
    return published


def describe_one(
    account: Account, name: str, kind: str, description: str, **more: Any
) -> DixaAsset:
    """Describe an asset of the schema `dixa`."""
    schema, names = METRICS_DAILY.schema, account.names
    spec = dg.AssetSpec(
        names.key(schema, name),
        group_name=names.of(schema),
        description=description,
        kinds={kind},
        **more,
    )
    return DixaAsset(schema, name, spec)


def _marts(account: Account, marts: Marts) -> Published:
    def run(warehouse: Warehouse) -> Mapping[str, Mapping[str, Any]]:
        problems = marts.make(warehouse)
        return {
            name: {"not made": problems[name]} if name in problems else {} for name in described
        }

    names = account.names
    described = {}
    for mart in marts.possible:
        spec = describe_table(mart.table, names).spec.replace_attributes(
            deps=[names.key(*each) for each in marts.upstream(mart)],
            kinds={"duckdb", "view"},
            code_version=marts.version(mart),
        )
        described[mart.name] = DixaAsset(MARTS, mart.name, spec)
    described[MISSING.name] = describe_table(MISSING, names)
    return Published("marts", [*described.values()], run)


def _report(account: Account, path: Path, deps: Sequence[dg.AssetKey]) -> Published:
    def run(warehouse: Warehouse) -> Mapping[str, Mapping[str, Any]]:
        # Only this step needs the template engine.
        from dixa_assets.report.render import write_report

        written = write_report(warehouse, path, options=account.options)
        return {
            "report": {
                "path": dg.MetadataValue.path(path),
                "pages": len(written.pages),
                "days": len(written.days),
                "bytes": path.stat().st_size,
                **({"not in the report": dict(written.failures)} if written.failures else {}),
            }
        }

    about = "One HTML file for managers, with every metric and record. Loads renew it."
    views = [(view.schema, view.name) for view in account.options.settings.views]
    asset = describe_one(account, "report", "html", about, deps=deps)
    return Published("report", [asset], run, views=views)


def _read_copy(account: Account, path: Path, deps: Sequence[dg.AssetKey]) -> Published:
    about = "A compact copy of the database for programs that keep it open. Each run replaces it."
    metadata = {"path": str(path)}
    asset = describe_one(account, "read_copy", "duckdb", about, deps=deps, metadata=metadata)
    return Published(
        "read_copy",
        [asset],
        lambda warehouse: {"read_copy": warehouse.publish(path)},
    )


def _parquet(account: Account, folder: str, deps: Sequence[dg.AssetKey]) -> Published:
    about = (
        "A copy of every table as Parquet: a folder for each table, a file for each day. A run "
        "replaces the files of days that were loaded again."
    )
    asset = describe_one(account, "parquet", "parquet", about, deps=deps, metadata={"path": folder})
    return Published("parquet", [asset], lambda warehouse: {"parquet": warehouse.export(folder)})


def _lake_maintenance(account: Account) -> Published:
    about = (
        "Maintenance of the lake's files: it merges small files and removes files that no reader "
        "needs."
    )
    return Published(
        "lake",
        [describe_one(account, "lake", "ducklake", about)],
        lambda warehouse: {"lake": warehouse.maintain(SNAPSHOT_RETENTION)},
        cron=NIGHTLY,
    )
