"""The report of a loaded account: it shows the warehouse, trusts no text, fetches nothing."""

import base64
import hashlib
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import dagster as dg
import pytest

from dixa_assets.checks.registry import Subject
from dixa_assets.component import DixaAnalytics
from dixa_assets.marts.builder import Marts
from dixa_assets.model.catalogue import by_id
from dixa_assets.orchestration.checks import check_results
from dixa_assets.report.contents import gather
from dixa_assets.report.formats import shown
from dixa_assets.report.render import write_report
from dixa_assets.warehouse.settings import WarehouseSettings
from dixa_assets.warehouse.warehouse import Warehouse
from dixa_assets_tests.support.processes import run, settings_for
from dixa_assets_tests.support.reports import OPTIONS, Reader, rendered
from dixa_assets_tests.support.scenario import component, days, fetched, load, tampered
from dixa_assets_tests.support.simulator import NOW, Simulator

EVIL = '<img src=x onerror=alert(1)></script><script>alert(2)</script> "a" & {{ data }}'
METRICS = (
    "csat",
    "closed_conversations",
    "first_response_time",
    "agent_presence_duration",
    "conversation_assignments_per_agent",
    "rating_score",
)
RECORDS = ("ratings", "closed_conversations")
TABLES = ("metrics", "records", "filters", "aggregations", "fields", "relations", "changes")
FIRST, GAP, LAST = "2025-10-20", "2025-11-03", "2025-11-09"
# The last whole week, since `GAP` is not loaded.
WEEK = "2025-10-27"


@pytest.fixture(scope="module")
def loaded(simulator_process: Simulator, tmp_path_factory: pytest.TempPathFactory) -> DixaAnalytics:
    """Three weeks with a day left out, as if loaded on the morning of NOW."""
    simulator_process.tell("reset", now=NOW.isoformat())
    entry = {"id": "rating_score", "description": EVIL}
    simulator_process.tell("metrics", entry=entry, like="rating_score")
    analytics = component(
        simulator_process,
        tmp_path_factory.mktemp("report"),
        include=[*METRICS, *RECORDS],
        filters={"first_response_time": {"channel": ["EMAIL"]}},
    )
    catalogue = fetched(analytics)
    daily = [f"dixa_metrics/{name}" for name in METRICS]
    daily += [f"dixa_records/{name}" for name in RECORDS]
    tables = [f"dixa_catalogue/{name}" for name in TABLES]
    assert load(analytics, [*daily, *tables], FIRST, "2025-11-02", catalogue=catalogue).success
    assert load(analytics, daily, "2025-11-04", LAST, catalogue=catalogue).success
    tampered(analytics, "UPDATE dixa_catalogue.loads SET loaded_at = '2025-11-10 04:31:00+00'")
    included = Marts.of(catalogue, lambda entry: entry.id in RECORDS)
    assert included.make(analytics.build_warehouse()) == {}
    simulator_process.tell("reset", now=NOW.isoformat())
    return analytics


@contextmanager
def copied(analytics: DixaAnalytics, folder: Path, *statements: str) -> Iterator[Warehouse]:
    """A copy of the warehouse in which something is changed."""
    path = folder / "copy.duckdb"
    shutil.copy(analytics.duckdb_path, path)
    warehouse = Warehouse(path, WarehouseSettings(database_wait_seconds=10))
    with warehouse.reading() as query:
        for statement in statements:
            query(statement)
    yield warehouse


def change_entries(warehouse: Warehouse, **fields: Any) -> None:
    """Give every entry of the remembered catalogue other fields."""
    known = warehouse.catalogue()
    entries = tuple(replace(entry, **fields) for entry in known.entries)
    warehouse.save_catalogue(replace(known, entries=entries))


@pytest.fixture(scope="module")
def html(loaded: DixaAnalytics) -> str:
    return rendered(loaded.build_warehouse())


@pytest.fixture(scope="module")
def reader(html: str) -> Reader:
    return Reader(html)


def by_day(columns: dict[str, list[Any]], name: str) -> dict[str, float]:
    """The values of a column by day."""
    pairs = zip(columns["day"], columns[name], strict=True)
    return {day: value for day, value in pairs if value is not None}


