"""The I/O manager through which other assets and notebooks read tables as DataFrames.

It never writes: loads write through the warehouse. See
https://docs.dagster.io/guides/build/io-managers
"""

from typing import TYPE_CHECKING, Any

import dagster as dg

from dixa_assets.errors import ConfigError
from dixa_assets.warehouse.frames import Selection
from dixa_assets.warehouse.warehouse import Warehouse

if TYPE_CHECKING:
    import pandas as pd

FRAMES = "dixa_frames"


class FramesIOManager(dg.ConfigurableIOManager):
    """Reads an asset's table as a `pandas.DataFrame`, or as a `polars.DataFrame`.

    A partitioned downstream asset gets the days that its partitions depend on, any other asset gets
    all days. The input's metadata can have `columns` (a list of names), `where` (an SQL condition)
    and `local` (True: instants in the account's zone instead of UTC).
    """

    warehouse: dg.ResourceDependency[Warehouse]

    def load_input(self, context: dg.InputContext) -> Any:
        """Read the rows of the input's days."""
        upstream = context.upstream_output
        described = (upstream.definition_metadata if upstream else None) or {}
        named = described.get("dagster/table_name")
        table = str(getattr(named, "value", named or ""))
        if not table:
            raise ConfigError(
                "ins",
                f"{context.asset_key.to_user_string()} is not a table, so it has no DataFrame. "
                "Name it in `deps`.",
            )
        wanted = context.definition_metadata or {}
        is_daily = described.get("partition_expr") and context.has_asset_partitions
        selection = Selection(
            table,
            tuple(context.asset_partition_keys) if is_daily else None,
            tuple(wanted.get("columns") or ()),
            wanted.get("where") or "",
        )
        timezone = self.warehouse.timezone if wanted.get("local") else "UTC"
        frame = self.warehouse.table(selection, timezone=timezone)
        return _as(context.dagster_type.typing_type, frame, table)

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Refuse: this I/O manager only reads."""
        raise ConfigError("io_manager_key", f"{FRAMES} only reads; store your asset elsewhere.")


def _as(wanted: Any, frame: "pd.DataFrame", table: str) -> Any:
    """The frame of a table as the type in the annotation of the argument."""
    module = getattr(wanted, "__module__", "").partition(".")[0]
    if module == "polars":
        import polars as pl

        # Without pyarrow, polars reads no frame of pandas, and it infers no type without a value.
        types: dict[str, Any] = {"Int64": pl.Int64, "float64": pl.Float64, "boolean": pl.Boolean}
        known: dict[str, Any] = {}
        for name, kind in frame.dtypes.items():
            if kind.kind == "M":
                zone = getattr(kind, "tz", None)
                known[str(name)] = pl.Datetime("us", str(zone) if zone else None)
            elif str(kind) in types:
                known[str(name)] = types[str(kind)]
        columns = {str(name): column.astype(object) for name, column in frame.items()}
        values = {name: each.where(each.notna(), None).to_list() for name, each in columns.items()}
        return pl.DataFrame(values, schema_overrides=known)
    if module in {"pandas", "typing"}:
        return frame
    raise ConfigError(
        "ins", f"{table} can be a pandas.DataFrame or a polars.DataFrame, but not a {wanted}."
    )
