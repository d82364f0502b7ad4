"""Loads keep customers' data out, hash them, and do not bring back what was forgotten."""

import json
import random
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import date
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dixa_assets.errors import ConfigError, WarehouseError
from dixa_assets.model.days import Day, days_from
from dixa_assets.model.options import LoadSettings, Options
from dixa_assets.model.privacy import folded
from dixa_assets.model.tables import filter_relation
from dixa_assets.warehouse import removal
from dixa_assets.warehouse.forget import Place, forget_value
from dixa_assets.warehouse.privacy import claim_key
from dixa_assets.warehouse.warehouse import Warehouse
from dixa_assets_tests.support.handmade import selected
from dixa_assets_tests.support.loading import load_days, loader_for
from dixa_assets_tests.support.people import METRIC, RECORD, People, files_with, text
from dixa_assets_tests.support.processes import child
from dixa_assets_tests.support.serve import serve
from dixa_assets_tests.support.services import new_database, open_database
from dixa_assets_tests.support.simulator import COPENHAGEN

DAYS = days_from(date(2025, 1, 4), 3, COPENHAGEN)
EMAIL, NAME, AGENT, COMMENT = "jane.doe@example.com", "Jane Q. Doe", "Ann Agent", "never again"
ROWS = [
    {"contact_point": text(EMAIL, NAME), "agent_id": text("agent-1", AGENT), "comment": text("ok")},
    {"contact_point": text("bob@example.com", "Bob"), "agent_id": text("agent-2", "Abe Agent")},
]


def options(**chosen: Any) -> Options:
    return Options(LoadSettings(**chosen), hash_key="a key")


def load(
    warehouse: Warehouse,
    vendor: People,
    chosen: Options,
    days: Sequence[Day] = DAYS,
) -> list[str]:
    """Load the record; the changes of its table."""
    with serve(vendor.answer) as server:
        loaded = load_days(server.url, warehouse, chosen.spec(RECORD), days)
    return [change for day in loaded for change in day.schema_changes]


def forget(warehouse: Warehouse, *values: str) -> list[Place]:
    """Forget values as the command does."""
    policy = options().policy()
    with warehouse.changing() as connection:
        claim_key(connection, policy)
        found = [each for value in values for each in forget_value(connection, value, policy)]
    warehouse.overwrite_removed()
    return found


def columns(warehouse: Warehouse) -> list[str]:
    found = warehouse.query("SELECT * FROM dixa_records.calls")
    own = ("partition_date", "primary_timestamp", "primary_timestamp_field", "loaded_at", "run_id")
    return [name for name in found.columns if name not in own]


def everything(warehouse: Warehouse) -> str:
    """Every row of every table, as JSON."""
    with warehouse.reading() as query:
        tables = query(
            "SELECT schema_name, table_name FROM duckdb_tables() "
            "WHERE database_name = current_database() AND starts_with(schema_name, 'dixa')"
        )
        return json.dumps(
            [query(f"FROM {row.schema_name}.{row.table_name}") for row in tables], default=str
        )


# Fields that are left out


