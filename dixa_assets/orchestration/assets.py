"""Asset factories: one asset per metric, record, filter attribute and catalogue table.

Each has a function that describes it, and one that builds it from its description, which the user
may have translated in between. What a step does is load and report. How to ask stands in `api`, how
to write in `warehouse`. See https://docs.dagster.io/guides/build/assets
"""

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from dixa_assets.api.requests import Choices
from dixa_assets.checks.checks import FRESH_FOR, STALE_AFTER
from dixa_assets.checks.registry import Setup, Subject
from dixa_assets.errors import DaysFailed, DixaAssetsError
from dixa_assets.load.loader import Loader, Task
from dixa_assets.load.progress import Progress
from dixa_assets.model.catalogue import Catalogue, Entry
from dixa_assets.model.tables import (
    METRICS_DAILY,
    Relation,
    Table,
    catalogue_rows,
    filter_relation,
    relation_of,
)
from dixa_assets.orchestration import metadata
from dixa_assets.orchestration.checks import check_results, check_specs
from dixa_assets.orchestration.dagster_internals import (
    CODE_VERSION_TAG,
    has_dependants,
    steps_after,
    to_evaluation,
)
from dixa_assets.orchestration.metadata import to_markdown
from dixa_assets.orchestration.naming import DixaAsset, Names, Specs
from dixa_assets.orchestration.partitions import backfill_policy, to_window
from dixa_assets.orchestration.resources import LOADER, WAREHOUSE

FRESHNESS_POLICY = dg.FreshnessPolicy.time_window(warn_window=FRESH_FOR, fail_window=STALE_AFTER)
# What is made of the whole database.
LAKE = ("dixa", "lake")
READ_COPY = ("dixa", "read_copy")
REPORT = ("dixa", "report")
VIEW_OF_ALL = (METRICS_DAILY.schema, METRICS_DAILY.name)
# How long a state of the lake that is no longer the latest can still be read.
KEPT = timedelta(days=7)
# What people look at first is loaded first.
LOADED_FIRST = ("csat", "ratings")
# The materialization of a catalogue table shows this many rows, the latest first.
LATEST = 25


