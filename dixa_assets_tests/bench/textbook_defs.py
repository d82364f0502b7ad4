"""The project that Dagster's documentation teaches, to compare with. It uses nothing of ours.

One asset for each metric, daily partitions, the default executor, one run for each partition,
`DuckDBResource`, a request for each day, a pause of a second after a 429.
"""

import os
import time

import dagster as dg
import httpx
from dagster_duckdb import DuckDBResource

METRICS = ("closed_conversations", "created_conversations", "messages_sent")
DAYS = dg.DailyPartitionsDefinition(start_date="2025-01-01")


def build_metric(metric_id: str) -> dg.AssetsDefinition:
    """The daily asset of one metric, in a table of its own."""

    @dg.asset(name=metric_id, partitions_def=DAYS, kinds={"duckdb"})
    def metric(
        context: dg.AssetExecutionContext, duckdb: DuckDBResource
    ) -> dg.MaterializeResult[None]:
        window = context.partition_time_window
        body = {
            "id": metric_id,
            "periodFilter": {
                "_type": "Interval",
                "start": window.start.isoformat(),
                "end": window.end.isoformat(),
            },
            "timezone": "UTC",
            "aggregations": ["Count"],
        }
        while True:
            answer = httpx.post(
                f"{os.environ['DIXA_BASE_URL']}/v1/analytics/metrics",
                json=body,
                headers={"Authorization": os.environ["DIXA_API_KEY"]},
                timeout=60,
            )
            if answer.status_code != 429:
                break
            time.sleep(1)
        answer.raise_for_status()
        day = context.partition_key
        aggregates = answer.json()["data"]["aggregates"]
        rows = [(day, item["measure"], item["value"]) for item in aggregates]
        with duckdb.get_connection() as connection:
            connection.execute(
                f"CREATE TABLE IF NOT EXISTS {metric_id} (day DATE, measure VARCHAR, value DOUBLE)"
            )
            connection.execute(f"DELETE FROM {metric_id} WHERE day = ?", [day])
            connection.executemany(f"INSERT INTO {metric_id} VALUES (?, ?, ?)", rows)
        return dg.MaterializeResult(metadata={"rows": len(rows)})

    return metric


defs = dg.Definitions(
    assets=[build_metric(metric_id) for metric_id in METRICS],
    resources={"duckdb": DuckDBResource(database=os.environ.get("DIXA_DUCKDB_PATH", ":memory:"))},
)
