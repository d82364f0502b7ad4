"""Customers' data through Dagster and the commands: kept out, hashed, forgotten, limited."""

import json
import os
import re
import shutil
import stat
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dixa_assets.component import DixaAnalytics
from dixa_assets.errors import ConfigError
from dixa_assets.model.catalogue import Catalogue
from dixa_assets.model.catalogue_rows import catalogue_rows
from dixa_assets.model.options import HASH_KEY
from dixa_assets.model.privacy import FieldPolicy
from dixa_assets.simulator.people import AGENTS
from dixa_assets_tests.conftest import Done
from dixa_assets_tests.support.days import today_in_copenhagen
from dixa_assets_tests.support.people import files_with
from dixa_assets_tests.support.projects import write_project
from dixa_assets_tests.support.scenario import component, failure_of, fetched, load
from dixa_assets_tests.support.simulator import Simulator
from dixa_assets_tests.support.ticks import catalogue_tick

RATINGS, CSAT = "dixa_records/ratings", "dixa_metrics/csat"
CATALOGUE = [f"dixa_catalogue/{table.name}" for table in catalogue_rows(Catalogue())]
DAY, NEXT = "2025-11-01", "2025-11-02"
PERSON, SECRET = "jane.doe@example.com", "a-secret-remark-7f3a"
KEY = "0123456789abcdef" * 4
NAMES = [agent.label for agent in AGENTS if agent.label.isascii() and "'" not in agent.label]


@pytest.fixture
def person(simulator: Simulator) -> None:
    """Every rating has fields that name a person, one of them in a value of an unknown type."""
    for name, typed in (
        ("Contact_Point", {"_type": "StringField", "value": PERSON, "label": "Jane Q. Doe"}),
        ("phone", {"_type": "LongField", "value": 4512345678}),
        ("odd", {"_type": "NewField", "value": {"k": [{"contactPoint": PERSON, "n": 1}]}}),
        ("remark", {"_type": "StringField", "value": SECRET}),
    ):
        simulator.tell("records/fields", id="ratings", field=name, data=typed)


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(HASH_KEY, KEY)
    return KEY


def columns(analytics: DixaAnalytics, table: str = RATINGS) -> set[str]:
    return {*analytics.build_warehouse().query(f"FROM {table.replace('/', '.')}").columns}


@pytest.mark.usefixtures("person")
def test_what_is_excluded_is_in_no_file_of_the_project(
    simulator: Simulator, tmp_path: Path
) -> None:
    analytics = component(
        simulator,
        tmp_path,
        exclude_fields={"*": ["contact-point", "AgentId"]},
        breakdowns={"csat": ["agent_id", "queue_id"]},
        read_copy_path=str(tmp_path / "read.duckdb"),
    )
    catalogue = fetched(analytics)
    assets = [asset.key.to_user_string() for asset in _specs(analytics, catalogue)]
    assert "dixa_filters/agent_id" not in assets
    filters = [each for each in assets if each.startswith("dixa_filters/")]
    keys = [RATINGS, CSAT, *filters]
    with dg.DagsterInstance.local_temp(str(_folder(tmp_path, "home"))) as instance:
        assert load(analytics, keys, DAY, NEXT, instance=instance, catalogue=catalogue).success
        published = ["dixa/read_copy", "dixa/report"]
        assert load(analytics, published, instance=instance, catalogue=catalogue).success
    assert not {"Contact_Point", "agent_id", "agent_id_label"} & columns(analytics)
    odd = analytics.build_warehouse().query("SELECT odd FROM dixa_records.ratings").odd[0]
    assert json.loads(odd) == {"_type": "NewField", "value": {"k": [{"n": 1}]}}
    assert files_with(tmp_path, PERSON, "Jane Q. Doe", *NAMES) == set()
    attributes = analytics.build_warehouse().query(
        "SELECT DISTINCT breakdown_attribute AS a FROM dixa_metrics.csat WHERE a IS NOT NULL"
    )
    assert [*attributes.a] == ["queue_id"]


def _folder(parent: Path, name: str) -> Path:
    (parent / name).mkdir()
    return parent / name


def _specs(analytics: DixaAnalytics, catalogue: Catalogue) -> list[dg.AssetSpec]:
    return [*analytics.build_definitions(catalogue).resolve_all_asset_specs()]


