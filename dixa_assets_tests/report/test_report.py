"""The report of a loaded account: it shows the warehouse, trusts no text, fetches nothing."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
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
from dixa_assets.orchestration.checks import check_results
from dixa_assets.report import gather as gathering
from dixa_assets.report.gather import gather
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
CLOCKS_CHANGE = "2025-10-26"


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
        breakdowns={
            "closed_conversations": ["channel"],
            "agent_presence_duration": ["agent_id"],
        },
        filters={"first_response_time": {"channel": ["EMAIL"]}},
    )
    catalogue = fetched(analytics)
    daily = [f"dixa_metrics/{name}" for name in METRICS]
    daily += [f"dixa_records/{name}" for name in RECORDS]
    tables = [f"dixa_catalogue/{name}" for name in TABLES]
    assert load(analytics, [*daily, *tables], FIRST, "2025-11-02", catalogue=catalogue).success
    assert load(analytics, daily, "2025-11-04", LAST, catalogue=catalogue).success
    tampered(analytics, "UPDATE dixa_catalogue.loads SET loaded_at = '2025-11-10 04:31:00+00'")
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


def values_of(data: Any, link: str, chart: Any) -> dict[tuple[Any, ...], float]:
    """The values of an embedded chart, by what they are of."""
    return {
        (link, day, chart["attribute"], chart["value"], chart["measure"], series["status"]): value
        for series in chart["series"]
        for day, value in zip(data["days"], series["values"], strict=True)
        if value is not None
    }


def test_the_report_has_every_value_of_every_metric(loaded: DixaAnalytics, reader: Reader) -> None:
    shown: dict[tuple[Any, ...], float] = {}
    headlines = {name: reader.data["pages"][name]["charts"][0]["measure"] for name in METRICS}
    for name in METRICS:
        page = reader.data["pages"][name]
        for chart in [*page["charts"], *(each for group in page["breakdowns"] for each in group)]:
            shown |= values_of(reader.data, name, chart)
    rows = loaded.build_warehouse().query(
        "SELECT metric, partition_date::VARCHAR, breakdown_attribute, breakdown_value, measure, "
        "status, value FROM dixa.metrics_daily WHERE value IS NOT NULL"
    )
    plain = rows.astype(object).where(rows.notna(), None)
    held = {
        row[:-1]: row[-1]
        for row in plain.itertuples(index=False, name=None)
        if row[2] is None or row[4] == headlines[row[0]]
    }
    assert {key[2] for key in held} == {None, "channel", "agent_id"}
    assert shown == held


def test_the_largest_values_of_a_breakdown_have_a_chart_and_the_others_are_counted(
    loaded: DixaAnalytics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "BREAKDOWN_VALUES", 2)
    reader = Reader(rendered(loaded.build_warehouse()))
    (charts,) = reader.data["pages"]["closed_conversations"]["breakdowns"]
    counts = loaded.build_warehouse().query(
        "SELECT breakdown_value AS channel, sum(value) AS n, count(*) OVER () AS of_all "
        "FROM dixa_metrics.closed_conversations WHERE breakdown_attribute = 'channel' "
        "GROUP BY ALL ORDER BY n DESC"
    )
    assert [chart["value"] for chart in charts] == list(counts.channel[:2])
    page = reader.page("closed_conversations")
    assert f"The 2 largest of {counts.of_all[0]} values" in page


def test_a_records_page_shows_its_rows_by_day(loaded: DixaAnalytics, reader: Reader) -> None:
    (chart,) = reader.data["pages"]["records.ratings"]["charts"]
    rows = loaded.build_warehouse().query(
        "SELECT partition_date::VARCHAR AS day, count(*) AS n FROM dixa_records.ratings GROUP BY 1"
    )
    shown = {
        key[1]: value for key, value in values_of(reader.data, "records.ratings", chart).items()
    }
    assert shown == dict(zip(rows.day, rows.n, strict=True))


def test_a_day_that_is_not_loaded_is_marked_and_never_a_zero(reader: Reader) -> None:
    at = reader.data["days"].index(GAP)
    for page in reader.data["pages"].values():
        assert page["states"][at] == 0
        assert page["lags"][at] is None
        for chart in page["charts"]:
            assert [series["values"][at] for series in chart["series"]] == [None] * len(
                chart["series"]
            )
    assert "1 of 21 days from 2025-10-20 to 2025-11-09 are not loaded" in reader.page("/")
    assert "✗ days are missing" in reader.page("csat")


def test_days_on_which_the_clocks_change_are_named(reader: Reader) -> None:
    assert reader.data["odd_days"] == {CLOCKS_CHANGE: 25}
    assert "Sun 26 Oct 2025 has 25 hours" in reader.page("/")


def test_the_first_page_has_the_days_the_zone_and_the_time_of_the_load(reader: Reader) -> None:
    top = reader.page("/")
    assert "Mon 20 Oct 2025 to Sun 9 Nov 2025: 21, each from midnight to midnight in Europe" in top
    assert "latest Mon 10 Nov 2025, 05:31 CET (7 h ago)" in top
    assert "Written Mon 10 Nov 2025, 13:00 CET" in top
    assert reader.data["days"] == [str(day) for day in days(FIRST, LAST)]


def test_the_latest_value_is_compared_with_the_median_of_its_weekday(
    loaded: DixaAnalytics, reader: Reader
) -> None:
    values = loaded.build_warehouse().query(
        "SELECT value FROM dixa_metrics.csat WHERE dayofweek(partition_date) = 0 "
        "ORDER BY partition_date DESC"
    )
    latest, *before = values.value
    (found,) = reader.data["pages"]["csat"]["latest"]
    assert (found["day"], found["value"]) == (LAST, latest)
    assert (found["usual"], found["weeks"]) == (pytest.approx(median(before)), 2)
    assert f"{latest:.1f}".rstrip("0").rstrip(".") + "%" in reader.page("csat")
    assert "median of 2 Sundays before" in reader.page("csat")


def test_the_headline_of_a_per_group_metric_is_its_sum(reader: Reader) -> None:
    page = reader.page("conversation_assignments_per_agent")
    assert "Its Count counts groups, such as agents" in page
    assert "Sum by day" in page
    assert "counts groups, such as agents" not in reader.page("closed_conversations")


def test_each_presence_status_is_a_series_and_none_is_added_up(reader: Reader) -> None:
    (chart,) = reader.data["pages"]["agent_presence_duration"]["charts"]
    assert chart["unit"] == "seconds"
    statuses = {series["status"] for series in chart["series"]}
    assert len(statuses) > 1
    assert all(status in reader.page("agent_presence_duration") for status in statuses)
    assert re.search(r"\d+ h \d\d min", reader.page("agent_presence_duration"))


def test_a_page_names_the_filters_of_its_loads(reader: Reader) -> None:
    assert "Filters channel is EMAIL" in reader.page("first_response_time")
    assert "Filters none" in reader.page("csat")


def test_days_that_differ_from_the_rows_are_marked(
    loaded: DixaAnalytics, reader: Reader, tmp_path: Path
) -> None:
    states = reader.data["pages"]["closed_conversations"]["states"]
    assert set(states) == {0, 2}
    tampering = "DELETE FROM dixa_records.closed_conversations WHERE partition_date = '2025-11-05'"
    with copied(loaded, tmp_path, tampering) as warehouse:
        changed = Reader(rendered(warehouse))
    page = changed.data["pages"]["closed_conversations"]
    assert [
        day for day, state in zip(changed.data["days"], page["states"], strict=True) if state == 3
    ] == ["2025-11-05"]
    assert "✗ differs from its rows" in changed.page("closed_conversations")
    assert "1 of 20 figures differ" in changed.page("/")


@pytest.mark.parametrize(
    ("hours", "says", "ago"),
    [(20, "fresh", "20 h"), (30, "late", "30 h"), (72, "stale", "3 days")],
)
def test_freshness_is_that_of_dagsters_policy(
    hours: int, says: str, ago: str, loaded: DixaAnalytics
) -> None:
    at = datetime(2025, 11, 10, 4, 31, tzinfo=UTC) + timedelta(hours=hours)
    page = Reader(rendered(loaded.build_warehouse(), now=at)).page("csat")
    assert f"Is it fresh? {says} loaded {ago} ago" in page


def test_a_retired_metric_expects_no_more_days(loaded: DixaAnalytics, tmp_path: Path) -> None:
    with copied(loaded, tmp_path) as warehouse:
        change_entries(warehouse, retired_at="2025-11-10T10:00:00+00:00")
        page = Reader(rendered(warehouse, now=NOW + timedelta(days=20))).page("csat")
    assert "Is it fresh? retired" in page
    assert "1 of 21 days from 2025-10-20 to 2025-11-09" in page


def test_text_from_outside_stays_text(loaded: DixaAnalytics, tmp_path: Path) -> None:
    label = EVIL.replace("'", "''")
    labelling = (
        f"UPDATE dixa_metrics.metric_values SET breakdown_label = '{label}', "
        "status = if(status IS NULL, NULL, breakdown_label) WHERE breakdown_value IS NOT NULL"
    )
    status = f"UPDATE dixa_metrics.metric_values SET status = '{label}' WHERE status IS NOT NULL"
    with copied(loaded, tmp_path, labelling, status) as warehouse:
        html = rendered(warehouse)
    reader = Reader(html)
    assert reader.page("rating_score").startswith(f"rating_score {EVIL}")
    assert EVIL in reader.page("closed_conversations")
    assert EVIL in reader.page("agent_presence_duration")
    assert "img" not in reader.tags
    assert reader.tags.count("script") == 3
    assert not set("<>&") & set(reader.scripts[0])
    assert EVIL in json.dumps(reader.data, ensure_ascii=False).replace('\\"', '"')


def test_nothing_is_fetched_and_no_other_script_may_run(html: str, reader: Reader) -> None:
    assert [each for each in reader.references if not each.startswith(("#", "data:"))] == []
    assert "link" not in reader.tags or html.count("<link ") == html.count('<link rel="icon"')
    assert not re.search(r"@import|url\(", html[: html.index("</style>")])
    policy = dict(part.strip().split(" ", 1) for part in reader.policy.split(";"))
    digests = {
        "'sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() + "'"
        for script in reader.scripts[1:]
    }
    assert policy["default-src"] == "'none'"
    assert set(policy["script-src"].split()) == digests
    assert policy["img-src"] == "data:"
    assert set(policy) == {
        "default-src",
        "script-src",
        "style-src",
        "img-src",
        "base-uri",
        "form-action",
    }


def test_every_link_leads_to_a_page(reader: Reader) -> None:
    pages = {each[1:] for each in reader.references if each.startswith("#")} - {"/all"}
    assert pages == set(reader.pages)
    assert set(reader.data["pages"]) == set(reader.pages) - {"/"}


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
        assert "20 of the days shown are loaded, and Dixa gave no value" in reader.page(name)
        assert reader.data["pages"][name]["latest"] == []


def test_an_answer_of_unknown_shape_is_counted_and_not_drawn(
    loaded: DixaAnalytics, tmp_path: Path
) -> None:
    odd = (
        "UPDATE dixa_metrics.metric_values SET value = NULL, aggregate = '{}' "
        "WHERE metric = 'csat' AND partition_date = '2025-11-05'"
    )
    with copied(loaded, tmp_path, odd) as warehouse:
        page = Reader(rendered(warehouse)).page("csat")
    assert "1 answers have a shape that is not known" in page


def test_days_loaded_before_the_catalogues_tables_are_shown_without_descriptions(
    loaded: DixaAnalytics, tmp_path: Path
) -> None:
    dropping = [f"DROP TABLE dixa_catalogue.{name}" for name in ("metrics", "catalogue_json")]
    with copied(loaded, tmp_path, *dropping) as warehouse:
        reader = Reader(rendered(warehouse))
    assert "Dixa's catalogue does not describe it." in reader.page("csat")
    assert set(reader.pages) == {"/", *METRICS, *(f"records.{name}" for name in RECORDS)}


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
        subject = Subject(OPTIONS.spec(entry), entries, OPTIONS, NOW)
        tab = {each.check_name: each.description for each in check_results(key, subject, warehouse)}
    (page,) = report.pages
    assert {name: found.reason for name, found in page.findings.items()} == tab
    assert tab["completeness"] == "All 1 days to 2025-11-09 are loaded."


@pytest.mark.parametrize("column", ["filters", "loaded_at"])
def test_a_page_that_cannot_be_made_is_left_out_and_named(
    column: str, loaded: DixaAnalytics, tmp_path: Path
) -> None:
    whole = Reader(rendered(loaded.build_warehouse()))
    update = f"UPDATE dixa_catalogue.loads SET {column} = NULL"
    with copied(loaded, tmp_path, f"{update} WHERE asset_key = 'dixa_metrics/csat'") as warehouse:
        path = tmp_path / "report.html"
        report = write_report(warehouse, path, options=OPTIONS, now=NOW)
    reader = Reader(path.read_text("utf-8"))
    (reason,) = report.failures.values()
    assert "Error in " in reason
    assert "csat" in next(iter(report.failures))
    assert set(whole.pages) - set(reader.pages) == {"csat"}
    assert set(reader.data["pages"]) == set(reader.pages) - {"/"}
    (part,) = report.failures
    assert f"Not in this report {part}: {reason}" in reader.page("/")
    assert "Nothing stands out" not in reader.page("/")


def test_a_warehouse_without_recent_loads_shows_its_last_days(loaded: DixaAnalytics) -> None:
    later = NOW + timedelta(days=400)
    data = Reader(rendered(loaded.build_warehouse(), now=later)).data
    assert (data["days"][0], data["days"][-1]) == (FIRST, LAST)


def test_the_report_shows_the_chosen_number_of_days(loaded: DixaAnalytics, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(loaded.build_warehouse(), path, options=OPTIONS, now=NOW, days=5)
    data = Reader(path.read_text()).data
    assert data["days"] == [str(day) for day in days("2025-11-05", LAST)]


def test_the_command_writes_the_report_next_to_the_database(
    simulator: Simulator, tmp_path: Path
) -> None:
    settings = settings_for(simulator, tmp_path)
    done = run(["dixa_assets", "report"], settings)
    assert done.returncode == 0, done.stderr
    database = Path(settings["DIXA_DUCKDB_PATH"])
    written = database.with_name(f"{database.stem}_report.html")
    assert f"✓ {written}: 0 metrics and records" in done.stdout
    assert "Nothing is loaded yet" in written.read_text()


BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), ""
)


@pytest.mark.slow
@pytest.mark.skipif(not BROWSER, reason="no Chromium on this machine")
@pytest.mark.parametrize("link", ["", "csat", "closed_conversations", "records.ratings"])
def test_a_real_browser_draws_every_chart_of_a_page(
    link: str, loaded: DixaAnalytics, tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    write_report(loaded.build_warehouse(), path, options=OPTIONS, now=NOW)
    arguments = "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --dump-dom"
    command = [
        *(BROWSER, *arguments.split(), "--window-size=1200,9000", "--virtual-time-budget=10000"),
        *("--enable-logging=stderr", "--host-resolver-rules=MAP * ~NOTFOUND"),
    ]
    done = subprocess.run(
        [*command, f"--user-data-dir={tmp_path / 'profile'}", f"{path.as_uri()}#{link}"],
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert "CONSOLE" not in done.stderr, done.stderr
    pages = dict(re.findall(r'<article class="page( current)?" id="([^"]+)"', done.stdout))
    assert pages[" current"] == (link or "/")
    start = done.stdout.index(f'<article class="page current" id="{link or "/"}"')
    page = done.stdout[start : done.stdout.index("</article>", start)]
    charts = page.split('<div class="chart')[1:]
    assert charts
    assert [chart[:200] for chart in charts if 'class="main-svg"' not in chart] == []
    assert "alert(" not in "".join(re.findall("<(?:img|script)[^>]*>", page))