class DailyAssets:
    """The daily assets of one catalogue.

    They know each other: what a process loads next is fetched while an asset's load ends.

    Args:
        catalogue: What Dixa offers, with what is related to what.
        names: What things are called.
        partitions_def: The days.
        setup: How loads are configured, as far as checks must know.
        choices: What the user chose about requests.
        days_per_run: Days that a run of a backfill takes; 0: all that it is asked for.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        names: Names,
        partitions_def: dg.DailyPartitionsDefinition,
        setup: Setup,
        choices: Choices,
        days_per_run: int = 0,
    ) -> None:
        self._backfill_policy = backfill_policy(days_per_run)
        self._catalogue = catalogue
        self._names = names
        self._partitions_def = partitions_def
        self._setup = setup
        self._choices = choices
        self._by_step: dict[str, tuple[Entry, Relation]] = {}

    def describe(self, entry: Entry) -> DixaAsset:
        """A metric or record as an asset."""
        relation = self._relation(entry)
        spec = dg.AssetSpec(
            self._names.key(entry.schema, entry.name),
            group_name=self._names.of(entry.schema),
            description=to_markdown(entry.description),
            kinds={"duckdb"},
            metadata=metadata.of_table(relation.table)
            | metadata.of_entry(self._subject(entry), self._names.key),
            deps=self._filters_of(entry),
            partitions_def=self._partitions_def,
            # Each day is reported when it is written; a result at the end would report it twice.
            skippable=True,
            tags={"dixa/status": "live" if entry.is_live else "retired"},
            freshness_policy=FRESHNESS_POLICY if entry.is_live else None,
            code_version=self._version(entry),
        )
        return DixaAsset(entry.schema, entry.name, spec, entry)

    def build(self, entry: Entry, specs: Specs) -> dg.AssetsDefinition:
        """The asset of a metric or record."""
        spec, relation = specs[entry.schema, entry.name], self._relation(entry)
        loader = self._names.of(LOADER)

        @dg.multi_asset(
            name=_step(self._names.key(entry.schema, entry.name)),
            specs=[spec],
            backfill_policy=self._backfill_policy,
            check_specs=check_specs(spec.key, self._subject(entry)),
            can_subset=True,
            op_tags={"dagster/priority": str(_priority(entry))},
            required_resource_keys={loader},
        )
        def daily(context: dg.AssetExecutionContext) -> Iterator[Any]:
            with as_failure():
                own = getattr(context.resources, loader)
                if spec.key in context.selected_asset_keys:
                    yield from self._load(context, own, spec, entry, relation)
                else:
                    # Somebody wants to know what a check finds now, and no load.
                    yield from self._check(context, own, spec.key, entry)

        self._by_step[daily.op.name] = entry, relation
        return daily

    def _load(
        self,
        context: dg.AssetExecutionContext,
        loader: Loader,
        spec: dg.AssetSpec,
        entry: Entry,
        relation: Relation,
    ) -> Iterator[
        dg.AssetMaterialization
        | dg.AssetCheckResult
        | dg.AssetCheckEvaluation
        | dg.MaterializeResult[Any]
    ]:
        key, days = spec.key, context.partition_keys
        # Beside dependencies, Dagster would miss their versions and call every day out of date.
        version = {CODE_VERSION_TAG: spec.code_version or ""} if not spec.deps else {}
        after = [self._by_step[step] for step in steps_after(context) if step in self._by_step]
        loaded = loader.load(
            self._task(entry, relation, days),
            run_id=context.run_id,
            upcoming=[self._task(*each, days) for each in after],
        )
        # What depends on an asset runs after its output, which Dagster reports as all days again.
        is_awaited = has_dependants(context)
        progress = Progress(len(days))
        failed: DaysFailed | None = None
        try:
            for day in loaded:
                if line := progress.line(day):
                    context.log.info(line)
                partition = day.window.day.isoformat()
                found = metadata.of_day(entry, day)
                yield dg.AssetMaterialization(
                    key, partition=partition, metadata=found, tags=version
                )
                if is_awaited:
                    context.add_asset_metadata(found, partition_key=partition)
        except DaysFailed as error:
            failed = error
        try:
            yield from self._check(context, loader, key, entry)
        finally:
            # A run that lost days says so, even when a check fails too.
            if failed is not None:
                raise failed
        if is_awaited:
            yield dg.MaterializeResult(asset_key=key)

    def _check(
        self, context: dg.AssetExecutionContext, loader: Loader, key: dg.AssetKey, entry: Entry
    ) -> Iterator[dg.AssetCheckResult | dg.AssetCheckEvaluation]:
        with loader.warehouse.reading() as query:
            for result in check_results(key, self._subject(entry), query):
                check = dg.AssetCheckKey(key, result.check_name or "")
                if check in context.selected_asset_check_keys:
                    yield result
                elif key in context.selected_asset_keys:
                    # A load that did not plan its checks makes and reports them all the same.
                    yield to_evaluation(context, result)

    def _relation(self, entry: Entry) -> Relation:
        return relation_of(entry, self._setup.excluded_fields(entry))

    def _task(self, entry: Entry, relation: Relation, days: Sequence[str]) -> Task:
        excluded = self._setup.excluded_fields(entry)
        return Task(
            entry,
            relation,
            lambda client: self._choices.build_request(client, entry, excluded),
            [to_window(day, self._setup.timezone) for day in days],
        )

    def _subject(self, entry: Entry) -> Subject:
        return Subject(entry, self._catalogue.entries, self._setup)

    def _filters_of(self, entry: Entry) -> list[dg.AssetKey]:
        """The filter values a metric is broken down by."""
        names = self._catalogue.filter_names
        return [
            self._names.key("dixa_filters", names[attribute])
            for attribute in self._choices.breakdowns_of(entry)
            if attribute in names
        ]

    def _version(self, entry: Entry) -> str:
        """A digest of what is asked and kept, so that Dagster tells days of other settings."""
        asked = {
            "filters": {
                name: sorted(values)
                for name, values in self._choices.filters.get(entry.id, {}).items()
            },
            "breakdowns": sorted(self._choices.breakdowns_of(entry)),
            "required filter": self._subject(entry).only_with,
            "excluded": sorted(self._setup.excluded_fields(entry)) * (entry.kind == "record"),
        }
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:8]


def _priority(entry: Entry) -> int:
    """How early in a run: records before metrics, whose checks compare with them."""
    return (entry.kind == "record") + 2 * (entry.id in LOADED_FIRST)


def _step(key: dg.AssetKey) -> str:
    """The name of the step that loads an asset, whatever the asset is called now."""
    return "__".join(key.path)


def _of_table(table: Table, names: Names) -> DixaAsset:
    spec = dg.AssetSpec(
        names.key(table.schema, table.name),
        group_name=names.of(table.schema),
        description=to_markdown(table.comment),
        kinds={"duckdb"},
        metadata=metadata.of_table(table),
    )
    return DixaAsset(table.schema, table.name, spec)


def describe_filters(catalogue: Catalogue, names: Names) -> list[DixaAsset]:
    """The filter attributes as assets."""
    return [
        _of_table(filter_relation(*each).table, names) for each in catalogue.filter_names.items()
    ]


def build_filter_asset(
    attribute: str, name: str, names: Names, specs: Specs
) -> dg.AssetsDefinition:
    """The asset of a filter attribute's values, read whole each time."""
    relation = filter_relation(attribute, name)
    table, loader = relation.table, names.of(LOADER)

    @dg.multi_asset(
        name=_step(names.key(table.schema, table.name)),
        specs=[specs[table.schema, table.name]],
        required_resource_keys={loader},
    )
    def filter_values(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        with as_failure():
            loaded = getattr(context.resources, loader).load_filter_values(
                attribute, relation, run_id=context.run_id
            )
        context.log.info(f"{attribute}: {loaded.rows} values")
        return dg.MaterializeResult(
            metadata=metadata.of_load(loaded.rows, loaded.usage, loaded.seconds)
        )

    return filter_values


def describe_catalogue(catalogue: Catalogue, names: Names) -> list[DixaAsset]:
    """The catalogue's tables as assets."""
    return [_of_table(table, names) for table in catalogue_rows(catalogue)]


def build_catalogue_assets(catalogue: Catalogue, names: Names, specs: Specs) -> dg.AssetsDefinition:
    """The catalogue this code location was built from, as tables. Asks nothing of the API."""
    tables, loader = catalogue_rows(catalogue), names.of(LOADER)

    @dg.multi_asset(
        name=names.of("dixa_catalogue"),
        specs=[specs[table.schema, table.name] for table in tables],
        required_resource_keys={loader},
    )
    def catalogue_assets(
        context: dg.AssetExecutionContext,
    ) -> Iterator[dg.MaterializeResult[Any]]:
        with as_failure():
            for table, rows in tables.items():
                getattr(context.resources, loader).load_rows(
                    Relation.whole(table), rows, run_id=context.run_id
                )
                yield dg.MaterializeResult(
                    asset_key=specs.key(table.schema, table.name),
                    metadata={
                        "dagster/row_count": len(rows),
                        "version": catalogue.version,
                        "latest": metadata.to_table(rows[-LATEST:][::-1]),
                    },
                )

    return catalogue_assets


def describe_read_copy(path: str, names: Names, made_from: Iterable[dg.AssetKey]) -> DixaAsset:
    """The read copy as an asset."""
    spec = dg.AssetSpec(
        names.key(*READ_COPY),
        deps=list(made_from),
        group_name=names.of("dixa"),
        description="A compact copy of the database for programs that keep it open, put in place "
        "of the one before after loads.",
        kinds={"duckdb"},
        metadata={"path": path},
    )
    return DixaAsset(*READ_COPY, spec)


def build_read_copy_asset(path: Path, names: Names, specs: Specs) -> dg.AssetsDefinition:
    """The copy of the database that readers open, so that they keep no load waiting."""
    warehouse = names.of(WAREHOUSE)

    @dg.multi_asset(
        name=_step(names.key(*READ_COPY)),
        specs=[specs[READ_COPY]],
        required_resource_keys={warehouse},
    )
    def read_copy(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        started = time.monotonic()
        with as_failure():
            size = getattr(context.resources, warehouse).publish(path)
        seconds = time.monotonic() - started
        context.log.info(f"{path}: {size / 1e6:.1f} MB in {seconds:.1f} s")
        return dg.MaterializeResult(metadata={"bytes": size, "seconds": round(seconds, 3)})

    return read_copy


def describe_lake(names: Names) -> DixaAsset:
    """A lake's order as an asset."""
    spec = dg.AssetSpec(
        names.key(*LAKE),
        group_name=names.of("dixa"),
        description="The lake's files: many small ones are written together, and those that no "
        "reader needs any more are removed.",
        kinds={"ducklake"},
    )
    return DixaAsset(*LAKE, spec)


def build_lake_asset(names: Names, specs: Specs) -> dg.AssetsDefinition:
    """What keeps a lake in order, while no load writes."""
    warehouse = names.of(WAREHOUSE)

    @dg.multi_asset(
        name=_step(names.key(*LAKE)),
        specs=[specs[LAKE]],
        required_resource_keys={warehouse},
    )
    def lake(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        started = time.monotonic()
        with as_failure():
            found = getattr(context.resources, warehouse).maintain(KEPT)
        seconds = time.monotonic() - started
        context.log.info(
            f"{found['files_before']} files became {found['files']} in {seconds:.1f} s"
        )
        return dg.MaterializeResult(metadata=found | {"seconds": round(seconds, 3)})

    return lake


def describe_report(names: Names, made_from: Iterable[dg.AssetKey]) -> DixaAsset:
    """The report as an asset."""
    spec = dg.AssetSpec(
        names.key(*REPORT),
        deps=list(made_from),
        group_name=names.of("dixa"),
        description="Every metric and record as a page for any browser, in one HTML file, "
        "written anew after loads.",
        kinds={"html"},
    )
    return DixaAsset(*REPORT, spec)


def build_report_asset(path: Path, setup: Setup, names: Names, specs: Specs) -> dg.AssetsDefinition:
    """The report, a file."""
    warehouse = names.of(WAREHOUSE)

    @dg.multi_asset(
        name=_step(names.key(*REPORT)),
        specs=[specs[REPORT]],
        required_resource_keys={warehouse},
    )
    def report(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        # Imported here, because only this step needs the drawing libraries.
        from dixa_assets.report.render import write_report

        started = time.monotonic()
        with as_failure():
            written = write_report(getattr(context.resources, warehouse), path, setup=setup)
        # Nothing runs to make the view: without an event Dagster would show it as missing.
        context.log_event(dg.AssetMaterialization(specs.key(*VIEW_OF_ALL)))
        seconds = time.monotonic() - started
        context.log.info(f"{path}: {len(written.pages)} pages in {seconds:.1f} s")
        return dg.MaterializeResult(
            metadata={
                "path": dg.MetadataValue.path(path),
                "pages": len(written.pages),
                "days": len(written.days),
                "bytes": path.stat().st_size,
                "seconds": round(seconds, 3),
            }
        )

    return report


def describe_metrics_daily(entries: Sequence[Entry], names: Names) -> DixaAsset:
    """The view over every metric: nothing to run, it is there with the first of them."""
    metrics = [names.key(entry.schema, entry.name) for entry in entries if entry.kind == "metric"]
    view = _of_table(METRICS_DAILY, names)
    spec = view.spec.replace_attributes(deps=metrics, kinds={"duckdb", "view"})
    return DixaAsset(*VIEW_OF_ALL, spec)


@contextmanager
def as_failure() -> Iterator[None]:
    """Turn this project's errors into Dagster's, which a retry policy can tell apart."""
    try:
        yield
    except DixaAssetsError as error:
        raise dg.Failure(
            description=str(error),
            metadata={"error": type(error).__name__, "a retry can help": error.retryable},
            allow_retries=error.retryable,
        ) from None