def as_json(value: Any) -> Any:
    """A value of a query as the page has it."""
    if isinstance(value, datetime):
        return str(value)[:10] if value.tzinfo is None else str(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def test_the_numbers_of_every_figure_are_those_that_its_sql_returns(
    loaded: DixaAnalytics, reader: Reader
) -> None:
    assert len(reader.sql) == len(reader.figures) > 15
    warehouse = loaded.build_warehouse()
    for sql, (name, columns) in zip(reader.sql, reader.figures.items(), strict=True):
        frame = warehouse.query(sql)
        assert [*frame] == [*columns], name
        rows = frame.astype(object).where(frame.notna(), None).itertuples(index=False, name=None)
        held = [tuple(map(as_json, row)) for row in rows]
        # A chart also has the days that are not loaded.
        pairs = ((*zip(*columns.values(), strict=True),), held)
        found, held = ([row for row in each if {*row[1:]} != {None}] for each in pairs)
        assert sorted(found, key=str) == sorted(held, key=str), name


def test_the_report_has_every_total_of_every_metric(loaded: DixaAnalytics, reader: Reader) -> None:
    rows = loaded.build_warehouse().query(
        "SELECT metric, partition_date::VARCHAR, measure, coalesce(status, measure), value "
        "FROM dixa.metrics_daily WHERE value IS NOT NULL AND breakdown_attribute IS NULL"
    )
    held = {row[:-1]: row[-1] for row in rows.itertuples(index=False, name=None)}
    found = {
        (metric, day, measure, column): value
        for metric, measure in {(metric, measure) for metric, _, measure, _ in held}
        for column in reader.figures[f"{metric}-{measure}"].keys() - {"day"}
        for day, value in by_day(reader.figures[f"{metric}-{measure}"], column).items()
    }
    assert {key[0] for key in held} == {*METRICS}
    assert found == held


def test_a_records_page_shows_its_rows_by_day(loaded: DixaAnalytics, reader: Reader) -> None:
    rows = loaded.build_warehouse().query(
        "SELECT partition_date::VARCHAR AS day, count(*) AS n FROM dixa_records.ratings GROUP BY 1"
    )
    found = by_day(reader.figures["ratings-Rows"], "Rows")
    assert found == dict(zip(rows.day, rows.n, strict=True))


def test_two_records_give_a_summary_without_false_zeros(
    loaded: DixaAnalytics, reader: Reader
) -> None:
    (week,) = (
        loaded.build_warehouse()
        .query(
            f"SELECT csat, answers, closed FROM dixa_marts.overview_weekly WHERE week = '{WEEK}'"
        )
        .itertuples(index=False)
    )
    top = reader.page("/")
    assert f"Satisfaction satisfied (CSAT) {shown(week.csat, 'percent')} " in top
    assert f"answers {week.answers} " in top
    assert f"Volume closed {week.closed:,} " in top
    assert "Speed No record of this account has these figures." in top
    assert "came in" not in top
    assert "hours at work" not in top
    assert "record created_conversations: NULL in" in top


def test_a_part_of_few_cases_has_no_bar_and_the_rest_has_a_line(
    loaded: DixaAnalytics, html: str
) -> None:
    rows = loaded.build_warehouse().query(
        f"SELECT queue, answers FROM dixa_marts.queues_weekly WHERE week = '{WEEK}'"
    )
    start = html.index("<h2>Queues")
    table = html[start : html.index("</table>", start)]
    assert table.count('class="bar"') == sum(rows.answers >= 30)
    names = names_of(html, "Queues")
    assert names[-1] == "no queue"
    assert {*names[:-1]} == {name.replace("&", "&amp;") for name in rows.queue} - {"none"}
    assert all(f"n {answers:,}" in table for answers in rows.answers if answers)


def test_queues_that_are_named_none_are_not_the_rest(loaded: DixaAnalytics, tmp_path: Path) -> None:
    named = [f"UPDATE dixa_records.{each} SET queue_id_label = 'none'" for each in RECORDS]
    with copied(loaded, tmp_path, *named) as warehouse:
        html = rendered(warehouse)
    ((queues,),) = (
        loaded.build_warehouse()
        .query(
            "SELECT count(DISTINCT queue_id) FROM dixa_marts.queues_weekly "
            f"WHERE week = '{WEEK}' AND queue_id IS NOT NULL"
        )
        .values
    )
    assert queues > 1
    assert names_of(html, "Queues") == ["none"] * queues + ["no queue"]


def names_of(html: str, title: str) -> list[str]:
    """The names of the rows of a table."""
    start = html.index(f"<h2>{title}")
    table = html[start : html.index("</table>", start)]
    return re.findall(r"<th>\s*([^<]+?)\s*(?:<small|</th>)", table[table.index("<tbody>") :])


def test_a_day_that_is_not_loaded_is_marked_and_never_a_zero(html: str, reader: Reader) -> None:
    charts = [columns for columns in reader.figures.values() if [*columns][0] == "day"]
    for columns in charts:
        at = columns["day"].index(GAP)
        assert {values[at] for name, values in columns.items() if name != "day"} == {None}
    page = html[html.index('id="csat"') :]
    # The fifteenth of 21 days.
    assert 'class="gap" d="M666.7 0h47.6v1000h-47.6z"' in page
    assert f"days from 2025-10-20 to 2025-11-09 are not loaded: {GAP}" in reader.page("/")
    assert "days are missing" in reader.page("/data")


def test_days_on_which_the_clocks_change_are_named(reader: Reader) -> None:
    assert reader.page("csat").count("25 h") == 1
    assert "Sun 26 Oct 2025 has 25 hours" in reader.page("/")


def test_the_first_page_has_the_days_the_zone_and_the_time_of_the_load(reader: Reader) -> None:
    top = reader.page("/")
    assert "Mon 20 Oct 2025 to Sun 9 Nov 2025: 21, each from midnight to midnight in Europe" in top
    assert "latest Mon 10 Nov 2025, 05:31 CET (7 h ago)" in top
    assert "Written Mon 10 Nov 2025, 13:00 CET" in top
    assert reader.figures["csat-Percentage"]["day"] == [str(day) for day in days(FIRST, LAST)]


def test_the_latest_value_is_compared_with_the_median_of_its_weekday(
    loaded: DixaAnalytics, reader: Reader
) -> None:
    values = loaded.build_warehouse().query(
        "SELECT value FROM dixa_metrics.csat WHERE dayofweek(partition_date) = 0 "
        "ORDER BY partition_date DESC"
    )
    latest, usual = values.value[0], median(values.value[1:])
    found = (
        f"{shown(latest, 'percent')} Sun 9 Nov 2025 {shown(usual, 'percent')} median of 2 Sundays"
    )
    assert found in reader.page("csat")


def test_the_headline_of_a_per_group_metric_is_its_sum(reader: Reader) -> None:
    page = reader.page("conversation_assignments_per_agent")
    assert "Its Count counts groups, such as agents" in page
    assert re.search("Usual for that weekday Four weeks Sum ", page)
    assert "counts groups, such as agents" not in reader.page("closed_conversations")


def test_each_presence_status_is_a_line_and_none_is_added_up(reader: Reader) -> None:
    (name,) = (name for name in reader.figures if name.startswith("agent_presence_duration-"))
    statuses = reader.figures[name].keys() - {"day"}
    assert len(statuses) > 1
    assert all(status in reader.page("agent_presence_duration") for status in statuses)
    assert re.search(r"\d+ h \d\d min", reader.page("agent_presence_duration"))


def test_a_page_names_the_filters_of_its_loads(reader: Reader) -> None:
    assert "Filters channel is EMAIL" in reader.page("first_response_time")
    assert "Filters none" in reader.page("csat")


def test_every_failed_check_is_listed_with_its_reason(
    loaded: DixaAnalytics, tmp_path: Path
) -> None:
    tampering = "DELETE FROM dixa_records.closed_conversations WHERE partition_date = '2025-11-05'"
    with copied(loaded, tmp_path, tampering) as warehouse:
        reader = Reader(rendered(warehouse))
    assert "✗ reconciliation 1 of 20 figures differ" in reader.page("closed_conversations")
    assert "Differs from its rows in Closed conversations. 1 of 20 figures" in reader.page("/")
    assert "differs from its rows" in reader.page("/data")


def test_totals_that_a_reload_changed_are_listed(loaded: DixaAnalytics, tmp_path: Path) -> None:
    change = (
        "INSERT INTO dixa_catalogue.revisions BY NAME SELECT 'csat' AS metric, "
        "DATE '2025-11-05' AS partition_date, 'Percentage' AS measure, 80 AS old_value, "
        "82 AS new_value, TIMESTAMPTZ '2025-11-06 04:30:00+00' AS old_loaded_at, "
        "TIMESTAMPTZ '2025-11-07 04:30:00+00' AS new_loaded_at"
    )
    with copied(loaded, tmp_path, change) as warehouse:
        reader = Reader(rendered(warehouse))
        later = Reader(rendered(warehouse, now=NOW + timedelta(days=30)))
    assert "Changed since it was first loaded: 1 total in the last 7 days" in reader.page("/")
    assert "csat Wed 5 Nov 2025 Percentage – 80 82" in reader.page("/data")
    assert "revisions" not in later.figures


def test_a_section_that_fails_is_named_and_the_others_stay(
    loaded: DixaAnalytics, tmp_path: Path
) -> None:
    broken = "CREATE OR REPLACE VIEW dixa_marts.queues_weekly AS SELECT error('a name') AS queue"
    with copied(loaded, tmp_path, broken) as warehouse:
        top = Reader(rendered(warehouse)).page("/")
    assert "Queues could not be made: " in top
    assert "a name" not in top
    assert "Agents week 44" in top
    with copied(loaded, tmp_path, "DROP TABLE dixa_records.ratings") as warehouse:
        reader = Reader(rendered(warehouse))
    assert "Checks could not run in CSAT" in reader.page("/")
    assert "! reconciliation The check could not run: CatalogException in " in reader.page("csat")
    assert reader.pages.keys() >= {"first_response_time", "records.closed_conversations"}


@pytest.mark.parametrize("column", ["filters", "loaded_at"])
def test_a_page_that_cannot_be_made_is_left_out_and_named(
    column: str, loaded: DixaAnalytics, reader: Reader, tmp_path: Path
) -> None:
    update = f"UPDATE dixa_catalogue.loads SET {column} = NULL"
    with copied(loaded, tmp_path, f"{update} WHERE asset_key = 'dixa_metrics/csat'") as warehouse:
        found = Reader(rendered(warehouse))
    assert reader.pages.keys() - found.pages.keys() == {"csat"}
    assert "CSAT could not be made: TypeError in " in found.page("/")


@pytest.mark.parametrize(
    ("hours", "says", "ago"),
    [(20, "fresh", "20 h"), (30, "late", "30 h"), (72, "stale", "3 days")],
)
def test_freshness_is_that_of_dagsters_policy(
    hours: int, says: str, ago: str, loaded: DixaAnalytics
) -> None:
    at = datetime(2025, 11, 10, 4, 31, tzinfo=UTC) + timedelta(hours=hours)
    reader = Reader(rendered(loaded.build_warehouse(), now=at))
    assert f"{says} Loaded {ago} ago, Mon 10 Nov 2025, 05:31 CET" in reader.page("csat")
    assert ("Old numbers in " in reader.page("/")) == (says != "fresh")


def test_a_retired_metric_expects_no_more_days(loaded: DixaAnalytics, tmp_path: Path) -> None:
    with copied(loaded, tmp_path) as warehouse:
        change_entries(warehouse, retired_at="2025-11-10T10:00:00+00:00")
        page = Reader(rendered(warehouse, now=NOW + timedelta(days=20))).page("csat")
    assert "retired Loaded 20 days ago" in page
    assert f"days from 2025-10-20 to 2025-11-09 are not loaded: {GAP}." in page


def test_text_from_outside_stays_text(loaded: DixaAnalytics, tmp_path: Path) -> None:
    label = EVIL.replace("'", "''")
    hostile = (
        f"UPDATE dixa_metrics.metric_values SET status = '{label}' WHERE status IS NOT NULL",
        f"UPDATE dixa_records.closed_conversations SET queue_id_label = '{label}'",
        f"UPDATE dixa_records.ratings SET queue_id_label = '{label}'",
    )
    with copied(loaded, tmp_path, *hostile) as warehouse:
        reader = Reader(rendered(warehouse))
    for link in ("rating_score", "agent_presence_duration", "/"):
        assert EVIL in reader.page(link)
    assert "img" not in reader.tags
    assert reader.tags.count("script") == 2
    assert not set("<>&") & set(reader.scripts[0])
    (name,) = (name for name in reader.figures if name.startswith("agent_presence_duration-"))
    assert EVIL in reader.figures[name]
    assert {*reader.figures["Queues"]["queue"]} == {EVIL, "none"}


def test_nothing_is_fetched_and_no_other_script_may_run(html: str, reader: Reader) -> None:
    assert [each for each in reader.references if not each.startswith(("#", "data:"))] == []
    assert "link" not in reader.tags or html.count("<link ") == html.count('<link rel="icon"')
    assert not re.search(r"@import|url\(", html[: html.index("</style>")])
    policy = dict(part.strip().split(" ", 1) for part in reader.policy.split(";"))
    (script,) = reader.scripts[1:]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == {
        "default-src": "'none'",
        "script-src": f"'sha256-{digest}'",
        "style-src": "'unsafe-inline'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_every_link_leads_to_a_page(reader: Reader) -> None:
    pages = {each[1:] for each in reader.references if each.startswith("#")} - {"/all"}
    assert pages == set(reader.pages)
    names = {*METRICS, *(f"records.{name}" for name in RECORDS)}
    assert set(reader.pages) == {"/", "/data", *names}


def test_a_page_without_values_says_so(loaded: DixaAnalytics, tmp_path: Path) -> None:
    with copied(
        loaded,
        tmp_path,
        "DELETE FROM dixa_metrics.metric_values WHERE metric = 'csat'",
        "UPDATE dixa_metrics.metric_values SET value = NULL WHERE metric = 'rating_score'",
    ) as warehouse:
        reader = Reader(rendered(warehouse))
    for name in ("csat", "rating_score"):
        assert "Dixa gave no value for any of these days." in reader.page(name)
    assert "20 of the days shown are loaded, and Dixa gave no value" in reader.page("rating_score")


def test_an_answer_of_unknown_shape_is_named_and_not_drawn(
    loaded: DixaAnalytics, tmp_path: Path
) -> None:
    odd = (
        "UPDATE dixa_metrics.metric_values SET value = NULL, aggregate = '{}' "
        "WHERE metric = 'csat' AND partition_date = '2025-11-05'"
    )
    with copied(loaded, tmp_path, odd) as warehouse:
        reader = Reader(rendered(warehouse))
    assert "1 values have an unknown shape" in reader.page("csat")
    assert "2025-11-05" not in by_day(reader.figures["csat-Percentage"], "Percentage")


def test_days_loaded_before_the_catalogues_tables_are_shown_without_descriptions(
    loaded: DixaAnalytics, tmp_path: Path
) -> None:
    dropping = [f"DROP TABLE dixa_catalogue.{name}" for name in ("metrics", "catalogue_json")]
    with copied(loaded, tmp_path, *dropping) as warehouse:
        reader = Reader(rendered(warehouse))
    assert "Dixa's catalogue does not describe it." in reader.page("csat")
    assert set(reader.pages) >= {*METRICS, *(f"records.{name}" for name in RECORDS)}


def test_without_marts_the_report_has_the_data_and_says_why_there_is_no_summary(
    loaded: DixaAnalytics, tmp_path: Path
) -> None:
    with copied(loaded, tmp_path, "DROP SCHEMA dixa_marts CASCADE") as warehouse:
        reader = Reader(rendered(warehouse))
    top = reader.page("/")
    assert "The marts are off, or not made yet." in top
    assert "Days are missing in " in top
    assert "Satisfaction" not in top
    assert "csat-Percentage" in reader.figures


def test_the_report_says_what_the_checks_tab_says(loaded: DixaAnalytics, tmp_path: Path) -> None:
    # First seen half an hour into the ninth, local time, and no history: both expect the ninth.
    with copied(loaded, tmp_path, "DELETE FROM dixa_catalogue.loads") as warehouse:
        change_entries(warehouse, first_seen="2025-11-08T23:30:00+00:00")
        entries = warehouse.catalogue().entries
        with warehouse.reading() as query:
            query(
                "INSERT INTO dixa_catalogue.loads BY NAME SELECT 'dixa_metrics/csat' AS asset_key, "
                "DATE '2025-11-09' AS partition_date, now() AS loaded_at, 0 AS rows, "
                "'{}' AS filters"
            )
            report = gather(query, options=OPTIONS, now=NOW)
        (entry,) = (entry for entry in entries if entry.key == "dixa_metrics/csat")
        key = dg.AssetKey(["dixa_metrics", "csat"])
        subject = Subject(OPTIONS.spec(entry), by_id(entries), OPTIONS, NOW)
        tab = {each.check_name: each.description for each in check_results(key, subject, warehouse)}
    (page,) = report.pages
    assert {name: found.reason for name, found in page.findings.items()} == tab
    assert tab["completeness"] == "All 1 days to 2025-11-09 are loaded."


def test_a_warehouse_without_recent_loads_shows_its_last_days(loaded: DixaAnalytics) -> None:
    later = NOW + timedelta(days=400)
    found = Reader(rendered(loaded.build_warehouse(), now=later)).figures["csat-Percentage"]["day"]
    assert (found[0], found[-1]) == (FIRST, LAST)


def test_the_report_shows_the_chosen_number_of_days(loaded: DixaAnalytics, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(loaded.build_warehouse(), path, options=OPTIONS, now=NOW, days=5)
    reader = Reader(path.read_text())
    assert reader.figures["csat-Percentage"]["day"] == [
        str(day) for day in days("2025-11-05", LAST)
    ]


def test_the_command_writes_the_report_next_to_the_database(
    simulator: Simulator, tmp_path: Path
) -> None:
    settings = settings_for(simulator, tmp_path)
    done = run(["dixa_assets", "report"], settings)
    assert done.returncode == 0, done.stderr
    database = Path(settings["DIXA_DUCKDB_PATH"])
    written = database.with_name(f"{database.stem}_report.html")
    assert f"✓ {written}: 0 metrics and records" in done.stdout
    assert "! Nothing is loaded yet, so the report is empty." in done.stderr
    assert "Nothing is loaded yet" in written.read_text()
