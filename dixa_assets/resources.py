"""The resources: Dixa's API, and DuckDB as dagster-duckdb ships it.

They hold configuration and hand out the plain objects that do the work.
"""

import dagster as dg
from dagster_duckdb import DuckDBResource
from pydantic import Field, PrivateAttr

from dixa_assets.client import DEFAULT_BASE_URL, DixaClient
from dixa_assets.load import Loader
from dixa_assets.warehouse import Warehouse


class DixaResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Dixa's Analytics API."""

    api_key: str = Field(description="Token of an admin, for the API version 'Dixa API'.")
    base_url: str = Field(default=DEFAULT_BASE_URL, description="Scheme and host of the API.")
    api_version: str = Field(default="v1", description="Path prefix: v1 or beta.")
    auth_scheme: str = Field(
        default="", description="Empty sends the raw token, 'Bearer' puts that word before it."
    )
    requests_per_second: float = Field(
        default=10.0,
        gt=0,
        description="Pace of all processes on this machine that share the token. Lower it when "
        "other programs use the same token.",
    )
    burst: int = Field(
        default=2, ge=1, description="Requests that may go at once; Dixa allows four."
    )

    _loader: Loader | None = PrivateAttr(default=None)

    def loader(self, warehouse: Warehouse, *, at_a_time: int) -> Loader:
        """The loader of this run's steps, made when the first of them asks.

        Args:
            warehouse: Where rows go.
            at_a_time: How many requests are under way side by side.
        """
        if self._loader is None:
            self._loader = Loader(self.client(), warehouse, at_a_time=at_a_time)
        return self._loader

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Stop what the run still fetches."""
        if self._loader is not None:
            self._loader.close()

    def client(self, *, give_up_after: float = 600.0) -> DixaClient:
        """A client; close it after use.

        Args:
            give_up_after: Seconds after which a failing request is no longer tried again.
        """
        return DixaClient(
            self.api_key,
            base_url=self.base_url,
            api_version=self.api_version,
            auth_scheme=self.auth_scheme,
            requests_per_second=self.requests_per_second,
            burst=self.burst,
            give_up_after=give_up_after,
        )

    def __repr__(self) -> str:
        # The key must not reach a log through an error that shows its arguments.
        return f"DixaResource(base_url={self.base_url!r})"

    __str__ = __repr__


def build_warehouse(
    duckdb: DuckDBResource, *, timezone: str, wait_seconds: float = 600.0
) -> Warehouse:
    """The warehouse in the file a DuckDBResource names."""
    return Warehouse(
        duckdb.database,
        timezone=timezone,
        connection_config=duckdb.connection_config,
        wait_seconds=wait_seconds,
    )
