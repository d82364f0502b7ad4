"""The README keeps its word."""

import re
from pathlib import Path

import pytest
import yaml

from dixa_assets.component import DixaAnalytics
from dixa_assets_tests.support.processes import PROJECT
from dixa_assets_tests.support.scenario import component, fetched, load
from dixa_assets_tests.support.simulator import Simulator
from docs import tables

README = (PROJECT / "README.md").read_text()
TABLES = tables.PAGE.read_text()
QUERIES = re.findall(r"```sql\n(.+?)```", README + TABLES, re.DOTALL)
# These look for what should not be, or is not in the few days loaded here.
EMPTY = ("Is a Count equal", "Reconciliation gaps", "New fields", "Missing days")


@pytest.fixture(scope="module")
def loaded(simulator_process: Simulator, tmp_path_factory: pytest.TempPathFactory) -> DixaAnalytics:
    simulator_process.tell("reset", now="2025-11-10T12:00:00+00:00")
    analytics = component(simulator_process, tmp_path_factory.mktemp("readme"))
    keys = ["metrics/csat", "metrics/closed_conversations", "records/ratings"]
    keys += ["records/closed_conversations", "records/created_conversations"]
    catalogue = fetched(analytics)
    days = ("2025-10-24", "2025-10-28")
    assert load(analytics, [f"dixa_{key}" for key in keys], *days, catalogue=catalogue).success
    assert load(analytics, tables.CATALOGUE, catalogue=catalogue).success
    return analytics


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.partition("\n")[0][3:])
def test_every_example_query_answers(query: str, loaded: DixaAnalytics) -> None:
    answer = loaded.build_warehouse().query(query)
    assert answer.empty == query.removeprefix("-- ").startswith(EMPTY)


def test_the_first_query_gives_a_row_a_day(loaded: DixaAnalytics) -> None:
    assert len(loaded.build_warehouse().query(QUERIES[0])) == 5


def test_the_configuration_table_tells_the_defaults() -> None:
    rows = dict(re.findall(r"^\| `(DIXA_\w+)` \|\s*`?([^`|]*?)`?\s*\|", README, re.MULTILINE))
    # Secrets are read when they are needed and are no attributes.
    for secret in ("DIXA_API_KEY", "DIXA_ALERT_WEBHOOK"):
        rows.pop(secret)
    defaults = DixaAnalytics()
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
        assert rows[match[1]].strip() == match[2] == str(getattr(defaults, name))


def test_the_example_environment_names_every_variable() -> None:
    named = set(
        re.findall(r"^#? ?(DIXA_\w+)=", (PROJECT / ".env.example").read_text(), re.MULTILINE)
    )
    assert named == set(re.findall(r"^\| `(DIXA_\w+)` ", README, re.MULTILINE))


def test_the_example_of_attributes_is_accepted() -> None:
    example = next(text for text in re.findall(r"```yaml\n(.+?)```", README, re.DOTALL))
    DixaAnalytics(**yaml.safe_load(example)["attributes"])


def test_the_page_of_tables_is_what_a_load_makes(simulator: Simulator, tmp_path: Path) -> None:
    analytics = component(simulator, tmp_path)
    tables.load_everything(analytics)
    assert tables.page(analytics) == TABLES, "run python -m docs.tables"


def test_searches_find_what_they_look_for(loaded: DixaAnalytics) -> None:
    queries = {query.partition("\n")[0][3:].partition(":")[0]: query for query in QUERIES}
    ask = loaded.build_warehouse().query
    with loaded.build_warehouse().reading() as write:
        write("DELETE FROM dixa_catalogue.loads WHERE partition_date = '2025-10-26'")
        write(
            "INSERT INTO dixa_catalogue.changes (changed_at, kind, id, change, item) "
            "VALUES (now(), 'record', 'ratings', 'field added', 'mood')"
        )
        write("DELETE FROM dixa_records.closed_conversations WHERE partition_date = '2025-10-25'")
    assert len(ask(queries["Missing days"])) == 5
    assert ask(queries["New fields this month"]).field.tolist() == ["mood"]
    gaps = ask(queries["Reconciliation gaps"])
    assert gaps.partition_date.astype(str).tolist() == ["2025-10-25"]
