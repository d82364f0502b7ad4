"""What assets, sensors and the like are called: each account's own, as the user translates them."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import dagster as dg

from dixa_assets.errors import ConfigError
from dixa_assets.model.catalogue import Entry


@dataclass(frozen=True, slots=True)
class Names:
    """The names of an account's things in Dagster; without an account, the plain ones."""

    account: str = ""

    def __post_init__(self) -> None:
        if self.account and not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", self.account):
            raise ConfigError(
                "account",
                f"'{self.account}' cannot be part of names. Take letters, digits and '_', "
                "beginning with a letter.",
            )

    def of(self, name: str) -> str:
        """A sensor's, schedule's, job's, resource's or group's name."""
        return f"{self.account}_{name}" if self.account else name

    def key(self, schema: str, name: str) -> dg.AssetKey:
        """The asset key of a table or view, before any translation."""
        return dg.AssetKey([self.account, schema, name] if self.account else [schema, name])


@dataclass(frozen=True, slots=True)
class DixaAsset:
    """An asset as this project describes it, for users to translate.

    `schema` and `name` are those of its table or view, `entry` is its metric or record, if any.
    """

    schema: str
    name: str
    spec: dg.AssetSpec
    entry: Entry | None = None

    @property
    def id(self) -> str:
        """Dixa's id of the metric or record; the name of anything else."""
        return self.entry.id if self.entry else self.name


Translate = Callable[[DixaAsset], dg.AssetSpec]


class Specs:
    """The translated specs of assets, by schema and name; they refer to each other's new keys."""

    def __init__(self, assets: Iterable[DixaAsset], translate: Translate) -> None:
        assets = list(assets)
        translated = [translate(asset) for asset in assets]
        keys = {one.spec.key: new.key for one, new in zip(assets, translated, strict=True)}
        self._specs = {
            (one.schema, one.name): _following(new, keys)
            for one, new in zip(assets, translated, strict=True)
        }

    def __getitem__(self, table: tuple[str, str]) -> dg.AssetSpec:
        return self._specs[table]

    def key(self, schema: str, name: str) -> dg.AssetKey:
        """The asset key of a table or view."""
        return self._specs[schema, name].key


def _following(spec: dg.AssetSpec, keys: dict[dg.AssetKey, dg.AssetKey]) -> dg.AssetSpec:
    """A spec whose dependencies and links are those of the new keys."""
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
