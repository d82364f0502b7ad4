"""DataFrames without Dagster, for notebooks and scripts in the folder of a project.

`dixa_assets.connect()` is the entrance.
"""

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dixa_assets.component import DixaAnalytics
from dixa_assets.errors import ConfigError
from dixa_assets.model.catalogue import Kind
from dixa_assets.project import load_components, read_env_file
from dixa_assets.settings.misspelt import hint
from dixa_assets.warehouse.frames import ReadCopy, Selection
from dixa_assets.warehouse.warehouse import Warehouse

if TYPE_CHECKING:
    import pandas as pd


class Dixa:
    """The tables of one account as DataFrames. Each method reads the database anew.

    Integers are `Int64`, dates `datetime64` without a zone, instants have a zone, and lists are
    Python lists.
    """

    def __init__(self, source: Warehouse | ReadCopy, timezone: str) -> None:
        self._source = source
        self._timezone = timezone

    def __repr__(self) -> str:
        return f"Dixa({self._source.name})"

    def record(
        self, record_id: str, first: date | str = "", last: date | str = "", **selection: Any
    ) -> "pd.DataFrame":
        """The rows of a record.

        Args:
            record_id: Dixa's id, such as `ratings`.
            first: The first local day; by default all days.
            last: The last local day; by default the latest.
            selection: `columns` (names), `where` (an SQL condition), `local` (True: instants in the
                account's zone instead of UTC).
        """
        return self._read("record", record_id, first, last, **selection)

    def metric(
        self, metric_id: str, first: date | str = "", last: date | str = "", **selection: Any
    ) -> "pd.DataFrame":
        """The values of a metric, with its breakdowns. The arguments are those of `record`."""
        return self._read("metric", metric_id, first, last, **selection)

    def sql(self, query: str, *parameters: Any, local: bool = False) -> "pd.DataFrame":
        """The result of an SQL query."""
        return self._source.query(query, parameters, timezone=self._zone(local))

    def _read(
        self,
        kind: Kind,
        id_: str,
        first: date | str,
        last: date | str,
        *,
        columns: tuple[str, ...] = (),
        where: str = "",
        local: bool = False,
    ) -> "pd.DataFrame":
        entries = {each.id: each for each in self._source.catalogue().entries if each.kind == kind}
        if id_ not in entries:
            unknown = f"{self._source.name} has no {kind} '{id_}'{hint(id_, entries)}"
            raise ConfigError(f"{kind} id", unknown)
        entry = entries[id_]
        limits = [
            f"partition_date {sign} DATE '{date.fromisoformat(str(day))}'"
            for sign, day in ((">=", first), ("<=", last))
            if day
        ]
        condition = " AND ".join([*limits, *([f"({where})"] if where else [])])
        selection = Selection(f"{entry.schema}.{entry.name}", None, columns, condition)
        return self._source.table(selection, timezone=self._zone(local))

    def _zone(self, local: bool) -> str:
        return self._timezone if local else "UTC"


def connect(account: str | None = None) -> Dixa:
    """Read the account of the project in the working folder, with its settings.

    It reads the read copy if there is one, so that it never waits for a load. Otherwise it reads
    the database, and waits while a load writes.

    Args:
        account: The account's name; needed if the project has several.

    Raises:
        ConfigError: The project has no such account, or several.
    """
    read_env_file()
    components = load_components(account)
    if len(components) > 1:
        names = ", ".join(component.account for component in components)
        raise ConfigError("account", f"this project has several; name one of {names}.")
    component = components[0]
    return Dixa(_source_of(component), component.timezone)


def _source_of(component: DixaAnalytics) -> Warehouse | ReadCopy:
    copy = Path(component.read_copy_path) if component.read_copy_path else None
    return ReadCopy(copy) if copy and copy.exists() else component.build_warehouse()
