"""Marts as assets: their lineage, their versions, and the run that makes them."""

from pathlib import Path

import dagster as dg
import duckdb
import pytest

from dixa_assets.component import DixaAnalytics
from dixa_assets.model.catalogue import Catalogue
from dixa_assets_tests.support.marts import MART_KEYS
from dixa_assets_tests.support.scenario import component, fetched, load
from dixa_assets_tests.support.simulator import KEY, Simulator

RECORDS = ["dixa_records/ratings", "dixa_records/closed_conversations"]


def key(text: str) -> dg.AssetKey:
    return dg.AssetKey(text.split("/"))


def marts_in(analytics: DixaAnalytics, catalogue: Catalogue) -> set[str]:
    keys = analytics.build_definitions(catalogue).resolve_asset_graph().get_all_asset_keys()
    texts = {each.to_user_string() for each in keys}
    return {each for each in texts if each.startswith("dixa_marts/")}


def publish_tick(
    analytics: DixaAnalytics, catalogue: Catalogue, instance: dg.DagsterInstance
) -> dg.SensorResult:
    definitions = analytics.build_definitions(catalogue)
    (sensor,) = (one for one in definitions.sensors or () if one.name == "dixa_publish")
    with dg.build_sensor_context(instance=instance) as context:
        return sensor.evaluate_tick(context)


def test_each_mart_is_an_asset_with_its_question_columns_and_lineage(
    analytics: DixaAnalytics, catalogue: Catalogue
) -> None:
    assert marts_in(analytics, catalogue) == {*MART_KEYS}
    graph = analytics.build_definitions(catalogue).resolve_asset_graph()
    satisfaction = graph.get(key("dixa_marts/satisfaction"))
    assert satisfaction.description is not None
    assert satisfaction.description.startswith("Which answers did customers give")
    assert {"duckdb", "view"} <= satisfaction.kinds
    names = [each.name for each in satisfaction.metadata["dagster/column_schema"].columns]
    assert names[:2] == ["conversation_id", "day"]
    parents = {each.to_user_string() for each in satisfaction.parent_keys}
    marts = {f"dixa_marts/{name}" for name in ("agents", "queues", "days", "conversations")}
    assert parents == {"dixa_records/ratings", *marts}
    agents = {each.to_user_string() for each in graph.get(key("dixa_marts/agents")).parent_keys}
    assert {"dixa_filters/agent_id", "dixa_records/agent_presence"} <= agents


def test_the_publish_run_makes_marts_before_the_read_copy(
    simulator: Simulator, tmp_path: Path, catalogue: Catalogue, instance: dg.DagsterInstance
) -> None:
    copy = str(tmp_path / "read.duckdb")
    analytics = component(simulator, tmp_path, read_copy_path=copy, report=False)
    assert load(analytics, RECORDS, "2025-11-05", catalogue=catalogue, instance=instance).success
    (request,) = publish_tick(analytics, catalogue, instance).run_requests or ()
    asked = [each.to_user_string() for each in request.asset_selection or ()]
    assert {*asked} == {*MART_KEYS, "dixa/read_copy"}
    result = load(analytics, asked, catalogue=catalogue, instance=instance)
    assert result.success
    with duckdb.connect(copy, read_only=True) as connection:
        overview = "SELECT closed > 0, answers > 0, created FROM dixa_marts.overview_daily"
        assert connection.execute(overview).fetchall() == [(True, True, None)]
    events = result.asset_materializations_for_node("dixa__marts")
    assert {each.asset_key.to_user_string() for each in events} == {*MART_KEYS}
    assert publish_tick(analytics, catalogue, instance).skip_message is not None


def test_one_mart_can_be_materialized_alone(
    analytics: DixaAnalytics, catalogue: Catalogue, instance: dg.DagsterInstance
) -> None:
    result = load(analytics, ["dixa_marts/days"], catalogue=catalogue, instance=instance)
    (event,) = result.asset_materializations_for_node("dixa__marts")
    assert event.asset_key == key("dixa_marts/days")


def test_marts_of_another_version_are_made_again(
    simulator: Simulator,
    analytics: DixaAnalytics,
    tmp_path: Path,
    catalogue: Catalogue,
    instance: dg.DagsterInstance,
) -> None:
    published = [*MART_KEYS, "dixa/report"]
    assert load(analytics, published, catalogue=catalogue, instance=instance).success
    assert publish_tick(analytics, catalogue, instance).skip_message is not None
    replies = {"first_responses": "handling_time"}
    other = component(simulator, tmp_path, marts=replies)
    (request,) = publish_tick(other, catalogue, instance).run_requests or ()
    assert {key(each) for each in MART_KEYS} <= {*(request.asset_selection or ())}


def test_a_catalogue_without_a_record_lacks_its_marts_and_the_tick_says_so(
    simulator: Simulator, analytics: DixaAnalytics, instance: dg.DagsterInstance
) -> None:
    simulator.withdraw("records", "agent_presence")
    simulator.withdraw("records", "tagged_conversations")
    catalogue = fetched(analytics)
    lacking = {"dixa_marts/staffing", "dixa_marts/tags_weekly"}
    assert marts_in(analytics, catalogue) == {*MART_KEYS} - lacking
    definitions = analytics.build_definitions(catalogue)
    (sensor,) = (one for one in definitions.sensors or () if one.name == "dixa_catalogue")
    api = {"dixa_api": analytics.build_dixa(KEY)}
    with dg.build_sensor_context(instance, resources=api, sensor_name=sensor.name) as context:
        message = str(sensor.evaluate_tick(context).skip_message)
    assert "The marts lack staffing, tags_weekly" in message
    assert "agent_presence" in message
    assert load(analytics, ["dixa_marts/missing"], catalogue=catalogue).success
    missing = analytics.build_warehouse().query("SELECT kind, name FROM dixa_marts.missing")
    assert {("mart", "staffing"), ("record", "agent_presence")} <= {
        tuple(row) for row in missing.to_numpy()
    }


def test_an_asset_says_that_a_relation_of_other_people_has_its_name(
    analytics: DixaAnalytics, catalogue: Catalogue
) -> None:
    with duckdb.connect(analytics.duckdb_path) as connection:
        connection.execute("CREATE SCHEMA dixa_marts")
        connection.execute("CREATE VIEW dixa_marts.days AS SELECT 1 AS theirs")
    result = load(analytics, ["dixa_marts/days"], catalogue=catalogue)
    assert result.success
    (event,) = result.asset_materializations_for_node("dixa__marts")
    assert "another program made" in str(event.metadata["not made"].value)


@pytest.mark.parametrize("account", ["", "acme"])
def test_without_marts_there_are_none(
    account: str, simulator: Simulator, tmp_path: Path, catalogue: Catalogue
) -> None:
    off = component(simulator, tmp_path, marts=False, account=account)
    keys = off.build_definitions(catalogue).resolve_asset_graph().get_all_asset_keys()
    assert not [each for each in keys if "dixa_marts" in each.path]
    on = component(simulator, tmp_path, account=account)
    keys = on.build_definitions(catalogue).resolve_asset_graph().get_all_asset_keys()
    assert dg.AssetKey([*([account] if account else []), "dixa_marts", "days"]) in keys


def test_an_excluded_record_is_behind_no_role(
    simulator: Simulator, tmp_path: Path, catalogue: Catalogue
) -> None:
    analytics = component(simulator, tmp_path, exclude=["agent_presence"])
    assert "dixa_marts/staffing" not in marts_in(analytics, catalogue)
