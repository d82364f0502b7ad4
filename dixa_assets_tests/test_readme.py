"""The queries, examples, tables and links of README.md and docs/ work."""

import csv
import re
import shutil
import subprocess
import sys
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
import yaml

from dixa_assets.component import DixaAnalytics
from dixa_assets.model.catalogue import Catalogue
from dixa_assets.warehouse.warehouse import Warehouse
from dixa_assets_tests.support.marts import MART_KEYS
from dixa_assets_tests.support.processes import PROJECT
from dixa_assets_tests.support.projects import stored_catalogue, write_project
from dixa_assets_tests.support.scenario import component, days, fetched, load
from dixa_assets_tests.support.simulator import COPENHAGEN, Simulator
from docs import tables

README = (PROJECT / "README.md").read_text()
TABLES = tables.PAGE.read_text()
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
# The questions have a test of their own.
EVERYTHING = "\n".join(page.read_text() for page in PAGES if page.name != "questions.md")
QUERIES = re.findall(r"```sql\n(.+?)```", EVERYTHING, re.DOTALL)
LOADED = [
    *(f"dixa_metrics/{name}" for name in ("csat", "closed_conversations", "first_response_time")),
    *(f"dixa_records/{name}" for name in ("ratings", "closed_conversations")),
    *(f"dixa_records/{name}" for name in ("created_conversations", "first_response_time")),
]
# These queries find faults, and the days loaded here have none.
EMPTY = ("Is a Count equal", "Reconciliation gaps", "New fields", "Missing days")


@pytest.fixture(scope="module")
def loaded(simulator_process: Simulator, tmp_path_factory: pytest.TempPathFactory) -> DixaAnalytics:
    simulator_process.tell("reset", now="2025-11-10T12:00:00+00:00")
    analytics = component(simulator_process, tmp_path_factory.mktemp("readme"))
    catalogue = fetched(analytics)
    assert load(analytics, LOADED, "2025-10-24", "2025-10-28", catalogue=catalogue).success
    # A day of a metric whose record is not loaded on that day is no difference.
    alone = ["dixa_metrics/closed_conversations"]
    assert load(analytics, alone, "2025-10-29", catalogue=catalogue).success
    assert load(analytics, [*tables.CATALOGUE, *MART_KEYS], catalogue=catalogue).success
    return analytics


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.partition("\n")[0][3:])
def test_every_example_query_answers(
    query: str, loaded: DixaAnalytics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One of them writes a file into the working folder.
    monkeypatch.chdir(tmp_path)
    answer = loaded.build_warehouse().query(query)
    assert answer.empty == query.removeprefix("-- ").startswith(EMPTY)


def test_the_first_query_gives_one_row_per_day(loaded: DixaAnalytics) -> None:
    assert len(loaded.build_warehouse().query(QUERIES[0])) == 6


def test_the_command_that_opens_the_read_copy_shows_numbers(
    loaded: DixaAnalytics, tmp_path: Path
) -> None:
    (tmp_path / ".demo").mkdir()
    shutil.copy(loaded.build_warehouse().path, tmp_path / ".demo" / "dixa_read.duckdb")
    (code,) = re.findall(r'^\.venv/bin/python -ic "(.+)"$', README, re.MULTILINE)
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "2025-10-24" in shown.stdout


def test_every_relative_link_has_a_target() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if not re.match(r"https?:", link):
                name, _, heading = link.partition("#")
                target = page.parent / name if name else page
                assert target.exists(), f"{page.name}: {link}"
                assert not heading or heading in headings(target), f"{page.name}: {link}"


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    found = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in found}


def test_the_readme_links_every_page() -> None:
    listed = README.partition("## More")[2]
    for page in PAGES[1:]:
        assert f"](docs/{page.name})" in listed


