"""The settings of the database, declared once.

`DixaAnalytics` and the Dagster resource inherit them; warehouse and engine receive them.
"""

from pydantic import BaseModel, ConfigDict, Field

# Seconds to wait for another process that has the database open.
WAIT_SECONDS = 600.0


class WarehouseSettings(BaseModel):
    """Whose days a database holds, and how it is opened."""

    model_config = ConfigDict(frozen=True)

    account: str = Field(
        default="",
        description="A name that tells several accounts apart: the first part of asset keys.",
    )
    timezone: str = Field(
        default="Europe/Copenhagen", description="IANA zone whose midnights bound a day."
    )
    lake_data: str = Field(
        default="",
        description="Where a lake keeps its rows: a folder that all machines have, or `s3://…`.",
    )
    database_wait_seconds: float = Field(
        default=WAIT_SECONDS, description="Seconds to wait for another user of the database."
    )
