"""What `dg scaffold defs dixa_assets.component.DixaAnalytics NAME` asks for and writes."""

from datetime import date, timedelta

import dagster as dg
from dagster.components.component_scaffolding import scaffold_component
from pydantic import BaseModel, Field


class ScaffoldParams(BaseModel):
    """The settings that every account has to decide on."""

    timezone: str = Field(
        default="Europe/Copenhagen",
        description="IANA zone whose midnights bound a day: your Dixa organisation's.",
    )
    start_date: str = Field(
        default_factory=lambda: (date.today() - timedelta(days=365)).isoformat(),  # noqa: DTZ011
        description="First day that can be loaded, YYYY-MM-DD; a year ago if not given.",
    )
    duckdb_path: str = Field(
        default="", description="The database file; data/dixa.duckdb, or data/ACCOUNT.duckdb."
    )
    account: str = Field(
        default="", description="A name that tells several accounts apart; empty for one."
    )


class DixaScaffolder(dg.Scaffolder[ScaffoldParams]):
    """Writes a `defs.yaml` that loads."""

    @classmethod
    def get_scaffold_params(cls) -> type[ScaffoldParams]:
        """The parameters, each an option of the command."""
        return ScaffoldParams

    def scaffold(self, request: dg.ScaffoldRequest[ScaffoldParams]) -> None:
        """Write the file; the token's variable of a named account bears its name."""
        params = request.params
        account = params.account
        named = {"account": account, "api_key_variable": f"DIXA_API_KEY_{account.upper()}"}
        scaffold_component(
            request,
            (named if account else {})
            | {
                "timezone": params.timezone,
                "start_date": params.start_date,
                "duckdb_path": params.duckdb_path or f"data/{account or 'dixa'}.duckdb",
            },
        )
