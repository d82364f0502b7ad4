"""The README keeps its word."""

import re
from pathlib import Path

import pytest
import yaml

from dixa_assets.component import DixaAnalytics
from dixa_assets_tests.conftest import Simulator
from dixa_assets_tests.processes import PROJECT
from dixa_assets_tests.scenario import component, load

README = (PROJECT / "README.md").read_text()
QUERIES = re.findall(r"```sql\n(.+?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def loaded(simulator_process: Simulator, tmp_path_factory: pytest.TempPathFactory) -> DixaAnalytics:
    simulator_process.tell("reset", now="2025-11-10T12:00:00+00:00")
    analytics = component(simulator_process, tmp_path_factory.mktemp("readme"))
    keys = ["metrics/csat", "metrics/closed_conversations", "records/ratings"]
    keys += ["records/closed_conversations", "records/created_conversations"]
    assert load(analytics, [f"dixa_{key}" for key in keys], "2025-10-24", "2025-10-28").success
    return analytics


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.partition("\n")[0][3:])
def test_every_example_query_answers(query: str, loaded: DixaAnalytics) -> None:
    answer = loaded.build_warehouse().query(query)
    is_search_for_gaps = "HAVING counted <> rows_there" in query
    assert answer.empty == is_search_for_gaps


def test_the_first_query_gives_a_row_a_day(loaded: DixaAnalytics) -> None:
    assert len(loaded.build_warehouse().query(QUERIES[0])) == 5


def test_the_configuration_table_tells_the_defaults() -> None:
    rows = dict(re.findall(r"^\| `(DIXA_\w+)` \|\s*`?([^`|]*?)`?\s*\|", README, re.MULTILINE))
    rows.pop("DIXA_API_KEY")
    defaults = DixaAnalytics()
    attributes = yaml.safe_load(
        Path(PROJECT / "dixa_assets/defs/dixa_analytics/defs.yaml").read_text()
    )["attributes"]
    templated = {
        name: re.fullmatch(r"\{\{ env\('(\w+)', '(.*)'\) \}\}", template)
        for name, template in attributes.items()
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
