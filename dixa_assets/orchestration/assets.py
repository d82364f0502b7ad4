"""Asset factories: one asset per metric, record, filter attribute and catalogue table.

Each kind has a function that describes the asset and one that builds it from the description. In
between, users can translate the description. Assets made of the whole database are in
`published.py`. See https://docs.dagster.io/guides/build/assets
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg

from dixa_assets.checks.checks import FRESH_FOR, STALE_AFTER
from dixa_assets.checks.registry import Subject
from dixa_assets.errors import ConfigError, DaysFailed, DixaAssetsError, printable
from dixa_assets.load.loader import Loader
from dixa_assets.load.progress import Progress
from dixa_assets.load.queue import Task
from dixa_assets.model.catalogue import Catalogue, Entry, by_id
from dixa_assets.model.catalogue_rows import catalogue_rows, catalogue_tables
from dixa_assets.model.days import Day
from dixa_assets.model.options import LoadSpec, Options
from dixa_assets.model.privacy import FieldPolicy
from dixa_assets.model.tables import Relation, Table, filter_relation
from dixa_assets.orchestration import metadata
from dixa_assets.orchestration.checks import check_results, check_specs
from dixa_assets.orchestration.dagster_internals import (
    CODE_VERSION_TAG,
    has_dependants,
    steps_after,
    to_evaluation,
)
from dixa_assets.orchestration.metadata import escape_markdown
from dixa_assets.orchestration.naming import DixaAsset, Names, Specs
from dixa_assets.orchestration.partitions import backfill_policy, requested_days
from dixa_assets.orchestration.resources import LOADER
from dixa_assets.warehouse.removal import remove_days, remove_left_out_values
from dixa_assets.warehouse.warehouse import Warehouse

FRESHNESS_POLICY = dg.FreshnessPolicy.time_window(warn_window=FRESH_FOR, fail_window=STALE_AFTER)
# Dashboards usually need these first.
LOADED_FIRST = ("csat", "ratings")
# The materialization of a catalogue table shows this many rows, the latest first.
LATEST_ROWS = 25


class DailyAssets:
    """The daily assets of one catalogue.

    Near the end of an asset's load, the loader already fetches the first days of the next assets.

    Args:
        catalogue: All entries, with their relations.
        names: Names in Dagster.
        partitions_def: The days.
        options: How entries are loaded.
        days_per_run: Days per run of a backfill; 0: one run for all.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        names: Names,
        partitions_def: dg.DailyPartitionsDefinition,
        options: Options,
        days_per_run: int = 0,
    ) -> None:
        self._catalogue = catalogue
        self._entries = by_id(catalogue.entries)
        self._names = names
        self._partitions_def = partitions_def
        self._options = options
        self._backfill_policy = backfill_policy(days_per_run)
        self._load_specs: dict[str, LoadSpec] = {}
        # The latest run that has removed what must not be kept.
        self._tidied = ""

    def describe(self, load_spec: LoadSpec) -> DixaAsset:
        """Describe a metric or record as an asset."""
        entry = load_spec.entry
        spec = dg.AssetSpec(
            self._names.key(entry.schema, entry.name),
            group_name=self._names.of(entry.schema),
            description=escape_markdown(entry.description),
            kinds={"duckdb"},
            metadata=metadata.of_table(load_spec.relation.table)
            | metadata.of_entry(self._subject(load_spec), self._names.key)
            | {"partition_expr": "partition_date"},
            deps=self._filters_of(load_spec),
            partitions_def=self._partitions_def,
            # Each day is reported when it is written; a result at the end would report it twice.
            skippable=True,
            tags={"dixa/status": "live" if entry.is_live else "retired"},
            freshness_policy=FRESHNESS_POLICY if entry.is_live else None,
            code_version=load_spec.code_version,
        )
        return DixaAsset(entry.schema, entry.name, spec, entry)

    def build(self, load_spec: LoadSpec, specs: Specs) -> dg.AssetsDefinition:
        """Build the asset of a metric or record."""
        entry = load_spec.entry
        spec = specs[entry.schema, entry.name]
        loader = self._names.of(LOADER)

        @dg.multi_asset(
            name=step_name(self._names.key(entry.schema, entry.name)),
            specs=[spec],
            backfill_policy=self._backfill_policy,
            check_specs=check_specs(spec.key, self._subject(load_spec)),
            can_subset=True,
            op_tags={"dagster/priority": str(_priority(entry))},
            required_resource_keys={loader},
        )
        def daily(context: dg.AssetExecutionContext) -> Iterator[Any]:
            with as_failure():
                resource = getattr(context.resources, loader)
                if spec.key in context.selected_asset_keys:
                    yield from self._load(context, resource, spec, load_spec)
                else:
                    # The user executes checks without a load.
                    yield from self._check(context, resource, spec.key, load_spec)

        self._load_specs[daily.op.name] = load_spec
        return daily

    def _load(
        self,
        context: dg.AssetExecutionContext,
        loader: Loader,
        spec: dg.AssetSpec,
        load_spec: LoadSpec,
    ) -> Iterator[
        dg.AssetMaterialization
        | dg.AssetCheckResult
        | dg.AssetCheckEvaluation
        | dg.MaterializeResult[Any]
    ]:
        key, partitions = spec.key, requested_days(context)
        # Dagster does not store the version of an asset without dependencies, and would show every
        # day as out of date.
        version = {CODE_VERSION_TAG: spec.code_version or ""} if not spec.deps else {}
        next_specs = [
            self._load_specs[step] for step in steps_after(context) if step in self._load_specs
        ]
        self._tidy(context.run_id, loader.warehouse)
        task = self._task(load_spec, partitions)
        loaded = loader.load(
            task,
            run_id=context.run_id,
            upcoming=[self._task(next_spec, partitions) for next_spec in next_specs],
        )
        # Steps that depend on this one need its output. Dagster reports the output as all days.
        is_awaited = has_dependants(context)
        progress = Progress(len(partitions))
        failed: DixaAssetsError | None = self._refused(task, partitions)
        try:
            for day in loaded:
                if line := progress.line(day):
                    context.log.info(line)
                is_last = str(day.day) == partitions[-1]
                found = metadata.of_day(load_spec.entry, day, is_last=is_last)
                yield dg.AssetMaterialization(
                    key, partition=str(day.day), metadata=found, tags=version
                )
                if is_awaited:
                    context.add_asset_metadata(found, partition_key=str(day.day))
        except DaysFailed as error:
            failed = failed or error
        yield from self._check(context, loader, key, load_spec)
        if failed is not None:
            raise failed
        if is_awaited:
            yield dg.MaterializeResult(asset_key=key)

    def _check(
        self,
        context: dg.AssetExecutionContext,
        loader: Loader,
        key: dg.AssetKey,
        load_spec: LoadSpec,
    ) -> Iterator[dg.AssetCheckResult | dg.AssetCheckEvaluation]:
        for result in check_results(key, self._subject(load_spec), loader.warehouse):
            check = dg.AssetCheckKey(key, result.check_name or "")
            if check in context.selected_asset_check_keys:
                yield result
            elif key in context.selected_asset_keys:
                # Runs of sensors and schedule do not plan checks; the load reports them.
                yield to_evaluation(context, result)

    def _task(self, load_spec: LoadSpec, partitions: Sequence[str]) -> Task:
        """The days to load. Days that are not kept are not loaded."""
        first = self._options.settings.first_kept_day(load_spec.entry, datetime.now(UTC))
        days = [date.fromisoformat(each) for each in partitions]
        return Task(load_spec, [Day.of(day, load_spec.timezone) for day in days if day >= first])

    def _refused(self, task: Task, partitions: Sequence[str]) -> DixaAssetsError | None:
        """The error for days that are not kept, if there are any."""
        old = sorted({*partitions} - {str(day) for day in task.days})
        if not old:
            return None
        return ConfigError(
            "keep_days",
            f"rows of records are kept for {self._options.settings.keep_days} days. "
            f"{len(old)} of {len(partitions)} days are older and were not loaded, such as "
            f"{old[0]}. Choose later days.",
        )

    def _tidy(self, run_id: str, warehouse: Warehouse) -> None:
        """Remove days that are too old and filter values that are left out, once per run."""
        if run_id == self._tidied:
            return
        self._tidied = run_id
        settings, policy = self._options.settings, self._options.policy()
        if settings.keep_days:
            remove_days(warehouse, settings.first_kept_day(Entry("record", ""), datetime.now(UTC)))
        left_out = self._catalogue.filter_names.keys() - self._options.kept_filters(self._catalogue)
        loaded = warehouse.inventory().loads if left_out else {}
        for attribute in sorted(left_out):
            relation = filter_relation(attribute, self._catalogue.filter_names[attribute], policy)
            if relation.key in loaded:
                remove_left_out_values(warehouse, relation)

    def _subject(self, load_spec: LoadSpec) -> Subject:
        return Subject(load_spec, self._entries, self._options)

    def _filters_of(self, load_spec: LoadSpec) -> list[dg.AssetKey]:
        """The assets of the filter values that a metric is broken down by."""
        names = self._catalogue.filter_names
        return [
            self._names.key("dixa_filters", names[attribute])
            for attribute in load_spec.breakdowns
            if attribute in names
        ]


