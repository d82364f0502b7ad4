"""Asset factories: one asset per metric, record, filter attribute and catalogue table.

What a step does is fetch, write, report. How to ask is in `extract`, how to write in `warehouse`.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_duckdb import DuckDBResource

from dixa_assets.catalogue import Catalogue, Entry
from dixa_assets.checks import Checks, to_cell
from dixa_assets.client import DixaClient, Usage
from dixa_assets.errors import DaysFailed, DixaAssetsError
from dixa_assets.extract import (
    Query,
    check_attributes,
    extract_filter_values,
    fetch_filter_values,
)
from dixa_assets.load import Job, LoadedDay, Progress
from dixa_assets.partitions import BACKFILL_POLICY, to_window
from dixa_assets.quality import FRESH_FOR, STALE_AFTER, is_per_group
from dixa_assets.report import Settings, beside, write_report
from dixa_assets.resources import DixaResource, build_warehouse
from dixa_assets.schema import (
    METRICS_DAILY,
    Column,
    Table,
    catalogue_tables,
    comment_of,
    documented_type,
    filter_table,
    metric_table,
    record_table,
)
from dixa_assets.staging import Staged
from dixa_assets.warehouse import Load, Warehouse

FRESHNESS_POLICY = dg.FreshnessPolicy.time_window(warn_window=FRESH_FOR, fail_window=STALE_AFTER)


REFERENCE = "https://docs.dixa.io/openapi/dixa-api/v1/"
# Rows of a table that is shown beside a materialization.
SHOWN = 25


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """What the user configured about loads. Mappings go by the vendor's id.

    `windows_at_a_time` requests are under way side by side. `required_filter` names an attribute
    whose values are all sent with every query that has no filter on it. `jobs` makes the job of
    each daily asset built with these options from its days, by the name of its step.
    """

    partitions_def: dg.DailyPartitionsDefinition
    timezone: str
    filters: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    breakdowns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    exclude_fields: Mapping[str, Sequence[str]] = field(default_factory=dict)
    required_filter: str = ""
    windows_at_a_time: int = 6
    database_wait_seconds: float = 600.0
    jobs: dict[str, Callable[[Sequence[str]], Job]] = field(default_factory=dict)

    def excluded_fields(self, entry: Entry) -> frozenset[str]:
        """The fields of a record that must not be stored; `*` stands for every record."""
        return frozenset(
            (*self.exclude_fields.get("*", ()), *self.exclude_fields.get(entry.id, ()))
        )


def build_metric_asset(
    entry: Entry, options: LoadOptions, checks: Checks, catalogue: Catalogue
) -> dg.AssetsDefinition:
    """The daily asset of a metric: a view over the table all metrics share."""
    return _build_daily_asset(entry, options, checks, catalogue, metric_table(entry))


def build_record_asset(
    entry: Entry, options: LoadOptions, checks: Checks, catalogue: Catalogue
) -> dg.AssetsDefinition:
    """The daily asset of a record: a table of its own."""
    table = record_table(entry, options.excluded_fields(entry))
    return _build_daily_asset(entry, options, checks, catalogue, table)


def build_filter_asset(attribute: str, name: str, options: LoadOptions) -> dg.AssetsDefinition:
    """The asset of a filter attribute's values, read whole each time."""
    table = filter_table(attribute, name)

    @dg.asset(
        key=[table.schema, table.name],
        group_name=table.schema,
        description=to_markdown(table.comment),
        kinds={"duckdb"},
        metadata=_table_metadata(table),
    )
    def filter_values(
        context: dg.AssetExecutionContext, dixa: DixaResource, duckdb: DuckDBResource
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        started = time.monotonic()
        with as_failure():
            warehouse = open_warehouse(duckdb, options)
            loader = dixa.loader(warehouse, at_a_time=options.windows_at_a_time)
            with warehouse.staging() as folder, Staged(folder / name, table) as staged:
                extract_filter_values(loader.client, attribute, staged)
                warehouse.replace([Load(context.run_id, started, [staged])])
                context.log.info(f"{attribute}: {staged.rows} values")
        return dg.MaterializeResult(
            metadata=_load_metadata(staged.rows, staged.usage, time.monotonic() - started)
        )

    return filter_values


def build_catalogue_assets(catalogue: Catalogue, options: LoadOptions) -> dg.AssetsDefinition:
    """The catalogue this code location was built from, as tables. Asks nothing of the API."""
    tables = catalogue_tables(catalogue)

    @dg.multi_asset(
        name="dixa_catalogue",
        specs=[
            dg.AssetSpec(
                [table.schema, table.name],
                description=to_markdown(table.comment),
                group_name="dixa_catalogue",
                kinds={"duckdb"},
                metadata=_table_metadata(table),
            )
            for table, _ in tables
        ],
    )
    def catalogue_assets(
        context: dg.AssetExecutionContext, duckdb: DuckDBResource
    ) -> Iterator[dg.MaterializeResult]:  # type: ignore[type-arg]
        with as_failure():
            warehouse = open_warehouse(duckdb, options)
            with warehouse.staging() as folder:
                for table, rows in tables:
                    started = time.monotonic()
                    with Staged(folder / table.name, table) as staged:
                        for row in rows:
                            staged.add(row)
                        warehouse.replace([Load(context.run_id, started, [staged])])
                    yield dg.MaterializeResult(
                        asset_key=[table.schema, table.name],
                        metadata={
                            "dagster/row_count": len(rows),
                            "version": catalogue.version,
                            "latest": _shown(rows[-SHOWN:][::-1]),
                        },
                    )

    return catalogue_assets


def build_read_copy_asset(path: Path, options: LoadOptions) -> dg.AssetsDefinition:
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
        context: dg.AssetExecutionContext, duckdb: DuckDBResource
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        started = time.monotonic()
        with as_failure():
            size = open_warehouse(duckdb, options).publish(path)
        seconds = time.monotonic() - started
        context.log.info(f"{path}: {size / 1e6:.1f} MB in {seconds:.1f} s")
        return dg.MaterializeResult(metadata={"bytes": size, "seconds": round(seconds, 3)})

    return read_copy


def build_report_asset(options: LoadOptions, settings: Settings) -> dg.AssetsDefinition:
    """The report, a file beside the database.

    It depends on the view over all metrics alone, which is never part of a run: behind an asset of
    the same run that reports its days as events it would be skipped.
    """

    @dg.asset(
        key=["dixa", "report"],
        deps=[[METRICS_DAILY.schema, METRICS_DAILY.name]],
        group_name="dixa",
        description="Every metric and record as a page for any browser, in one HTML file beside "
        "the database, written anew after loads.",
        kinds={"html"},
    )
    def report(context: dg.AssetExecutionContext, duckdb: DuckDBResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
        started = time.monotonic()
        with as_failure():
            warehouse = open_warehouse(duckdb, options)
            path = beside(warehouse.path)
            written = write_report(warehouse, path, settings=settings)
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
        [METRICS_DAILY.schema, METRICS_DAILY.name],
        deps=[[entry.schema, entry.name] for entry in entries if entry.kind == "metric"],
        description=to_markdown(METRICS_DAILY.comment),
        group_name="dixa",
        kinds={"duckdb", "view"},
        metadata=_table_metadata(METRICS_DAILY),
    )


def to_markdown(text: str) -> str:
    """Text of the API as Markdown that shows it as it is: no markup, link or script.

    Nothing more than that takes is escaped, because lists show descriptions as plain text.
    """
    return re.sub(
        r"[\\`*\[\]<>]|&(?=[#\w]+;)|(?<!\w)_|_(?!\w)|^(?=[#>+-])|@|(?<=:)//|(?<=www)\.|~(?=~)",
        lambda found: "\\" + (found[0] or ""),
        text,
        flags=re.MULTILINE,
    )


def _build_daily_asset(
    entry: Entry,
    options: LoadOptions,
    checks: Checks,
    catalogue: Catalogue,
    table: Table,
) -> dg.AssetsDefinition:
    def to_job(days: Sequence[str]) -> Job:
        return Job(
            key=table.key,
            table=table,
            is_metric=entry.kind == "metric",
            build_query=lambda client: _build_query(client, entry, options),
            days=[to_window(day, options.timezone) for day in days],
        )

    @dg.asset(
        key=[table.schema, table.name],
        group_name=table.schema,
        description=to_markdown(table.comment),
        kinds={"duckdb"},
        metadata=_table_metadata(table) | _reading_metadata(entry, catalogue),
        deps=_filters_of(entry, options, catalogue),
        partitions_def=options.partitions_def,
        backfill_policy=BACKFILL_POLICY,
        # Each day is reported as it is written, and a result at the end would report them again.
        output_required=False,
        tags={"dixa/status": "live" if entry.is_live else "retired"},
        check_specs=checks.specs,
        freshness_policy=FRESHNESS_POLICY if entry.is_live else None,
        # Records go first in a run: the metrics' checks compare with them.
        op_tags={"dagster/priority": "1"} if entry.kind == "record" else {},
    )
    def daily(
        context: dg.AssetExecutionContext, dixa: DixaResource, duckdb: DuckDBResource
    ) -> Iterator[dg.AssetMaterialization | dg.AssetCheckResult]:
        with as_failure():
            warehouse = open_warehouse(duckdb, options)
            loader = dixa.loader(warehouse, at_a_time=options.windows_at_a_time)
            job = to_job(context.partition_keys)
            progress = Progress(len(job.days))
            failed: DaysFailed | None = None
            try:
                loaded = loader.load(
                    job, run_id=context.run_id, upcoming=_upcoming(context, options)
                )
                for day in loaded:
                    if line := progress.line(day):
                        context.log.info(line)
                    yield dg.AssetMaterialization(
                        context.asset_key,
                        partition=day.window.day.isoformat(),
                        metadata=_day_metadata(entry, day),
                    )
            except DaysFailed as error:
                failed = error
            try:
                with loader.warehouse.reading() as ask:
                    yield from checks.results(ask)
            finally:
                # Whatever becomes of the checks, the failed days are what the run must say.
                if failed is not None:
                    raise failed

    options.jobs[daily.op.name] = to_job
    return daily


def _upcoming(context: dg.AssetExecutionContext, options: LoadOptions) -> list[Job]:
    """What this process loads after this step, in order: nothing where steps have processes."""
    step = context.op_execution_context.get_step_execution_context()
    by_level = step.execution_plan.get_steps_to_execute_by_level()
    order = [
        each.key
        for level in by_level
        for each in sorted(level, key=lambda one: -int(one.tags.get("dagster/priority", 0)))
    ]
    after = order[order.index(step.step.key) + 1 :]
    return [options.jobs[key](context.partition_keys) for key in after if key in options.jobs]


def _day_metadata(entry: Entry, day: LoadedDay) -> dict[str, Any]:
    window = day.window
    metadata: dict[str, Any] = {
        **_load_metadata(day.counts.rows, day.usage, day.seconds),
        "window": f"{window.start.isoformat()} to {window.end.isoformat()} ({window.timezone})",
        **day.totals,
    }
    if day.together > 1:
        metadata["asked for together with"] = f"{day.together - 1} other days"
    if day.schema_changes:
        metadata["schema_changes"] = "; ".join(day.schema_changes)
    if entry.kind == "record":
        metadata["rows_outside_window"] = day.counts.outside_window
        metadata["dagster/column_schema"] = _column_schema(day.columns)
        own = day.preview[day.preview.partition_date.dt.date == window.day]
        if len(own):
            metadata["preview"] = _shown(own.astype(object).to_dict("records"))
    return metadata


def _build_query(client: DixaClient, entry: Entry, options: LoadOptions) -> Query:
    filters = dict(options.filters.get(entry.id, {}))
    required = options.required_filter
    if required and required in entry.attributes and required not in filters:
        filters[required] = [item.value for item in fetch_filter_values(client, required)]
    breakdowns = options.breakdowns.get(entry.id, ()) if entry.kind == "metric" else ()
    check_attributes(entry, filters=filters, breakdowns=breakdowns)
    return Query(
        entry,
        filters,
        {attribute: fetch_filter_values(client, attribute) for attribute in breakdowns},
        options.excluded_fields(entry),
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


def open_warehouse(duckdb: DuckDBResource, options: LoadOptions) -> Warehouse:
    """The warehouse of a step."""
    return build_warehouse(
        duckdb, timezone=options.timezone, wait_seconds=options.database_wait_seconds
    )


def _filters_of(entry: Entry, options: LoadOptions, catalogue: Catalogue) -> list[dg.AssetKey]:
    """The filter values a metric is broken down by."""
    if entry.kind != "metric":
        return []
    return [
        dg.AssetKey(["dixa_filters", catalogue.filter_names[attribute]])
        for attribute in options.breakdowns.get(entry.id, ())
        if attribute in catalogue.filter_names
    ]


def _reading_metadata(entry: Entry, catalogue: Catalogue) -> dict[str, Any]:
    """How to read the numbers, where Dixa describes them, and what belongs to them."""
    metadata: dict[str, Any] = {
        "how to read": _how_to_read(entry),
        "Dixa's reference": dg.MetadataValue.url(REFERENCE),
    }
    for other in catalogue.entries:
        if other.kind != entry.kind and other.id in entry.related_ids:
            key = dg.AssetKey([other.schema, other.name])
            metadata[f"related {other.kind}: {other.id}"] = dg.MetadataValue.asset(key)
    return metadata


def _how_to_read(entry: Entry) -> str:
    if entry.kind == "record":
        return "A row is one event. Its day is that of its primary timestamp, in local time."
    said = "One value for each day and measure, as Dixa computed it; no value is no row, never 0."
    if is_per_group(entry):
        said += " Count counts the groups (such as agents), Sum is the total over them."
    if {item.measure for item in entry.aggregations} & {"Average", "Percentage", "Median"}:
        said += " Shares and averages of days do not add up to a week's: ask the records for that."
    return said


def _table_metadata(table: Table) -> dict[str, Any]:
    return {
        "dagster/table_name": f"{table.schema}.{table.name}",
        "dagster/column_schema": _column_schema(table.columns),
    }


def _column_schema(columns: Sequence[Column]) -> dg.TableSchema:
    return dg.TableSchema(
        [
            dg.TableColumn(
                column.name, type=documented_type(column), description=comment_of(column) or None
            )
            for column in columns
        ]
    )


def _shown(rows: Sequence[Mapping[str, Any]]) -> dg.TableMetadataValue:
    """Rows as a table in the UI, which takes plain values only."""
    return dg.MetadataValue.table(
        [dg.TableRecord({name: to_cell(value) for name, value in row.items()}) for row in rows],
        schema=dg.TableSchema([dg.TableColumn(name) for name in (rows[0] if rows else {})]),
    )


def _load_metadata(rows: int, usage: Usage, seconds: float) -> dict[str, Any]:
    return {
        "dagster/partition_row_count": rows,
        "rows": rows,
        "requests": usage.requests,
        "pages": usage.pages,
        "retries": usage.retries,
        "seconds": round(seconds, 3),
    }