def test_the_table_of_variables_has_the_defaults() -> None:
    rows = dict(re.findall(r"^\| `(DIXA_\w+)` \|\s*`?([^`|]*?)`?\s*\|", README, re.MULTILINE))
    # Secrets are no attributes.
    for secret in ("DIXA_API_KEY", "DIXA_ALERT_WEBHOOK", "DIXA_HASH_KEY"):
        rows.pop(secret)
    attributes = yaml.safe_load(
        Path(PROJECT / "dixa_assets/defs/dixa_analytics/defs.yaml").read_text()
    )["attributes"]
    templated = {
        name: re.fullmatch(r"\{\{ env\('(\w+)', '(.*)'\) \}\}", template)
        for name, template in attributes.items()
        # A list is no variable: owners.
        if isinstance(template, str)
    }
    assert {match[1] for match in templated.values() if match} == set(rows)
    for name, match in templated.items():
        assert match is not None
        default = DixaAnalytics.model_fields[name].default
        written = ",".join(default) if isinstance(default, tuple) else str(default)
        assert rows[match[1]].strip() == match[2] == written


def test_the_example_environment_has_every_variable() -> None:
    named = set(
        re.findall(r"^#? ?(DIXA_\w+)=", (PROJECT / ".env.example").read_text(), re.MULTILINE)
    )
    assert named == set(re.findall(r"^\| `(DIXA_\w+)` ", README, re.MULTILINE))


