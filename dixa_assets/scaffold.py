"""The command `dg scaffold defs dixa_assets.component.DixaAnalytics NAME`: options and result."""

from datetime import date, timedelta
from pathlib import Path

import dagster as dg
from dagster.components.component_scaffolding import scaffold_component
from pydantic import BaseModel, Field, field_validator

from dixa_assets.settings.misspelt import zone_problem


class ScaffoldParams(BaseModel):
    """The settings that every account needs."""

    timezone: str = Field(
        description="IANA time zone of your Dixa organisation; a day begins at its midnight. It "
        "cannot be changed later.",
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
    running: bool = Field(
        default=False,
        description="Sensors and schedule run from the start. Otherwise start them in the UI.",
    )

    @field_validator("timezone")
    @classmethod
    def _require_zone(cls, zone: str) -> str:
        if problem := zone_problem(zone):
            raise ValueError(problem)
        return zone


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
        if not params.running:
            attributes |= {"default_sensor_status": "STOPPED", "default_schedule_status": "STOPPED"}
        if account:
            named = {"account": account, "api_key_variable": f"DIXA_API_KEY_{account.upper()}"}
            attributes = named | attributes
        scaffold_component(request, attributes)
        _ignore(request.project_root, Path(attributes["duckdb_path"]))


def _ignore(project: Path | None, database: Path) -> None:
    """Keep the folder of the database out of git: it holds customers' names."""
    folder = database.parent
    if project is None or folder.is_absolute() or folder == Path():
        return
    ignored, line = project / ".gitignore", f"/{folder.as_posix()}/"
    lines = ignored.read_text(encoding="utf-8").splitlines() if ignored.exists() else []
    if line not in lines:
        ignored.write_text("\n".join([*lines, line, ""]), encoding="utf-8")
