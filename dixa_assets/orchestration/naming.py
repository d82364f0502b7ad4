"""Names of assets, sensors and other definitions, per account and after translation."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import dagster as dg

from dixa_assets.errors import ConfigError
from dixa_assets.model.catalogue import Entry


@dataclass(frozen=True, slots=True)
class Names:
    """The names that an account uses in Dagster; plain names without an account."""

    account: str = ""

    def __post_init__(self) -> None:
        if self.account and not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", self.account):
            raise ConfigError(
                "account",
                f"'{self.account}' cannot be part of names. Use letters, digits and '_', and begin "
                "with a letter.",
            )

    def of(self, name: str) -> str:
        """The name of a sensor, schedule, job, resource or group."""
        return f"{self.account}_{name}" if self.account else name

    def key(self, schema: str, name: str) -> dg.AssetKey:
        """The asset key of a table or view, before any translation."""
        return dg.AssetKey([self.account, schema, name] if self.account else [schema, name])


@dataclass(frozen=True, slots=True)
class DixaAsset:
    """An asset before translation.

    `schema` and `name` belong to its table or view; `entry` is its metric or record, if any.
    """

    schema: str
    name: str
    spec: dg.AssetSpec
    entry: Entry | None = None

    @property
    def id(self) -> str:
        """Dixa's id of a metric or record; the name of any other asset."""
        return self.entry.id if self.entry else self.name


Translate = Callable[[DixaAsset], dg.AssetSpec]


class Specs:
    """The translated specs of assets, by schema and name, with translated references."""

    def __init__(self, assets: Iterable[DixaAsset], translate: Translate) -> None:
        pairs = [(asset, translate(asset)) for asset in assets]
        keys = {one.spec.key: new.key for one, new in pairs if one.spec.key != new.key}
        self._specs = {
            (one.schema, one.name): _with_new_keys(new, keys) if keys else new for one, new in pairs
        }

    def __getitem__(self, table: tuple[str, str]) -> dg.AssetSpec:
        return self._specs[table]

    def __iter__(self) -> Iterator[dg.AssetSpec]:
        return iter(self._specs.values())

    def key(self, schema: str, name: str) -> dg.AssetKey:
        """The asset key of a table or view, after translation."""
        return self._specs[schema, name].key


def _with_new_keys(spec: dg.AssetSpec, keys: dict[dg.AssetKey, dg.AssetKey]) -> dg.AssetSpec:
    """A spec whose dependencies and links use the translated keys."""
    return spec.replace_attributes(
        deps=[
            dg.AssetDep(
                keys.get(dep.asset_key, dep.asset_key), partition_mapping=dep.partition_mapping
            )
            for dep in spec.deps
        ],
        metadata={
            name: dg.MetadataValue.asset(keys.get(value.asset_key, value.asset_key))
            if isinstance(value, dg.DagsterAssetMetadataValue)
            else value
            for name, value in spec.metadata.items()
        },
    )