def test_a_field_excluded_later_leaves_all_days_with_the_next_load(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    load(warehouse, People(ROWS), options())
    assert {"contact_point", "contact_point_label"} <= {*columns(warehouse)}
    assert files_with(tmp_path, EMAIL)
    changes = load(
        warehouse, People(ROWS), options(exclude_fields={"*": ["ContactPoint"]}), DAYS[-1:]
    )
    assert changes == [
        "removed column contact_point (excluded)",
        "removed column contact_point_label (excluded)",
    ]
    log = selected(
        warehouse,
        "SELECT partition_date::VARCHAR, schema_changes::VARCHAR FROM dixa_catalogue.loads "
        "WHERE schema_changes::VARCHAR LIKE '%removed%'",
    )
    assert [(day, json.loads(text)) for day, text in log] == [(str(DAYS[-1]), changes)]
    assert not any("contact" in name for name in columns(warehouse))
    assert files_with(tmp_path, EMAIL, NAME, "bob@example.com") == set()
    counted = warehouse.query("SELECT count(*) AS rows FROM dixa_records.calls")
    assert counted.rows[0] == len(ROWS) * len(DAYS)


def test_the_command_removes_a_field_without_a_load(warehouse: Warehouse, tmp_path: Path) -> None:
    load(warehouse, People(ROWS), options())
    relation = options(only_fields={"calls": ["agent_id"]}).spec(RECORD).relation
    held = removal.remove_left_out_values(warehouse, relation, dry_run=True)
    assert "removed column contact_point (not allowed)" in held
    assert files_with(tmp_path, EMAIL)
    assert removal.remove_left_out_values(warehouse, relation) == held
    assert removal.remove_left_out_values(warehouse, relation) == []
    warehouse.overwrite_removed()
    assert sorted(columns(warehouse)) == ["agent_id", "agent_id_label"]
    assert files_with(tmp_path, EMAIL, NAME) == set()
    assert "removed column contact_point (not allowed)" in everything(warehouse)


def test_fields_that_are_not_allowed_are_found_by_their_names_only(warehouse: Warehouse) -> None:
    load(warehouse, People(ROWS), options(only_fields={"*": ["agent_id"]}))
    assert sorted(columns(warehouse)) == ["agent_id", "agent_id_label"]
    types, fields = warehouse.findings()
    assert types == set()
    assert fields["calls"] >= {"comment", "contact_point"}


# Digests


def test_a_hashed_field_has_digests_on_all_days_and_no_label(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    chosen = options(hash_fields={"*": ["contact_point", "agent_id"]})
    load(warehouse, People(ROWS), chosen)
    assert sorted(columns(warehouse)) == ["agent_id", "comment", "contact_point"]
    digest = chosen.policy().digest
    found = selected(warehouse, "SELECT DISTINCT contact_point, agent_id FROM dixa_records.calls")
    assert sorted(found) == sorted(
        (digest(row["contact_point"]["value"]), digest(row["agent_id"]["value"])) for row in ROWS
    )
    assert files_with(tmp_path, EMAIL, NAME, AGENT, "agent-1", "a key") == set()


def test_a_field_hashed_later_keeps_no_plain_value(warehouse: Warehouse, tmp_path: Path) -> None:
    load(warehouse, People(ROWS), options())
    changes = load(warehouse, People(ROWS), options(hash_fields={"*": ["agent_id"]}), DAYS[-1:])
    assert changes == [
        "removed column agent_id (hashed)",
        "removed column agent_id_label (hashed)",
        "new column agent_id (VARCHAR)",
    ]
    assert files_with(tmp_path, "agent-1", AGENT) == set()
    rows = selected(
        warehouse, "SELECT count(agent_id), count(DISTINCT agent_id) FROM dixa_records.calls"
    )
    assert rows == [(2, 2)]


def test_filters_and_breakdowns_of_a_hashed_attribute_work(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    chosen = options(
        hash_fields={"*": ["agent_id"]},
        breakdowns={"calls": ["agent_id"]},
        filters={"calls": {"agent_id": ["agent-1"]}},
    )
    vendor = People(ROWS, {"agent-1": AGENT, "agent-2": "Abe Agent"})
    with serve(vendor.answer) as server:
        load_days(server.url, warehouse, chosen.spec(METRIC), DAYS)
        with loader_for(server.url, warehouse) as loader:
            table = filter_relation("agent_id", "agent_id", chosen.policy())
            loader.load_filter_values("agent_id", table, run_id="a-run")
    digest = chosen.policy().digest
    assert selected(warehouse, "SELECT value FROM dixa_filters.agent_id ORDER BY 1") == sorted(
        [(digest("agent-1"),), (digest("agent-2"),)]
    )
    broken_down = selected(
        warehouse,
        "SELECT DISTINCT breakdown_value FROM dixa_metrics.calls "
        "WHERE breakdown_value IS NOT NULL AND breakdown_label IS NULL",
    )
    assert broken_down == [(digest("agent-1"),)]
    (filters,) = warehouse.query(
        "SELECT DISTINCT filters FROM dixa_catalogue.loads WHERE partition_date IS NOT NULL"
    ).filters
    assert json.loads(filters) == {"agent_id": [digest("agent-1")]}
    assert files_with(tmp_path, AGENT, "agent-1") == set()


def test_another_key_or_none_is_refused_and_nothing_changes(warehouse: Warehouse) -> None:
    chosen = options(hash_fields={"*": ["agent_id"]})
    load(warehouse, People(ROWS), chosen)
    before = everything(warehouse)
    for key in ("another key", ""):
        with pytest.raises(ConfigError, match="^DIXA_HASH_KEY: "):
            load(warehouse, People(ROWS), replace(chosen, hash_key=key))
    assert everything(warehouse) == before


# Days that are too old


def test_days_that_are_too_old_lose_their_rows_and_are_marked(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    load(warehouse, People(ROWS), options())
    with serve(People(ROWS).answer) as server:
        load_days(server.url, warehouse, options().spec(METRIC), DAYS)
    assert removal.remove_days(warehouse, DAYS[-1].date) == len(DAYS) - 1
    assert removal.remove_days(warehouse, DAYS[-1].date) == 0
    kept = "SELECT DISTINCT partition_date::VARCHAR FROM dixa_records.calls"
    assert selected(warehouse, kept) == [(str(DAYS[-1]),)]
    marked = selected(
        warehouse,
        "SELECT asset_key, partition_date::VARCHAR FROM dixa_catalogue.loads "
        "WHERE removed_at IS NOT NULL ORDER BY ALL",
    )
    assert marked == [("dixa_records/calls", str(day)) for day in DAYS[:-1]]
    metric = warehouse.query("SELECT count(*) AS days FROM dixa_metrics.calls")
    assert metric.days[0] == len(DAYS)


def test_a_field_with_lists_of_labels_can_have_a_single_label_too(warehouse: Warehouse) -> None:
    several = {"_type": "ListField", "values": [text("agent-1", AGENT), text("agent-2", "Abe")]}
    rows = [{"agent_id": each} for each in (several, text("agent-3"), text("agent-1", AGENT))]

    load(warehouse, People(rows), options(), DAYS[:1])

    labels = selected(
        warehouse, "SELECT agent_id_label::VARCHAR FROM dixa_records.calls ORDER BY ALL"
    )
    assert [label for (label,) in labels][:2] == [f'"{AGENT}"', f'["{AGENT}","Abe"]']


# Forgotten people

words = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=6, max_size=12)
spellings = st.sampled_from([str, str.upper, str.title, lambda word: f"  {word}\n"])
field_names = st.sampled_from(["contact_point", "comment", "agent_id", "odd", "customerName", "x"])
filler = st.none() | st.integers(0, 9) | st.just("other")


def around(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)


@st.composite
def rows_with(draw: st.DrawFn, person: str) -> list[Mapping[str, Any]]:
    """Rows in which a person stands in values, labels, lists, nested values and keys."""

    def written() -> str:
        return str(draw(spellings)(person))

    def typed() -> Any:
        kind = draw(st.integers(0, 4))
        if kind == 0:
            return text(written(), draw(st.none() | st.just("a label")))
        if kind == 1:
            return text("other", written())
        if kind == 2:
            return {"_type": "ListField", "values": [text("other"), text(written(), "l")]}
        if kind == 3:
            return {"_type": "ListField", "values": [text("other", written()), text("x")]}
        content = draw(st.recursive(filler | st.just(written()), around, max_leaves=6))
        return {"_type": "NewField", "value": [content, {written(): 1}]}

    some = [{name: typed() for name in draw(st.sets(field_names, min_size=1))} for _ in range(3)]
    return [*some, {"contact_point": text("bob@example.com"), "comment": text("untouched")}]


@pytest.mark.slow
@pytest.mark.services
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_forgotten_person_is_nowhere_and_no_reload_brings_them_back(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("person")
    with new_database(folder, is_lake=pytestconfig.getoption("lake")) as where:
        forget_a_random_person(open_database(where), folder, data)


def forget_a_random_person(warehouse: Warehouse, folder: Path, data: st.DataObject) -> None:
    person = "qz" + data.draw(words)
    vendor = People(data.draw(rows_with(person)), {"agent-1": f" {person.upper()}", "a2": "Abe"})
    table = filter_relation("agent_id", "agent_id", options().policy())

    def load_all() -> None:
        load(warehouse, vendor, options())
        chosen = options(breakdowns={"calls": ["agent_id"]})
        with serve(vendor.answer) as server:
            load_days(server.url, warehouse, chosen.spec(METRIC), DAYS)
            with loader_for(server.url, warehouse) as loader:
                loader.load_filter_values("agent_id", table, run_id="a-run")

    load_all()
    assert person.casefold() in folded(everything(warehouse))
    forget(warehouse, person.swapcase())
    assert person.casefold() not in folded(everything(warehouse))
    assert files_with(folder, person) == set()
    load_all()
    assert person.casefold() not in folded(everything(warehouse))
    assert files_with(folder, person) == set()
    counts = selected(
        warehouse,
        "SELECT (SELECT count(*) FROM dixa_records.calls), (SELECT sum(value)::BIGINT "
        "FROM dixa_metrics.calls WHERE breakdown_attribute IS NULL)",
    )
    assert counts == [(len(vendor.rows) * len(DAYS),) * 2]
    untouched = selected(
        warehouse,
        "SELECT count(*) FROM dixa_records.calls WHERE CAST(comment AS VARCHAR) LIKE '%untouched%'",
    )
    assert untouched == [(len(DAYS),)]


def test_personal_fields_of_a_persons_rows_are_blanked_too(warehouse: Warehouse) -> None:
    rows = [
        {
            "contact_point": text(EMAIL, NAME),
            "comment": text(COMMENT),
            "phone": {"_type": "LongField", "value": 4512345678},
            "agent_id": text("agent-1", AGENT),
        },
        {"contact_point": text("bob@example.com"), "comment": text("fine")},
    ]
    load(warehouse, People(rows), options())
    shown = (
        "SELECT DISTINCT coalesce(contact_point, '-'), coalesce(contact_point_label, '-'), "
        "coalesce(comment, '-'), coalesce(phone, 0), coalesce(agent_id_label, '-') "
        "FROM dixa_records.calls ORDER BY ALL"
    )
    blank = [("-", "-", "-", 0, AGENT), ("bob@example.com", "-", "fine", 0, "-")]
    (place,) = forget(warehouse, "4512345678")
    assert place == Place("dixa_records.calls", "phone", len(DAYS), len(DAYS))
    assert selected(warehouse, shown) == blank
    load(warehouse, People(rows), options())
    assert selected(warehouse, shown) == blank
    erasures = selected(warehouse, "SELECT table_name, rows FROM dixa_catalogue.erasures")
    assert erasures == [("dixa_records.calls", len(DAYS))]


def test_a_value_that_no_table_has_is_kept_out_of_later_loads(warehouse: Warehouse) -> None:
    assert forget(warehouse, EMAIL) == []
    load(warehouse, People(ROWS), options())
    assert EMAIL not in everything(warehouse)
    with pytest.raises(ConfigError, match="DIXA_HASH_KEY: is not set"):
        load(warehouse, People(ROWS), replace(options(), hash_key=""))


def test_a_value_forgotten_during_a_load_is_not_written(warehouse: Warehouse) -> None:
    load(warehouse, People(ROWS), options())
    requests = []

    def forget_once() -> None:
        requests.append(len(requests))
        if len(requests) == 2:
            forget(warehouse, EMAIL)

    load(warehouse, People(ROWS, before_answer=forget_once), options())
    assert len(requests) > len(DAYS)
    found = everything(warehouse)
    assert EMAIL not in found
    assert "bob@example.com" in found


# Kills

KILLS = 8


def forget_in_process(where: Mapping[str, str], pipe: Connection) -> None:
    warehouse = open_database(where)
    pipe.send("ready")
    forget(warehouse, EMAIL)


def remove_in_process(where: Mapping[str, str], pipe: Connection) -> None:
    warehouse = open_database(where)
    relation = options(exclude_fields={"*": ["contact_point"]}).spec(RECORD).relation
    pipe.send("ready")
    removal.remove_left_out_values(warehouse, relation)
    warehouse.overwrite_removed()


@pytest.mark.slow
@pytest.mark.services
@pytest.mark.parametrize("target", [forget_in_process, remove_in_process])
def test_a_kill_leaves_the_state_before_or_after(
    target: Any, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    rng = random.Random(1)
    is_lake = pytestconfig.getoption("lake")
    outcomes = set()
    # On a lake it takes longer: the process attaches it first.
    latest = 1.5 if is_lake else 0.25
    for number in range(KILLS + 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        with new_database(folder, is_lake=is_lake) as where:
            warehouse = open_database(where)
            load(warehouse, People(ROWS * 8), options())
            with child(target, where) as (process, pipe):
                assert pipe.recv() == "ready"
                # Process 0 is not killed. Each other one is, in its own share of the time.
                process.join((number - rng.random()) * latest / KILLS if number else None)
                with suppress(ProcessLookupError):
                    process.kill()
                process.join()
                killed = process.exitcode == -signal.SIGKILL
            rows = warehouse.query("SELECT * FROM dixa_records.calls")
            assert len(rows) == len(DAYS) * 8 * len(ROWS)
            left = int((rows.get("contact_point") == EMAIL).sum()) if "contact_point" in rows else 0
            assert left in (0, len(DAYS) * 8), (number, left)
            assert ("contact_point" in rows) == ("contact_point_label" in rows)
            outcomes.add((killed, left == 0))
            # The next run overwrites what a killed one has left.
            if left == 0:
                chosen = options(exclude_fields={"*": ["contact_point"]})
                load(warehouse, People([]), chosen if target is remove_in_process else options())
                assert files_with(folder, EMAIL) == set()
    assert (False, True) in outcomes
    assert (True, False) in outcomes


def load_in_process(where: Mapping[str, str], url: str, pipe: Connection) -> None:
    pipe.send("ready")
    load_days(url, open_database(where), options().spec(RECORD), DAYS)
    pipe.send("loaded")


@pytest.mark.slow
@pytest.mark.services
@pytest.mark.parametrize("attempt", range(4))
def test_a_second_process_that_loads_meanwhile_brings_nobody_back(
    attempt: int, database: dict[str, str], tmp_path: Path
) -> None:
    warehouse = open_database(database)
    with serve(People(ROWS * 8).answer) as server:
        load_days(server.url, warehouse, options().spec(RECORD), DAYS)
        with child(load_in_process, database, server.url) as (_, pipe):
            assert pipe.recv() == "ready"
            forget(warehouse, EMAIL)
            assert pipe.recv() == "loaded"
    assert EMAIL not in everything(open_database(database))
    assert files_with(tmp_path, EMAIL) == set()


@pytest.mark.file
def test_free_blocks_that_cannot_be_overwritten_are_reported(warehouse: Warehouse) -> None:
    load(warehouse, People(ROWS), options())
    with warehouse.changing() as connection:
        # DuckDB inserts all rows at once, and a row may not name another of them.
        connection.execute("CREATE TABLE people (id INT PRIMARY KEY, head INT REFERENCES people)")
        connection.execute("INSERT INTO people VALUES (1, NULL)")
        connection.execute("INSERT INTO people VALUES (2, 1)")
    with pytest.raises(WarehouseError, match="removed values may still be in its free blocks"):
        forget(warehouse, EMAIL)
    assert EMAIL not in everything(warehouse)
    with warehouse.changing() as connection:
        connection.execute("DROP TABLE people")
    # The next load tries again.
    load(warehouse, People(ROWS), options())
    assert not warehouse.query("SELECT holds_removed FROM dixa_catalogue.warehouse").iloc[0, 0]
