"""The same rows through dlt, as its documentation tells its users to load such an API.

dlt is in the extra `bench` alone, so this module is imported where it is there.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dlt
import duckdb
from dlt.sources.rest_api import RESTAPIConfig, rest_api_source

# Nothing else of dlt's settings is touched.
os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"


def load(url: str, query: Mapping[str, Any], key: str, folder: Path) -> None:
    """Load the rows of one query with dlt's own source, paginator and destination.

    A processing step of its source gives dlt rows with a column per field, as ours have; lists
    stay JSON. Without it dlt makes of `fields`, a list of objects, a child table of one row per
    field, and of the tags in it another, which takes it three to four times as long.

    Args:
        url: The server.
        query: The body.
        key: The token.
        folder: For the database and dlt's own files.
    """
    config: RESTAPIConfig = {
        "client": {
            "base_url": f"{url}/v1/analytics/",
            "auth": {
                "type": "api_key",
                "name": "Authorization",
                "api_key": key,
                "location": "header",
            },
        },
        "resources": [
            {
                "name": "bench",
                "processing_steps": [{"map": _flatten}],
                "endpoint": {
                    "path": "records",
                    "method": "POST",
                    "params": {"pageLimit": 300},
                    # Sent again with every page, as this API wants it.
                    "json": dict(query),
                    "data_selector": "data",
                    # It drops pageLimit after the first page; the page key carries it.
                    "paginator": {"type": "json_link", "next_url_path": "meta.next"},
                },
            }
        ],
    }
    pipeline = dlt.pipeline(
        "bench",
        pipelines_dir=str(folder / "dlt"),
        destination=dlt.destinations.duckdb(str(folder / "dlt.duckdb")),
        dataset_name="records",
    )
    pipeline.run(rest_api_source(config, max_table_nesting=0)).raise_on_failed_jobs()


def _flatten(row: dict[str, Any]) -> dict[str, Any]:
    """Timestamp, and value and label of each field, as a user of dlt would write it."""
    flat = {"primary_timestamp": row["primaryTimestampField"]["timestamp"]}
    for item in row["fields"]:
        name, field = item["name"], item.get("field", {})
        flat[name] = field.get("values", field.get("value"))
        if "label" in field:
            flat[f"{name}_label"] = field["label"]
    return flat


def rows_in(folder: Path) -> int:
    """How many rows are in the database that `load` made."""
    with duckdb.connect(str(folder / "dlt.duckdb"), read_only=True) as connection:
        found = connection.execute("SELECT count(*) FROM records.bench").fetchone()
    assert found
    return int(found[0])
