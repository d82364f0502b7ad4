"""A loader without Dagster, and what it loads."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

from dixa_assets.load.loader import Loader
from dixa_assets.load.progress import LoadedDay
from dixa_assets.load.queue import Task
from dixa_assets.model.days import Day
from dixa_assets.model.options import LoadSpec
from dixa_assets.warehouse.warehouse import Warehouse
from dixa_assets_tests.support.client import Impatient


@contextmanager
def loader_for(url: str, warehouse: Warehouse, *, threads: int = 2) -> Iterator[Loader]:
    """A loader from the server at `url`, closed at the end of the block."""
    with closing(Loader(lambda: Impatient(base_url=url), warehouse, threads=threads)) as loader:
        yield loader


def load_days(
    url: str, warehouse: Warehouse, spec: LoadSpec, days: Sequence[Day], *, threads: int = 2
) -> list[LoadedDay]:
    """Load the days of an entry with a loader of their own."""
    with loader_for(url, warehouse, threads=threads) as loader:
        return list(loader.load(Task(spec, days), run_id="a-run"))
