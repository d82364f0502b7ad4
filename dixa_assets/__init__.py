"""Every metric and record of Dixa's Analytics API as a daily-partitioned DuckDB table."""

from typing import TYPE_CHECKING

from dixa_assets.zones import use_newest_rules

if TYPE_CHECKING:
    from dixa_assets.reader import Dixa

__version__ = "0.2.0"

# Before anything asks for a zone: one that exists already keeps the rules it was made with.
use_newest_rules()


def connect(account: str | None = None) -> "Dixa":
    """Read the tables of the project in the working folder as DataFrames.

        dixa = dixa_assets.connect()
        dixa.record("ratings", "2026-11-01", "2026-11-28")
        dixa.metric("csat")
        dixa.sql("SELECT count(*) FROM dixa_records.ratings")

    Args:
        account: The account's name; needed if the project has several.
    """
    # Dagster is imported here, so that the import of this package stays fast.
    from dixa_assets.reader import connect

    return connect(account)