def _priority(entry: Entry) -> int:
    """The priority of a step. Records come first, because the checks of metrics read them."""
    return (entry.kind == "record") + 2 * (entry.id in LOADED_FIRST)


def step_name(key: dg.AssetKey) -> str:
    """The name of the step that loads an asset; translation does not change it."""
    return "__".join(key.path)


def describe_table(table: Table, names: Names) -> DixaAsset:
    """Describe a table or view as an asset."""
    spec = dg.AssetSpec(
        names.key(table.schema, table.name),
        group_name=names.of(table.schema),
        description=escape_markdown(table.comment),
        kinds={"duckdb"},
        metadata=metadata.of_table(table),
    )
    return DixaAsset(table.schema, table.name, spec)


def describe_views(
    views: Sequence[Table], entries: Sequence[Entry], names: Names
) -> list[DixaAsset]:
    """Describe views over all metrics. They have no step: they exist from the first load on."""
    metrics = [names.key(entry.schema, entry.name) for entry in entries if entry.kind == "metric"]
    described = []
    for view in views:
        spec = describe_table(view, names).spec
        spec = spec.replace_attributes(deps=metrics, kinds={"duckdb", "view"})
        described.append(DixaAsset(view.schema, view.name, spec))
    return described


def describe_filters(filters: Mapping[str, str], names: Names) -> list[DixaAsset]:
    """Describe filter attributes as assets. `filters` has the names of their tables."""
    return [describe_table(filter_relation(*each).table, names) for each in filters.items()]