REUSE = (PROJECT / "docs" / "reuse.md").read_text()
EXAMPLES = re.findall(r"```yaml\n(.+?)```", README + REUSE, re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_of_a_defs_yaml_loads_with_assets(
    example: str,
    tmp_path: Path,
    catalogue: Catalogue,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_project(tmp_path, dixa=example)
    monkeypatch.syspath_prepend(tmp_path)
    tree = dg.ComponentTree.for_project
    (found,) = tree(tmp_path).get_all_components(of_type=DixaAnalytics)
    with stored_catalogue(instance, found, catalogue):
        definitions = tree(tmp_path).build_defs()
    keys = {key.to_user_string() for key in definitions.resolve_asset_graph().get_all_asset_keys()}
    prefixes = {"account: acme": "acme/", "key_prefix: support": "support/"}
    (prefix,) = [to for what, to in prefixes.items() if what in example] or [""]
    assert f"{prefix}dixa_metrics/csat" in keys


PYTHON = re.findall(r"```python\n(.+?)```", REUSE, re.DOTALL)


@pytest.mark.parametrize("example", PYTHON)
def test_every_example_in_python_works_next_to_the_assets(
    example: str, simulator: Simulator, catalogue: Catalogue
) -> None:
    found: dict[str, Any] = {"__name__": "example"}
    exec(example, found)
    analytics = found.get("SupportAnalytics", DixaAnalytics)(base_url=simulator.url)
    own = analytics.build_definitions(catalogue)
    if "build_definitions" not in found:
        own = dg.Definitions.merge(own, found.get("defs", dg.Definitions()))
    dg.Definitions.validate_loadable(own)
    tags = own.resolve_asset_graph().get(dg.AssetKey(["dixa_metrics", "csat"])).tags
    assert ("tier" in tags) == ("SupportAnalytics" in found)


def test_the_page_of_tables_describes_the_tables_of_a_load(analytics: DixaAnalytics) -> None:
    tables.load_everything(analytics)
    assert tables.page(analytics) == TABLES, "run python -m docs.tables"


def test_the_csv_file_for_excel_has_no_formula_of_dixa(
    loaded: DixaAnalytics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (query,) = [query for query in QUERIES if "dixa_metrics.csv" in query]
    shutil.copy(loaded.duckdb_path, tmp_path / "copy.duckdb")
    warehouse = Warehouse(tmp_path / "copy.duckdb")
    starts = ("=", "+", "-", "@", "\t=", "\r=", "  =", "\n@", "＝")
    labels = [f'{start}HYPERLINK("https://evil.example","x")' for start in starts]
    with warehouse.reading() as write:
        for label in labels:
            write(
                "INSERT INTO dixa_metrics.metric_values (metric, partition_date, measure, "
                "breakdown_attribute, breakdown_value, breakdown_label, value) "
                "VALUES (?, DATE '2025-10-24', ?, 'channel', 'x', ?, -1)",
                [label, label, label],
            )
        write(query)
    with Path("dixa_metrics.csv").open(newline="", encoding="utf-8") as file:
        rows = [*csv.DictReader(file)]
    hostile = [row for row in rows if "HYPERLINK" in row["metric"]]
    assert len(hostile) == len(labels)
    for row in hostile:
        for name in ("metric", "measure", "breakdown_label"):
            assert row[name].startswith("'")
            assert row[name][1:] in labels
    assert {row["value"] for row in hostile} == {"-1.0"}
    assert "csat" in {row["metric"] for row in rows}


def test_queries_for_faults_find_them(loaded: DixaAnalytics) -> None:
    queries = {query.partition("\n")[0][3:].partition(":")[0]: query for query in QUERIES}
    ask = loaded.build_warehouse().query
    with loaded.build_warehouse().reading() as write:
        write("DELETE FROM dixa_catalogue.loads WHERE partition_date = '2025-10-26'")
        write(
            "INSERT INTO dixa_catalogue.changes (changed_at, kind, id, change, item) "
            "VALUES (now(), 'record', 'ratings', 'field added', 'mood')"
        )
        write("DELETE FROM dixa_records.closed_conversations WHERE partition_date = '2025-10-25'")
    assert len(ask(queries["Missing days"])) == len(LOADED)
    assert ask(queries["New fields this month"]).field.tolist() == ["mood"]
    for name in ("Reconciliation gaps", "Is a Count equal to the rows behind it? Days"):
        (query,) = [query for title, query in queries.items() if title.startswith(name)]
        assert ask(query).partition_date.astype(str).tolist() == ["2025-10-25"]


def test_assets_after_these_run_for_every_day_of_a_refresh(
    analytics: DixaAnalytics, catalogue: Catalogue, instance: dg.DagsterInstance
) -> None:
    (example,) = [each for each in PYTHON if "ratings_by_week" in each]
    found: dict[str, Any] = {"__name__": "example"}
    exec(example, found)
    both = dg.Definitions.merge(analytics.build_definitions(catalogue), found["defs"])
    evaluate = partial(
        dg.evaluate_automation_conditions,
        both,
        instance,
        evaluation_time=datetime(2025, 11, 10, 5, 40, tzinfo=ZoneInfo(COPENHAGEN)),
    )
    evaluated = evaluate()
    assert evaluated.total_requested == 0
    for first, last in (("2025-11-01", "2025-11-09"), ("2025-11-03", "2025-11-09")):
        assert load(analytics, ["dixa_records/ratings"], first, last, instance=instance).success
        evaluated = evaluate(cursor=evaluated.cursor)
        daily, weekly, ever = (
            evaluated.get_requested_partitions(dg.AssetKey(name))
            for name in ("ratings_by_team", "ratings_by_week", "ratings_so_far")
        )
        assert daily == {day.isoformat() for day in days(first, last)}
        assert weekly == {"2025-11-03"}
        assert ever == {None}
        # The next tick has nothing new.
        evaluated = evaluate(cursor=evaluated.cursor)
        assert evaluated.total_requested == 0


def test_every_attribute_is_on_a_page_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| `?(.*?)`? \|", REUSE, re.MULTILINE))
    for name, field in DixaAnalytics.model_fields.items():
        assert name in rows or f"{name}:" in README + REUSE or f"DIXA_{name.upper()}" in README
        if name in rows and isinstance(field.default, (int, float, str)):
            default = field.default
            assert rows[name] == (default if isinstance(default, str) else f"{default:g}")
