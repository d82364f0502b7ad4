"""The command `dg scaffold defs dixa_assets.component.DixaAnalytics NAME`: options and result."""

from datetime import date, timedelta

import dagster as dg
from dagster.components.component_scaffolding import scaffold_component
from pydantic import BaseModel, Field


class ScaffoldParams(BaseModel):
    """The settings that every account needs."""

    timezone: str = Field(
        default="Europe/Copenhagen",
        description="IANA time zone of your Dixa organisation; a day begins at its midnight.",
    )
    start_date: str = Field(
        default_factory=lambda: (date.today() - timedelta(days=365)).isoformat(),  # noqa: DTZ011
        description="First day to load, YYYY-MM-DD; one year ago by default.",
    )
    duckdb_path: str = Field(
        default="",
        description="The database file; data/dixa.duckdb or data/ACCOUNT.duckdb by default.",
    )
    account: str = Field(
        default="", description="A name for the account if there are several; empty for one."
    )


class DixaScaffolder(dg.Scaffolder[ScaffoldParams]):
    """Writes a valid `defs.yaml`."""

    @classmethod
    def get_scaffold_params(cls) -> type[ScaffoldParams]:
        """The parameters. Each is an option of the command."""
        return ScaffoldParams

    def scaffold(self, request: dg.ScaffoldRequest[ScaffoldParams]) -> None:
        """Write the file. A named account reads its token from a variable with its name."""
        params, account = request.params, request.params.account
        attributes = {
            "timezone": params.timezone,
            "start_date": params.start_date,
            "duckdb_path": params.duckdb_path or f"data/{account or 'dixa'}.duckdb",
        }
        if account:
            named = {"account": account, "api_key_variable": f"DIXA_API_KEY_{account.upper()}"}
            attributes = named | attributes
        scaffold_component(request, attributes)
