"""Databases that hold chosen days of the simulator's records, and their marts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import httpx

from dixa_assets.load.loader import Task
from dixa_assets.marts.builder import Marts
from dixa_assets.marts.files import read_marts
from dixa_assets.model.catalogue import Catalogue
from dixa_assets.model.days import Day
from dixa_assets.model.privacy import STORE_ALL, FieldPolicy, normalised
from dixa_assets.model.tables import MARTS, filter_relation
from dixa_assets.simulator.world import World
from dixa_assets.warehouse.settings import WarehouseSettings
from dixa_assets.warehouse.warehouse import Warehouse
from dixa_assets_tests.support.loading import loader_for
from dixa_assets_tests.support.simulator import KEY, Simulator
from dixa_assets_tests.support.staged import spec_of

MART_KEYS = [*(f"{MARTS}/{mart.name}" for mart in read_marts()), f"{MARTS}/missing"]
LISTS = ("agent_id", "queue_id", "tag_id")


@dataclass(frozen=True)
class Account:
    """A simulator, and the events that it has."""

    simulator: Simulator
    world: World

    def lists(self) -> dict[str, dict[str, str]]:
        """The values of filters as the API lists them: names by id, by attribute."""
        headers = {"Authorization": KEY}
        lists = {}
        for attribute in LISTS:
            url = f"{self.simulator.url}/v1/analytics/filter/{attribute}?pageLimit=300"
            values = httpx.get(url, headers=headers).json()["data"]
            lists[attribute] = {each["value"]: each["label"] for each in values}
        return lists


def filled(
    account: Account,
    folder: Path,
    zone: str,
    loaded: Mapping[str, Sequence[date]],
    *,
    has_lists: bool = True,
    week_starts_on: str = "monday",
    excluded: Mapping[str, frozenset[str]] | None = None,
) -> tuple[Warehouse, Marts]:
    """A database with these days of records, and its marts."""
    warehouse = Warehouse(folder / "test.duckdb", WarehouseSettings(timezone=zone))
    policies = {
        name: FieldPolicy(frozenset(map(normalised, fields)))
        for name, fields in (excluded or {}).items()
    }
    specs = {
        name: spec_of("record", name, zone, policy=policies.get(name, STORE_ALL)) for name in loaded
    }
    with loader_for(account.simulator.url, warehouse, threads=4) as loader:
        for name, spec in specs.items():
            days = [Day.of(day, zone) for day in loaded[name]]
            assert len([*loader.load(Task(spec, days), run_id="a-run")]) == len(days)
        for attribute in LISTS if has_lists else ():
            relation = filter_relation(attribute, attribute)
            loader.load_filter_values(attribute, relation, run_id="a-run")
    catalogue = Catalogue(
        tuple(spec.entry for spec in specs.values()),
        filter_names={name: name for name in LISTS} if has_lists else {},
    )
    marts = Marts.of(catalogue, lambda _: True, week_starts_on=week_starts_on)
    assert marts.make(warehouse) == {}
    return warehouse, marts
