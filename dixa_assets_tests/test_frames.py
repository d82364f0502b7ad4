"""DataFrames: as inputs of other people's assets, in notebooks with Dagster, and without it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import polars as pl
import pytest

import dixa_assets
from dixa_assets.component import DixaAnalytics
from dixa_assets.errors import ConfigError, DixaAssetsError
from dixa_assets.model.catalogue import Catalogue
from dixa_assets.orchestration.dagster_internals import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
)
from dixa_assets_tests.support.projects import write_project
from dixa_assets_tests.support.scenario import component, load
from dixa_assets_tests.support.simulator import KEY, Simulator

FIRST, LAST = "2025-10-20", "2025-10-27"
RATINGS = dg.AssetKey(["dixa_records", "ratings"])
DAYS = dg.DailyPartitionsDefinition("2025-01-01", timezone="Europe/Copenhagen")
WEEKS = dg.WeeklyPartitionsDefinition("2025-01-06", timezone="Europe/Copenhagen", day_offset=1)


@pytest.fixture(scope="module")
def loaded(
    simulator_process: Simulator, catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory
) -> DixaAnalytics:
    """A component whose database has some ratings and CSAT."""
    analytics = component(
        simulator_process,
        tmp_path_factory.mktemp("frames"),
        read_copy_path=str(tmp_path_factory.mktemp("copy") / "read.duckdb"),
    )
    keys = ["dixa_records/ratings", "dixa_metrics/csat"]
    assert load(analytics, keys, FIRST, LAST, catalogue=catalogue).success
    return analytics


def received(
    loaded: DixaAnalytics,
    catalogue: Catalogue,
    asset: dg.AssetsDefinition,
    **tags: str,
) -> dg.ExecuteInProcessResult:
    """A run of an asset of others alone, on what is loaded."""
    assets = loaded.build_definitions(catalogue).assets or ()
    return dg.materialize(
        [*(each for each in assets if isinstance(each, dg.AssetsDefinition)), asset],
        selection=[asset.key],
        resources=loaded.build_resources(KEY),
        tags=tags,
        raise_on_error=False,
    )


def range_of(first: str, last: str) -> dict[str, str]:
    return {ASSET_PARTITION_RANGE_START_TAG: first, ASSET_PARTITION_RANGE_END_TAG: last}


@pytest.mark.parametrize(
    ("partitions", "tags", "first", "last"),
    [
        (DAYS, range_of("2025-10-21", "2025-10-21"), "2025-10-21", "2025-10-21"),
        (DAYS, range_of("2025-10-21", "2025-10-23"), "2025-10-21", "2025-10-23"),
        (WEEKS, range_of("2025-10-20", "2025-10-20"), "2025-10-20", "2025-10-26"),
        (None, {}, FIRST, LAST),
    ],
    ids=["a day", "a range of days", "a week", "all days"],
)
def test_a_downstream_asset_gets_the_rows_of_its_days(
    loaded: DixaAnalytics,
    catalogue: Catalogue,
    partitions: dg.PartitionsDefinition[Any] | None,
    tags: dict[str, str],
    first: str,
    last: str,
) -> None:
    seen: list[pd.DataFrame] = []

    @dg.asset(
        ins={"ratings": dg.AssetIn(RATINGS)},
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def mine(ratings: pd.DataFrame) -> None:
        seen.append(ratings)

    assert received(loaded, catalogue, mine, **tags).success
    expected = loaded.build_warehouse().query(
        "SELECT count(*) AS n, min(partition_date) AS first, max(partition_date) AS last "
        "FROM dixa_records.ratings WHERE partition_date BETWEEN ? AND ?",
        [first, last],
    )
    frame = seen[0]
    assert len(frame) == expected.n[0] > 0
    days = frame.partition_date
    assert (days.min(), days.max()) == (expected["first"][0], expected["last"][0])
    assert days.dt.tz is None


def test_a_downstream_asset_gets_a_frame_of_polars(
    loaded: DixaAnalytics, catalogue: Catalogue
) -> None:
    seen = []

    def mine(ratings: Any) -> None:
        seen.append(ratings)

    mine.__annotations__["ratings"] = pl.DataFrame
    asset = dg.asset(ins={"ratings": dg.AssetIn(RATINGS)})(mine)
    assert received(loaded, catalogue, asset).success
    frame = seen[0]
    assert isinstance(frame, pl.DataFrame)
    rows = loaded.build_warehouse().query("FROM dixa_records.ratings ORDER BY ALL")
    frame = frame.sort(frame.columns)
    assert frame.columns == [*rows]
    assert frame["conversation_id"].to_list() == rows.conversation_id.tolist()
    assert frame["primary_timestamp"].to_list() == [*rows.primary_timestamp.dt.to_pydatetime()]
    nothing = dg.AssetIn(RATINGS, metadata={"where": "false"})
    assert received(loaded, catalogue, dg.asset(ins={"ratings": nothing})(mine)).success
    assert len(seen[1]) == 0
    for name in ("partition_date", "primary_timestamp", "conversation_id"):
        assert seen[1].schema[name] == frame.schema[name]


def test_types_are_those_an_analyst_expects(loaded: DixaAnalytics) -> None:
    frame = loaded.build_warehouse().query("FROM dixa_records.ratings")
    assert str(frame.primary_timestamp.dt.tz) == "UTC"
    assert str(frame.conversation_id.dtype) == "Int64"
    assert str(frame.partition_date.dtype).startswith("datetime64")
    made = loaded.build_warehouse().query(
        "SELECT * FROM (VALUES (9007199254740993, true, ['a']), (NULL, NULL, NULL))"
        " AS made(id, is_a, tags)"
    )
    assert made.id.tolist() == [9007199254740993, pd.NA]
    assert [str(each) for each in made.dtypes] == ["Int64", "boolean", "object"]
    assert made.tags.tolist() == [["a"], None]


def test_metadata_of_an_input_selects_columns_rows_and_the_zone(
    loaded: DixaAnalytics, catalogue: Catalogue
) -> None:
    seen: list[pd.DataFrame] = []
    wanted = {"columns": ["primary_timestamp", "value"], "where": "value >= 4", "local": True}

    @dg.asset(ins={"ratings": dg.AssetIn(RATINGS, metadata=wanted)})
    def mine(ratings: pd.DataFrame) -> None:
        seen.append(ratings)

    assert received(loaded, catalogue, mine).success
    assert [*seen[0].columns] == ["primary_timestamp", "value"]
    assert str(seen[0].primary_timestamp.dt.tz) == "Europe/Copenhagen"
    assert len(seen[0]) > 0
    assert seen[0].value.min() >= 4


@pytest.mark.parametrize(
    ("key", "metadata", "message"),
    [
        (RATINGS, {"columns": ["colour"]}, "dixa_records.ratings cannot be read: .*colour"),
        (
            dg.AssetKey(["dixa_records", "closed_conversations"]),
            {},
            "dixa_records.closed_conversations cannot be read: .*Is it loaded",
        ),
        (dg.AssetKey(["dixa", "read_copy"]), {}, "dixa/read_copy is not a table"),
    ],
    ids=["unknown column", "nothing loaded", "no table"],
)
def test_an_input_that_cannot_be_read_is_explained(
    loaded: DixaAnalytics,
    catalogue: Catalogue,
    key: dg.AssetKey,
    metadata: dict[str, Any],
    message: str,
) -> None:
    @dg.asset(ins={"frame": dg.AssetIn(key, metadata=metadata)})
    def mine(frame: pd.DataFrame) -> None: ...

    assets = loaded.build_definitions(catalogue).assets or ()
    with pytest.raises(DixaAssetsError, match=message):
        dg.materialize(
            [*(each for each in assets if isinstance(each, dg.AssetsDefinition)), mine],
            selection=[mine.key],
            resources=loaded.build_resources(KEY),
        )


def test_a_notebook_loads_the_value_of_an_asset(
    loaded: DixaAnalytics, catalogue: Catalogue, instance: dg.DagsterInstance
) -> None:
    definitions = loaded.build_definitions(catalogue)
    repository = definitions.get_repository_def()
    with pytest.MonkeyPatch.context() as process:
        process.setenv("DIXA_API_KEY", KEY)
        day: Any = repository.load_asset_value(
            RATINGS, python_type=pd.DataFrame, instance=instance, partition_key="2025-10-21"
        )
        csat: Any = repository.load_asset_value(
            dg.AssetKey(["dixa_metrics", "csat"]),
            instance=instance,
            metadata={"where": "breakdown_attribute IS NULL"},
        )
    assert {str(each.date()) for each in day.partition_date} == {"2025-10-21"}
    assert {*csat.breakdown_attribute.isna()} == {True}
    assert len(csat) == 8


def in_the_project_of(
    loaded: DixaAnalytics, folder: Path, monkeypatch: pytest.MonkeyPatch, **more: str
) -> None:
    attributes = {
        "base_url": loaded.base_url,
        "duckdb_path": loaded.duckdb_path,
        "read_copy_path": loaded.read_copy_path,
    } | more
    text = "".join(f"  {name}: {value}\n" for name, value in attributes.items())
    write_project(folder, dixa=f"attributes:\n{text}")
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)


def test_a_script_reads_records_metrics_and_sql_without_dagster(
    loaded: DixaAnalytics,
    catalogue: Catalogue,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    in_the_project_of(loaded, tmp_path, monkeypatch)
    loaded.build_warehouse().save_catalogue(catalogue)
    for place in ("test.duckdb", "read.duckdb"):
        dixa = dixa_assets.connect()
        assert place in repr(dixa)
        ratings = dixa.record("ratings", "2025-10-21", "2025-10-22", columns=["partition_date"])
        assert [*ratings.columns] == ["partition_date"]
        assert {each.day for each in ratings.partition_date} == {21, 22}
        assert len(dixa.metric("csat", where="breakdown_attribute IS NULL")) == 8
        assert dixa.sql("SELECT ? AS n", 7).n.tolist() == [7]
        with pytest.raises(ConfigError, match="no record 'rating'; did you mean ratings"):
            dixa.record("rating")
        # The second time, there is a read copy.
        loaded.build_warehouse().publish(Path(loaded.read_copy_path))


def test_the_import_of_the_package_does_not_import_dagster_or_pandas() -> None:
    found = subprocess.run(
        [
            sys.executable,
            "-c",
            "import dixa_assets, sys; print('dagster' in sys.modules, "
            "'pandas' in sys.modules, dixa_assets.__version__)",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.split()[:2] == ["False", "False"]
    assert found.stdout.split()[2][0].isdigit()
