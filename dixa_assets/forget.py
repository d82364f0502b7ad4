"""`python -m dixa_assets forget`: remove customers' data from the database of an account."""

from collections.abc import Sequence

from dixa_assets.component import DixaAnalytics
from dixa_assets.errors import ConfigError
from dixa_assets.model.catalogue import Catalogue
from dixa_assets.model.options import HASH_KEY
from dixa_assets.model.privacy import FieldPolicy
from dixa_assets.model.tables import filter_relation
from dixa_assets.project import known_catalogue
from dixa_assets.warehouse import removal
from dixa_assets.warehouse.forget import Place, forget_value
from dixa_assets.warehouse.privacy import claim_key
from dixa_assets.warehouse.warehouse import Warehouse


def forget(component: DixaAnalytics, values: Sequence[str], yes: bool, dry_run: bool) -> bool:
    """Show where values stand, ask, and blank them. Return whether the database changed.

    Raises:
        ConfigError: There is no key for the digests, or a value is empty.
    """
    policy = component.options(Catalogue()).policy()
    if not policy.key:
        raise ConfigError(
            HASH_KEY,
            "is not set. A keyed digest of each value is kept, so that later loads blank it again. "
            "Put a long random text into .env, such as the output of `openssl rand -hex 32`.",
        )
    if not all(map(str.strip, values)):
        raise ConfigError("forget", "a value is empty.")
    warehouse = component.build_warehouse()
    places = _forget(warehouse, values, policy, dry_run=True)
    for place in places:
        print(f"  {place.table}.{place.column}: {place.rows:,} rows on {place.days:,} days")
    if not places:
        print("  no table has a value equal to it")
    if dry_run:
        return False
    print(
        "These values, and the personal fields of their rows, are blanked for good. Later loads "
        "blank the values again."
    )
    if not yes and input("Continue? [y/N] ").strip().lower() not in ("y", "yes"):
        print("Nothing was changed.")
        return False
    _forget(warehouse, values, policy, dry_run=False)
    # Rows that a killed load has left on disk.
    with warehouse.staging():
        warehouse.overwrite_removed()
    print(f"✓ {warehouse.name}: {len(values)} values forgotten; see dixa_catalogue.erasures")
    return True


def _forget(
    warehouse: Warehouse, values: Sequence[str], policy: FieldPolicy, *, dry_run: bool
) -> list[Place]:
    with warehouse.changing(dry_run=dry_run) as connection:
        if not dry_run:
            claim_key(connection, policy)
        return [
            place
            for value in values
            for place in forget_value(connection, value, policy, dry_run=dry_run)
        ]


def remove_left_out(component: DixaAnalytics, *, dry_run: bool) -> bool:
    """Remove what the settings leave out from all days. Return whether the database changed."""
    warehouse = component.build_warehouse()
    found = left_out_values(component, warehouse, remove=not dry_run)
    for line in found:
        print(f"  {line}")
    if not found or dry_run:
        return False
    warehouse.overwrite_removed()
    print(f"✓ {warehouse.name}: nothing is left of these")
    return True


def left_out_values(
    component: DixaAnalytics, warehouse: Warehouse, *, remove: bool = False
) -> list[str]:
    """Name the stored values that the settings leave out, by table, and remove them if asked."""
    catalogue = known_catalogue(component, warehouse)
    options = component.options(catalogue)
    relations = [options.spec(entry).relation for entry in catalogue.entries]
    relations += [
        filter_relation(*each, options.policy()) for each in catalogue.filter_names.items()
    ]
    loaded = warehouse.inventory().loads
    return [
        f"{relation.key}: {change}"
        for relation in relations
        if relation.key in loaded
        for change in removal.remove_left_out_values(warehouse, relation, dry_run=not remove)
    ]
