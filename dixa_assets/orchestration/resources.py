"""The resources: they hold configuration and hand out the plain objects that do the work.

The loader is made of the warehouse and the API's client, the warehouse of DuckDB's resource as
dagster-duckdb ships it. See https://docs.dagster.io/guides/build/external-resources
"""

import math
from collections.abc import Iterator
from contextlib import closing, contextmanager

import dagster as dg
from dagster_duckdb import DuckDBResource
from pydantic import Field

from dixa_assets.api.client import PAGE_SIZES, DixaClient
from dixa_assets.api.transport import GIVE_UP_AFTER, MAX_ATTEMPTS
from dixa_assets.load.loader import Loader
from dixa_assets.load.plan import MOST_DAYS
from dixa_assets.warehouse.warehouse import Warehouse

# The resources, by their names without an account.
API, WAREHOUSE, LOADER = "dixa_api", "dixa_warehouse", "dixa_loader"


class DixaResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Dixa's Analytics API."""

    api_key: str = Field(description="Token of an admin, for the API version 'Dixa API'.")
    api_key_variable: str = Field(description="The environment variable the token stands in.")
    base_url: str = Field(description="Scheme and host of the API.")
    api_version: str = Field(description="Path prefix: v1 or beta.")
    auth_scheme: str = Field(
        description="Empty sends the raw token, 'Bearer' puts that word before it."
    )
    requests_per_second: float = Field(
        description="Pace of all processes that share the token. Lower it when "
        "other programs use the same token."
    )
    burst: int = Field(description="Requests that may go at once; Dixa allows four.")
    pace_url: str = Field(
        default="", description="The Postgres in which machines that share the token keep its pace."
    )
    page_size: int = Field(
        default=PAGE_SIZES[0], description="Rows asked for in a page; fewer where it is refused."
    )

    def client(
        self,
        *,
        give_up_after: float = GIVE_UP_AFTER,
        lifetime: float = math.inf,
        max_attempts: int = MAX_ATTEMPTS,
    ) -> DixaClient:
        """A client; close it after use.

        Args:
            give_up_after: Seconds that a request may take, with all its tries.
            lifetime: Seconds after which the client asks nothing more.
            max_attempts: How often a request is tried.
        """
        return DixaClient(
            self.api_key,
            key_variable=self.api_key_variable,
            base_url=self.base_url,
            api_version=self.api_version,
            auth_scheme=self.auth_scheme,
            requests_per_second=self.requests_per_second,
            burst=self.burst,
            give_up_after=give_up_after,
            lifetime=lifetime,
            max_attempts=max_attempts,
            page_size=self.page_size,
            pace_url=self.pace_url,
        )

    def __repr__(self) -> str:
        # The key must not reach a log through an error that shows its arguments.
        return f"DixaResource(base_url={self.base_url!r})"

    __str__ = __repr__


class WarehouseResource(dg.ConfigurableResource[Warehouse]):
    """The warehouse in the database that a DuckDBResource names."""

    duckdb: dg.ResourceDependency[DuckDBResource]
    timezone: str = Field(description="The zone whose midnights bound a day.")
    account: str = Field(description="The account whose days it holds; empty if it has no name.")
    host: str = Field(description="The API's host that the days come from.")
    wait_seconds: float = Field(description="How long another user of the database is waited for.")
    lake_data: str = Field(default="", description="Where a lake keeps its rows.")

    def create_resource(self, context: dg.InitResourceContext | None = None) -> Warehouse:
        """The plain warehouse."""
        return Warehouse(
            self.duckdb.database,
            timezone=self.timezone,
            account=self.account,
            host=self.host,
            connection_config=self.duckdb.connection_config,
            wait_seconds=self.wait_seconds,
            lake_data=self.lake_data,
        )


class LoaderResource(dg.ConfigurableResource[Loader]):
    """The loader of all steps that a process takes in a run."""

    dixa: dg.ResourceDependency[DixaResource]
    warehouse: dg.ResourceDependency[Warehouse]
    at_a_time: int = Field(description="Requests under way side by side.")
    days_alone: bool = Field(
        default=False, description="Whether no two days of a record may share a request."
    )
    longest_period: int = Field(
        default=0, description="Days that a request may cover; 0: until one is refused."
    )

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[Loader]:
        """A loader that stops what it still fetches when the run ends."""
        loader = Loader(
            self.dixa.client,
            self.warehouse,
            at_a_time=self.at_a_time,
            days_alone=self.days_alone,
            longest_period=self.longest_period or MOST_DAYS,
        )
        with closing(loader):
            yield loader
