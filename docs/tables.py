"""Write the second part of docs/tables.md from a warehouse that the simulator filled.

Run `python -m docs.tables` in the root of the project.
"""

import re
import sys
import tempfile
from pathlib import Path

from dixa_assets.component import DixaAnalytics
from dixa_assets.simulator.metrics import METRICS
from dixa_assets.simulator.records import RECORDS
from dixa_assets.warehouse.views import MARK
from dixa_assets_tests.support.marts import MART_KEYS
from dixa_assets_tests.support.scenario import component, fetched, load
from dixa_assets_tests.support.simulator import NOW, running_simulator

PAGE = Path(__file__).with_suffix(".md")
BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"
CATALOGUE = [
    f"dixa_catalogue/{name}"
    for name in ("metrics", "records", "filters", "aggregations", "fields", "relations", "changes")
]
RELATIONS = """
    FROM (SELECT schema_name AS schema, table_name AS name, comment, 'table' AS kind
          FROM duckdb_tables()
    UNION ALL
    SELECT schema_name, view_name, comment, 'view' FROM duckdb_views() WHERE NOT internal)
    ORDER BY schema IN ('dixa', 'main') DESC, schema, name"""
COLUMNS = """
    SELECT schema_name AS schema, table_name AS name, column_name, data_type AS type, comment
    FROM duckdb_columns() WHERE NOT internal ORDER BY schema, name, column_index"""


def load_everything(analytics: DixaAnalytics) -> None:
    """Load a day of every metric and record, the filter values, the catalogue and the marts."""
    keys = [*(f"dixa_metrics/{name}" for name in METRICS), *(f"dixa_records/{n}" for n in RECORDS)]
    catalogue = fetched(analytics)
    assert load(analytics, keys, "2025-11-05", catalogue=catalogue).success
    filters = [f"dixa_filters/{name}" for name in catalogue.filter_names.values()]
    assert load(analytics, [*filters, *CATALOGUE], catalogue=catalogue).success
    assert load(analytics, MART_KEYS, catalogue=catalogue).success


def described(analytics: DixaAnalytics) -> str:
    """Every table and view with its columns, in Markdown; the views of metrics as one table."""
    with analytics.build_warehouse().reading() as query:
        relations, columns = query(RELATIONS), query(COLUMNS)
    lines: list[str] = []
    for relation in relations:
        if relation.schema == "dixa_metrics" and relation.kind == "view":
            continue
        about = MARK.sub("", str(relation.comment))
        lines += [f"## {relation.schema}.{relation.name}", "", about, ""]
        lines += ["| column | type | |", "|---|---|---|"]
        lines += [
            f"| `{column.column_name}` | {column.type} | {column.comment} |"
            for column in columns
            if (column.schema, column.name) == (relation.schema, relation.name)
        ]
        lines.append("")
    lines += ["## dixa_metrics.<id>", "", "A view of `dixa_metrics.metric_values` for each:", ""]
    lines += ["| view | a value is |", "|---|---|"]
    lines += [
        f"| `dixa_metrics.{relation.name}` | {relation.comment} |"
        for relation in relations
        if relation.schema == "dixa_metrics" and relation.kind == "view"
    ]
    return "\n".join(lines)


def page(analytics: DixaAnalytics) -> str:
    """The page with a new second part."""
    return re.sub(
        rf"{BEGIN}.*{END}",
        lambda _: "\n".join([BEGIN, "", described(analytics), "", END]),
        PAGE.read_text(),
        flags=re.DOTALL,
    )


def main() -> int:
    """Write the page."""
    with (
        tempfile.TemporaryDirectory() as folder,
        running_simulator("--rate", "0", "--now", NOW.isoformat()) as simulator,
    ):
        analytics = component(simulator, Path(folder))
        load_everything(analytics)
        PAGE.write_text(page(analytics))
    return 0


if __name__ == "__main__":
    sys.exit(main())