def build_filter_asset(
    attribute: str, name: str, names: Names, specs: Specs, policy: FieldPolicy
) -> dg.AssetsDefinition:
    """Build the asset of a filter attribute's values. Each run replaces the whole table."""
    relation = filter_relation(attribute, name, policy)
    table, loader = relation.table, names.of(LOADER)

    @dg.multi_asset(
        name=step_name(names.key(table.schema, table.name)),
        specs=[specs[table.schema, table.name]],
        required_resource_keys={loader},
    )
    def filter_values(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        with as_failure():
            loaded = getattr(context.resources, loader).load_filter_values(
                attribute, relation, run_id=context.run_id
            )
        context.log.info(f"{printable(attribute)}: {loaded.rows} values")
        return dg.MaterializeResult(
            metadata=metadata.of_load(loaded.rows, loaded.usage, loaded.seconds)
        )

    return filter_values


def describe_catalogue(catalogue: Catalogue, names: Names) -> list[DixaAsset]:
    """Describe the catalogue's tables as assets."""
    return [describe_table(table, names) for table in catalogue_tables(catalogue)]


def build_catalogue_assets(
    catalogue: Catalogue, names: Names, specs: Specs, options: Options
) -> dg.AssetsDefinition:
    """Build the catalogue's tables as assets. The step sends no request."""
    tables, loader = catalogue_tables(catalogue), names.of(LOADER)

    @dg.multi_asset(
        name=names.of("dixa_catalogue"),
        specs=[specs[table.schema, table.name] for table in tables],
        required_resource_keys={loader},
    )
    def catalogue_assets(
        context: dg.AssetExecutionContext,
    ) -> Iterator[dg.MaterializeResult[Any]]:
        resource: Loader = getattr(context.resources, loader)
        with as_failure():
            resource.warehouse.save_catalogue(catalogue)
            version = options.version(catalogue)
            for table, rows in catalogue_rows(catalogue, options.policy).items():
                resource.load_rows(Relation.whole(table), rows, run_id=context.run_id)
                yield dg.MaterializeResult(
                    asset_key=specs.key(table.schema, table.name),
                    metadata={
                        "dagster/row_count": len(rows),
                        "version": version,
                        "latest": metadata.to_table(rows[-LATEST_ROWS:][::-1]),
                    },
                )

    return catalogue_assets


@contextmanager
def as_failure() -> Iterator[None]:
    """Turn errors of this project into `dg.Failure`, which says whether a retry can help."""
    try:
        yield
    except DixaAssetsError as error:
        raise dg.Failure(
            description=str(error),
            metadata={"error": type(error).__name__, "a retry can help": error.retryable},
            allow_retries=error.retryable,
        ) from None