def test_filter_values_and_breakdowns_excluded_later_disappear(
    simulator: Simulator, tmp_path: Path
) -> None:
    breakdowns = {"agent_presence_duration": ["agent_id"]}
    analytics = component(simulator, tmp_path, breakdowns=breakdowns)
    presence = "dixa_metrics/agent_presence_duration"
    assert load(analytics, ["dixa_filters/agent_id", presence], DAY, NEXT).success
    assert files_with(tmp_path, *NAMES)
    excluding = component(
        simulator, tmp_path, breakdowns=breakdowns, exclude_fields={"*": ["agent_id"]}
    )
    assert load(excluding, [presence], NEXT).success
    assert files_with(tmp_path, *NAMES) == set()
    found = analytics.build_warehouse().query(
        "SELECT count(DISTINCT partition_date) AS days, count(breakdown_value) AS parts "
        "FROM dixa_metrics.agent_presence_duration"
    )
    assert (found.days[0], found.parts[0]) == (2, 0)


@pytest.mark.usefixtures("person")
def test_the_preview_of_a_load_shows_no_phone_number(
    analytics: DixaAnalytics, catalogue: Catalogue
) -> None:
    result = load(analytics, [RATINGS], DAY, catalogue=catalogue)
    (event,) = result.asset_materializations_for_node("dixa_records__ratings")
    preview: Any = event.metadata["preview"]
    shown = {name for record in preview.records for name in record.data}
    assert "phone" not in shown
    assert {"partition_date", "primary_timestamp", "answered_at", "value"} <= shown
    assert "4512345678" not in str(preview)


