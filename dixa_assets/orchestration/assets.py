"""Asset factories: one asset per metric, record, filter attribute and catalogue table.

What a step does is load and report. How to ask stands in `api`, how to write in `warehouse`. See
https://docs.dagster.io/guides/build/assets
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from dixa_assets.api.requests import Choices
from dixa_assets.errors import DaysFailed, DixaAssetsError
from dixa_assets.load.loader import Loader, Progress, Task
from dixa_assets.model.catalogue import Catalogue, Entry
from dixa_assets.model.tables import (
    METRICS_DAILY,
    Relation,
    catalogue_rows,
    filter_relation,
    relation_of,
)
from dixa_assets.orchestration import metadata
from dixa_assets.orchestration.checks import check_results, check_specs
from dixa_assets.orchestration.metadata import to_markdown
from dixa_assets.orchestration.partitions import BACKFILL_POLICY, to_window
from dixa_assets.orchestration.private import steps_after
from dixa_assets.warehouse.quality import FRESH_FOR, STALE_AFTER, Setup, Subject
from dixa_assets.warehouse.store import Warehouse

FRESHNESS_POLICY = dg.FreshnessPolicy.time_window(warn_window=FRESH_FOR, fail_window=STALE_AFTER)
VIEW_OF_ALL = dg.AssetKey([METRICS_DAILY.schema, METRICS_DAILY.name])
# What people look at first is loaded first.
LOADED_FIRST = ("csat", "ratings")
# The materialization of a catalogue table shows this many rows, the latest first.
LATEST = 25


class DailyAssets:
    """The daily assets of one catalogue.

    They know each other: what a process loads next is fetched while an asset's load ends.

    Args:
        catalogue: What Dixa offers, with what is related to what.
        partitions_def: The days.
        setup: How loads are configured, as far as checks must know.
        choices: What the user chose about requests.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        partitions_def: dg.DailyPartitionsDefinition,
        setup: Setup,
        choices: Choices,
    ) -> None:
        self._catalogue = catalogue
        self._partitions_def = partitions_def
        self._setup = setup
        self._choices = choices
        self._by_step: dict[str, tuple[Entry, Relation]] = {}

    def build(self, entry: Entry) -> dg.AssetsDefinition:
        """The asset of a metric or record."""
        relation = relation_of(entry, self._setup.excluded_fields(entry))
        key = dg.AssetKey([entry.schema, entry.name])

        @dg.asset(
            key=key,
            group_name=entry.schema,
            description=to_markdown(entry.description),
            kinds={"duckdb"},
            metadata=metadata.of_table(relation.table) | metadata.of_entry(self._subject(entry)),
            deps=self._filters_of(entry),
            partitions_def=self._partitions_def,
            backfill_policy=BACKFILL_POLICY,
            # Each day is reported when it is written; a result at the end would report it twice.
            output_required=False,
            tags={"dixa/status": "live" if entry.is_live else "retired"},
            check_specs=check_specs(key, self._subject(entry)),
            freshness_policy=FRESHNESS_POLICY if entry.is_live else None,
            op_tags={"dagster/priority": str(_priority(entry))},
        )
        def daily(
            context: dg.AssetExecutionContext, dixa_loader: dg.ResourceParam[Loader]
        ) -> Iterator[dg.AssetMaterialization | dg.AssetCheckResult]:
            with as_failure():
                yield from self._load(context, dixa_loader, entry, relation)

        self._by_step[daily.op.name] = entry, relation
        return daily

    def _load(
        self, context: dg.AssetExecutionContext, loader: Loader, entry: Entry, relation: Relation
    ) -> Iterator[dg.AssetMaterialization | dg.AssetCheckResult]:
        days = context.partition_keys
        after = [self._by_step[step] for step in steps_after(context) if step in self._by_step]
        loaded = loader.load(
            self._task(entry, relation, days),
            run_id=context.run_id,
            upcoming=[self._task(*each, days) for each in after],
        )
        progress = Progress(len(days))
        failed: DaysFailed | None = None
        try:
            for day in loaded:
                if line := progress.line(day):
                    context.log.info(line)
                yield dg.AssetMaterialization(
                    context.asset_key,
                    partition=day.window.day.isoformat(),
                    metadata=metadata.of_day(entry, day),
                )
        except DaysFailed as error:
            failed = error
        try:
            with loader.warehouse.reading() as query:
                yield from check_results(context.asset_key, self._subject(entry), query)
        finally:
            # A run that lost days says so, even when a check fails too.
            if failed is not None:
                raise failed

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
            dg.AssetKey(["dixa_filters", names[attribute]])
            for attribute in self._choices.breakdowns_of(entry)
            if attribute in names
        ]


