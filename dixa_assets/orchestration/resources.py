"""The resources: they hold configuration and create the plain objects that do the work.

The loader is built from the API client and the warehouse, the warehouse from dagster-duckdb's
resource. See https://docs.dagster.io/guides/build/external-resources
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Self

import dagster as dg
from dagster_duckdb import DuckDBResource
from pydantic import Field

from dixa_assets.api.client import DixaClient
from dixa_assets.api.settings import PAGE_SIZE, ApiSettings, Patience
from dixa_assets.load.loader import Loader
from dixa_assets.model.options import Adaptation
from dixa_assets.warehouse.engine import STORAGE_VERSION
from dixa_assets.warehouse.settings import WarehouseSettings
from dixa_assets.warehouse.warehouse import Warehouse

# The names of the resources, without an account.
API, WAREHOUSE, LOADER = "dixa_api", "dixa_warehouse", "dixa_loader"


class DixaResource(ApiSettings, dg.ConfigurableResource):  # type: ignore[type-arg]
    """Dixa's Analytics API."""

    api_key: str = Field(description="Token of an admin, for the API version 'Dixa API'.")
    page_size: int = Field(
        default=PAGE_SIZE, description="Rows per page; the client requests less if Dixa rejects it."
    )

    @classmethod
    def of(cls, settings: ApiSettings, api_key: str, found: Adaptation) -> Self:
        """Build the resource of an account, adapted to the findings of the probe."""
        own = settings.model_dump(include={*ApiSettings.model_fields})
        own["auth_scheme"] = settings.auth_scheme or found.auth_scheme
        return cls(api_key=api_key, page_size=found.page_size or PAGE_SIZE, **own)

    def client(self, patience: Patience | None = None) -> DixaClient:
        """Create a client. Close it after use."""
        return DixaClient(self.api_key, self, patience, page_size=self.page_size)

    def __repr__(self) -> str:
        # An error that shows its arguments must not write the token into a log.
        return f"DixaResource(base_url={self.base_url!r})"

    __str__ = __repr__


class WarehouseResource(WarehouseSettings, dg.ConfigurableResource[Warehouse]):
    """The warehouse in the database that a DuckDBResource names."""

    duckdb: dg.ResourceDependency[DuckDBResource]
    host: str = Field(description="Host of the API that the days come from.")

    @classmethod
    def of(
        cls, settings: WarehouseSettings, path: str, host: str, wait_seconds: float | None = None
    ) -> Self:
        """Build the resource of an account.

        Args:
            settings: The account's settings.
            path: The database file, or the address of a lake.
            host: Host of the API.
            wait_seconds: Replaces `database_wait_seconds`.
        """
        own = settings.model_dump(include={*WarehouseSettings.model_fields})
        if wait_seconds is not None:
            own["database_wait_seconds"] = wait_seconds
        duckdb = DuckDBResource(
            database=path, connection_config={"storage_compatibility_version": STORAGE_VERSION}
        )
        return cls(duckdb=duckdb, host=host, **own)

    def create_resource(self, context: dg.InitResourceContext | None = None) -> Warehouse:
        """Create the warehouse."""
        return Warehouse(
            self.duckdb.database,
            self,
            host=self.host,
            connection_config=self.duckdb.connection_config,
        )


class LoaderResource(dg.ConfigurableResource[Loader]):
    """The loader of all steps of a run in one process."""

    dixa: dg.ResourceDependency[DixaResource]
    warehouse: dg.ResourceDependency[Warehouse]
    threads: int = Field(description="Requests in flight at most.")

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[Loader]:
        """Create a loader. When the run ends, its pending requests are cancelled."""
        with closing(Loader(self.dixa.client, self.warehouse, threads=self.threads)) as loader:
            yield loader