@pytest.mark.usefixtures("person")
def test_only_named_fields_are_stored_and_ticks_name_new_ones(
    simulator: Simulator, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    analytics = component(simulator, tmp_path, only_fields={"*": ["conversationId"]})
    catalogue = fetched(analytics)
    assert load(analytics, [RATINGS], DAY, catalogue=catalogue).success
    own = {"partition_date", "primary_timestamp", "primary_timestamp_field", "loaded_at", "run_id"}
    assert columns(analytics) - own == {"conversation_id", "value"}
    assert files_with(tmp_path, PERSON, SECRET) == set()
    for _ in range(2):
        told = catalogue_tick(analytics, catalogue, instance)
        assert "only_fields: not stored until a setting names them: ratings.Contact_Point" in told
    naming = component(
        simulator, tmp_path, only_fields={"*": ["conversation_id", "contact_point", "phone", "odd"]}
    )
    told = catalogue_tick(naming, catalogue, instance)
    assert "ratings.remark" in told
    assert "ratings.Contact_Point" not in told


def test_a_missing_key_is_refused_by_its_name(simulator: Simulator, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="^DIXA_HASH_KEY: is not set"):
        component(simulator, tmp_path, hash_fields={"*": ["agent_id"]})


@pytest.mark.usefixtures("person", "key")
def test_hashed_fields_join_records_and_the_key_is_in_no_file(
    simulator: Simulator, tmp_path: Path
) -> None:
    closed = "dixa_records/closed_conversations"
    plain = component(simulator, _folder(tmp_path, "plain"))
    hashed = component(
        simulator,
        _folder(tmp_path, "hashed"),
        hash_fields={"*": ["agent_id", "contact_point"]},
        filters={"ratings": {"agent_id": [AGENTS[1].id, AGENTS[2].id]}},
    )
    joined = (
        "SELECT count(*) AS rows, count(DISTINCT agent_id) AS agents "
        "FROM dixa_records.ratings JOIN dixa_records.closed_conversations USING (agent_id)"
    )
    counts = []
    for analytics in (plain, hashed):
        catalogue = fetched(analytics)
        with dg.DagsterInstance.local_temp() as instance:
            loaded = load(analytics, [RATINGS, closed], DAY, instance=instance, catalogue=catalogue)
        assert loaded.success
        only = "" if analytics is hashed else f" WHERE agent_id IN {_ids()}"
        found = analytics.build_warehouse().query(joined + only)
        counts.append((found.rows[0], found.agents[0]))
    assert counts[0] == counts[1]
    assert counts[0][1] > 0
    own = tmp_path / "hashed"
    assert files_with(own, PERSON, KEY, *NAMES, *(agent.id for agent in AGENTS)) == set()
    assert "agent_id_label" not in columns(hashed)
    expected = FieldPolicy(hashed=frozenset({"contactpoint"}), key=KEY).digest(PERSON)
    found = hashed.build_warehouse().query(
        'SELECT DISTINCT "Contact_Point" AS c FROM dixa_records.ratings'
    )
    assert [*found.c] == [expected]


def _ids() -> tuple[str, ...]:
    return AGENTS[1].id, AGENTS[2].id


@pytest.mark.usefixtures("person")
def test_old_days_are_removed_and_cannot_be_loaded_again(
    simulator: Simulator, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    analytics = component(simulator, tmp_path)
    assert load(analytics, [RATINGS, CSAT], DAY, "2025-11-03", instance=instance).success
    days = (today_in_copenhagen() - date(2025, 11, 3)).days
    keeping = component(simulator, tmp_path, keep_days=days)
    last = load(keeping, [RATINGS, CSAT], "2025-11-03", instance=instance)
    assert last.success
    query = keeping.build_warehouse().query
    kept = query("SELECT DISTINCT partition_date::VARCHAR AS d FROM dixa_records.ratings")
    assert [*kept.d] == ["2025-11-03"]
    assert query("SELECT count(*) AS n FROM dixa_metrics.csat").n[0] == 3
    results = {
        (each.asset_key.to_user_string(), each.check_name): each
        for each in last.get_asset_check_evaluations()
    }
    assert "days from 2025-11-03 to" in str(results[RATINGS, "completeness"].description)
    assert "days from 2025-11-01 to" in str(results[CSAT, "completeness"].description)
    assert results[CSAT, "reconciliation"].passed
    refused = load(keeping, [RATINGS], DAY, instance=instance)
    assert not refused.success
    message = failure_of(refused, "dixa_records__ratings")
    assert f"keep_days: rows of records are kept for {days} days" in message
    assert DAY in message
    assert query("SELECT count(*) AS n FROM dixa_records.ratings").n[0] == len(
        query("FROM dixa_records.ratings WHERE partition_date = '2025-11-03'")
    )


def test_the_table_of_fields_says_what_is_stored(
    simulator: Simulator, tmp_path: Path, key: str
) -> None:
    analytics = component(
        simulator,
        tmp_path,
        exclude_fields={"ratings": ["queue_id"]},
        hash_fields={"ratings": ["agent_id"]},
        only_fields={"closed_conversations": ["closed_at"]},
    )
    assert load(analytics, CATALOGUE).success
    found = analytics.build_warehouse().query(
        "SELECT id || '.' || field AS name, treatment, looks_personal FROM dixa_catalogue.fields"
    )
    told = dict(
        zip(found.name, zip(found.treatment, found.looks_personal, strict=True), strict=True)
    )
    assert told["ratings.queue_id"] == ("excluded", False)
    assert told["ratings.agent_id"] == ("hashed", False)
    assert told["ratings.conversation_id"] == ("stored", False)
    assert {told[name][0] for name in told if name.startswith("closed_conv")} == {
        "stored",
        "not allowed",
    }


# The commands


@pytest.fixture
def project(command: Callable[..., Done], tmp_path: Path) -> Callable[..., Done]:
    """Runs a command on the database `test.duckdb` with a read copy and a report."""

    def run(*arguments: str, attributes: str = "", **settings: str) -> Done:
        places = {
            "duckdb_path": tmp_path / "test.duckdb",
            "read_copy_path": tmp_path / "read.duckdb",
        }
        own = "".join(f"  {name}: '{path}'\n" for name, path in places.items())
        own += "  base_url: \"{{ env('DIXA_BASE_URL') }}\"\n"
        shutil.rmtree(tmp_path / re.sub(r"\W", "_", tmp_path.name), ignore_errors=True)
        write_project(tmp_path, dixa=f"attributes:\n{own}{attributes}")
        return command(*arguments, **settings)

    return run


def test_forget_shows_asks_blanks_and_publishes_again(
    project: Callable[..., Done],
    simulator: Simulator,
    person: None,
    tmp_path: Path,
    key: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    analytics = component(simulator, tmp_path, read_copy_path=str(tmp_path / "read.duckdb"))
    keys = [RATINGS, CSAT, "dixa_filters/agent_id"]
    assert load(analytics, keys, DAY, NEXT).success
    assert load(analytics, ["dixa/read_copy", "dixa/report"]).success
    rows = analytics.build_warehouse().query("SELECT count(*) AS n FROM dixa_records.ratings").n[0]
    assert files_with(tmp_path, PERSON) == {"test.duckdb", "read.duckdb"}

    before = (tmp_path / "test.duckdb").read_bytes()
    shown = project("forget", f" {PERSON.upper()} ", "--dry-run", DIXA_HASH_KEY=key)
    assert (tmp_path / "test.duckdb").read_bytes() == before
    assert shown.code == 0
    assert f"dixa_records.ratings.Contact_Point: {rows} rows on 2 days" in shown.out
    assert f"dixa_records.ratings.odd: {rows} rows on 2 days" in shown.out
    assert SECRET not in shown.out
    monkeypatch.setattr("builtins.input", lambda _: "n")
    assert "Nothing was changed" in project("forget", PERSON, DIXA_HASH_KEY=key).out
    assert files_with(tmp_path, PERSON) == {"test.duckdb", "read.duckdb"}

    done = project("forget", PERSON, "--yes", DIXA_HASH_KEY=key)
    assert done.code == 0, done.err
    assert files_with(tmp_path, PERSON, "Jane Q. Doe", KEY) == set()
    query = analytics.build_warehouse().query
    left = query(
        "SELECT count(*) AS n, count(phone) AS p, count(remark) AS r FROM dixa_records.ratings"
    )
    assert (left.n[0], left.p[0], left.r[0]) == (rows, 0, rows)
    erasures = query("SELECT table_name, rows FROM dixa_catalogue.erasures")
    assert erasures.values.tolist() == [["dixa_records.ratings", rows]]

    again = load(component(simulator, tmp_path), keys, DAY, NEXT)
    assert again.success
    assert files_with(tmp_path, PERSON) == set()
    assert all(
        each.passed
        for each in again.get_asset_check_evaluations()
        if each.check_name == "reconciliation"
    )


def test_forget_without_a_key_or_a_value_is_refused(project: Callable[..., Done]) -> None:
    found = project("forget", PERSON, "--yes")
    assert found.code == 1
    assert "✗ DIXA_HASH_KEY: is not set" in found.err
    assert "name one or more values" in project("forget").err
    assert "a value is empty" in project("forget", " ", DIXA_HASH_KEY=KEY).err


@pytest.mark.usefixtures("person")
def test_the_doctor_names_fields_that_are_still_stored_and_the_command_removes_them(
    project: Callable[..., Done], simulator: Simulator, tmp_path: Path
) -> None:
    analytics = component(simulator, tmp_path)
    assert load(analytics, [RATINGS], DAY).success
    assert load(analytics, CATALOGUE).success
    attributes = "  exclude_fields: {'*': [contactpoint]}\n"
    found = project("doctor", attributes=attributes)
    assert "dixa_records/ratings: removed column Contact_Point (excluded)" in found.out
    assert "python -m dixa_assets forget --excluded" in found.out
    removed = project("forget", "--excluded", attributes=attributes)
    assert removed.code == 0, removed.err
    assert "Contact_Point" not in columns(analytics)
    assert b"Jane Q. Doe" not in (tmp_path / "test.duckdb").read_bytes()
    assert "removed column" not in project("doctor", attributes=attributes).out


# Modes


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_files_and_folders_are_private_whatever_the_umask_is(
    simulator: Simulator, tmp_path: Path, umask: int
) -> None:
    before = os.umask(umask)
    try:
        folder = tmp_path / "new" / "data"
        copy = folder / "copies" / "read.duckdb"
        analytics = component(
            simulator,
            tmp_path,
            duckdb_path=str(folder / "dixa.duckdb"),
            read_copy_path=str(copy),
            parquet_path=str(folder / "parquet"),
            dbt_path=str(folder / "models" / "dixa"),
        )
        published = ["dixa/read_copy", "dixa/report", "dixa/parquet", "dixa/dbt_sources"]
        assert load(analytics, [RATINGS], DAY).success
        assert load(analytics, published).success
        modes = {
            path.relative_to(tmp_path).as_posix(): stat.S_IMODE(path.stat().st_mode)
            for path in (tmp_path / "new").rglob("*")
        }
        assert {mode for path, mode in modes.items() if (tmp_path / path).is_dir()} == {0o700}
        assert {mode for path, mode in modes.items() if (tmp_path / path).is_file()} == {0o600}
        # A chosen mode is kept.
        copy.chmod(0o640)
        analytics.report_file.chmod(0o644) if analytics.report_file else None
        assert load(analytics, published).success
        assert stat.S_IMODE(copy.stat().st_mode) == 0o640
        assert analytics.report_file
        assert stat.S_IMODE(analytics.report_file.stat().st_mode) == 0o644
    finally:
        os.umask(before)


def test_the_doctor_names_files_that_others_can_read(
    project: Callable[..., Done], tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("")
    (tmp_path / ".env").chmod(0o644)
    assert "! .env: other users may have access (mode 644)" in project("doctor").out
    (tmp_path / ".env").chmod(0o600)
    assert ".env" not in project("doctor").out
