"""The files with which a dbt project reads the tables: `sources.yml` and `profiles.yml`.

See https://docs.getdbt.com/docs/build/sources
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import yaml

from dixa_assets.checks.checks import FRESH_FOR, STALE_AFTER
from dixa_assets.files import replace_text
from dixa_assets.model.catalogue import Catalogue
from dixa_assets.model.tables import LAKE_SCHEME, relation_of

PROFILE, LAKE = "dixa", "dixa_lake"
# The first words of both files: a file without them is not replaced.
MARK = "# Written by dixa_assets."
HEADER = f"{MARK} Your changes would be overwritten: use another file for them.\n"


def write_dbt(
    folder: Path,
    specs: Iterable[dg.AssetSpec],
    catalogue: Catalogue,
    database: str,
    *,
    setting: str = "dbt_path",
) -> list[Path]:
    """Write `sources.yml` and `profiles.yml`, and return the files that changed.

    Args:
        folder: The folder of the files.
        specs: The specs of all assets. Assets without a table are left out.
        catalogue: The catalogue, which says where a field always has a value.
        database: The read copy, or the database.
        setting: The setting that names the folder.

    Raises:
        ConfigError: A file cannot be written, or was not written by this project.
    """
    sources: dict[str, list[dict[str, Any]]] = {}
    required = _required_columns(catalogue)
    for spec in sorted(specs, key=lambda each: each.key):
        if table := spec.metadata.get("dagster/table_name"):
            name = getattr(table, "value", table)
            schema = name.partition(".")[0]
            sources.setdefault(schema, []).append(_table(name, spec, required.get(name, ())))
    alias = Path(database).stem if not database.startswith(LAKE_SCHEME) else LAKE
    described = {
        "version": 2,
        "sources": [
            {"name": schema, "database": alias, "schema": schema, "tables": tables}
            for schema, tables in sources.items()
        ],
    }
    attached = {"path": database, "alias": alias, "read_only": True}
    output = {"type": "duckdb", "path": "dbt.duckdb", "attach": [attached]}
    profile = {PROFILE: {"target": "dev", "outputs": {"dev": output}}}
    return [
        path
        for path, content in (
            (folder / "sources.yml", described),
            (folder / "profiles.yml", profile),
        )
        if _replace(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True), setting)
    ]


def _table(name: str, spec: dg.AssetSpec, required: Collection[str]) -> dict[str, Any]:
    table: dict[str, Any] = {"name": name.partition(".")[2]}
    if spec.description:
        table["description"] = _plain(spec.description)
    config: dict[str, Any] = {"meta": {"dagster": {"asset_key": [*spec.key.path]}}}
    described = spec.metadata.get("dagster/column_schema")
    columns = getattr(described, "schema", described or dg.TableSchema([])).columns
    if spec.freshness_policy and any(column.name == "loaded_at" for column in columns):
        config["loaded_at_field"] = "loaded_at"
        config["freshness"] = {
            "warn_after": _hours(FRESH_FOR),
            "error_after": _hours(STALE_AFTER),
        }
    table["config"] = config
    table["columns"] = [
        {"name": column.name}
        | ({"description": _plain(column.description)} if column.description else {})
        | ({"data_type": column.type} if column.type.isupper() else {})
        | ({"data_tests": ["not_null"]} if column.name in required else {})
        for column in columns
    ]
    return table


def _required_columns(catalogue: Catalogue) -> Mapping[str, set[str]]:
    """The columns that always have a value by the catalogue, by table."""
    return {
        f"{entry.schema}.{entry.name}": {
            column.name
            for column in relation_of(entry).table.columns
            if column.field in {item.field for item in entry.fields if not item.nullable}
        }
        for entry in catalogue.entries
    }


def _hours(duration: timedelta) -> dict[str, Any]:
    return {"count": round(duration.total_seconds() / 3600), "period": "hour"}


def _replace(path: Path, text: str, setting: str) -> bool:
    """Replace a file, unless it has this text already."""
    text = HEADER + text
    if path.is_file() and path.read_bytes() == text.encode():
        return False
    replace_text(path, text, marks=(MARK,), setting=setting)
    return True


def _plain(text: str) -> str:
    """A text that dbt does not read as a template."""
    return text.replace("{{", "{ {").replace("{%", "{ %").replace("{#", "{ #")