def _priority(entry: Entry) -> int:
    """How early in a run: records before metrics, whose checks compare with them."""
    return (entry.kind == "record") + 2 * (entry.id in LOADED_FIRST)


def build_filter_asset(attribute: str, name: str) -> dg.AssetsDefinition:
    """The asset of a filter attribute's values, read whole each time."""
    relation = filter_relation(attribute, name)
    table = relation.table

    @dg.asset(
        key=[table.schema, table.name],
        group_name=table.schema,
        description=to_markdown(table.comment),
        kinds={"duckdb"},
        metadata=metadata.of_table(table),
    )
    def filter_values(
        context: dg.AssetExecutionContext, dixa_loader: dg.ResourceParam[Loader]
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        with as_failure():
            loaded = dixa_loader.load_filter_values(attribute, relation, run_id=context.run_id)
        context.log.info(f"{attribute}: {loaded.rows} values")
        return dg.MaterializeResult(
            metadata=metadata.of_load(loaded.rows, loaded.usage, loaded.seconds)
        )

    return filter_values


def build_catalogue_assets(catalogue: Catalogue) -> dg.AssetsDefinition:
    """The catalogue this code location was built from, as tables. Asks nothing of the API."""
    tables = catalogue_rows(catalogue)

    @dg.multi_asset(
        name="dixa_catalogue",
        specs=[
            dg.AssetSpec(
                [table.schema, table.name],
                description=to_markdown(table.comment),
                group_name="dixa_catalogue",
                kinds={"duckdb"},
                metadata=metadata.of_table(table),
            )
            for table in tables
        ],
    )
    def catalogue_assets(
        context: dg.AssetExecutionContext, dixa_loader: dg.ResourceParam[Loader]
    ) -> Iterator[dg.MaterializeResult]:  # type: ignore[type-arg]
        with as_failure():
            for table, rows in tables.items():
                dixa_loader.load_rows(Relation.whole(table), rows, run_id=context.run_id)
                yield dg.MaterializeResult(
                    asset_key=[table.schema, table.name],
                    metadata={
                        "dagster/row_count": len(rows),
                        "version": catalogue.version,
                        "latest": metadata.to_table(rows[-LATEST:][::-1]),
                    },
                )

    return catalogue_assets


def build_read_copy_asset(path: Path) -> dg.AssetsDefinition:
    """The copy of the database that readers open, so that they keep no load waiting."""

    @dg.asset(
        key=["dixa", "read_copy"],
        group_name="dixa",
        description="A compact copy of the database for programs that keep it open, put in place "
        "of the one before after loads.",
        kinds={"duckdb"},
        metadata={"path": str(path)},
    )
    def read_copy(
        context: dg.AssetExecutionContext, dixa_warehouse: dg.ResourceParam[Warehouse]
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        started = time.monotonic()
        with as_failure():
            size = dixa_warehouse.publish(path)
        seconds = time.monotonic() - started
        context.log.info(f"{path}: {size / 1e6:.1f} MB in {seconds:.1f} s")
        return dg.MaterializeResult(metadata={"bytes": size, "seconds": round(seconds, 3)})

    return read_copy


def build_report_asset(setup: Setup) -> dg.AssetsDefinition:
    """The report, a file beside the database.

    It depends on the view over all metrics alone, which is never part of a run: behind an asset of
    the same run that reports its days as events it would be skipped.
    """

    @dg.asset(
        key=["dixa", "report"],
        deps=[VIEW_OF_ALL],
        group_name="dixa",
        description="Every metric and record as a page for any browser, in one HTML file beside "
        "the database, written anew after loads.",
        kinds={"html"},
    )
    def report(
        context: dg.AssetExecutionContext, dixa_warehouse: dg.ResourceParam[Warehouse]
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        # Imported here, because only this step needs the drawing libraries.
        from dixa_assets.report.render import beside, write_report

        started = time.monotonic()
        with as_failure():
            path = beside(dixa_warehouse.path)
            written = write_report(dixa_warehouse, path, setup=setup)
        # Nothing runs to make the view: without an event Dagster would show it as missing.
        context.log_event(dg.AssetMaterialization(VIEW_OF_ALL))
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


def build_metrics_daily_spec(entries: Sequence[Entry]) -> dg.AssetSpec:
    """The view over every metric: nothing to run, it is there with the first of them."""
    return dg.AssetSpec(
        VIEW_OF_ALL,
        deps=[[entry.schema, entry.name] for entry in entries if entry.kind == "metric"],
        description=to_markdown(METRICS_DAILY.comment),
        group_name="dixa",
        kinds={"duckdb", "view"},
        metadata=metadata.of_table(METRICS_DAILY),
    )


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
