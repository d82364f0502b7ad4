"""Four assets and three days under faults: rows, requests, and the messages of a run."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from dixa_assets.component import DixaAnalytics
from dixa_assets.model.catalogue import Catalogue
from dixa_assets.simulator.world import World
from dixa_assets_tests.support import truth
from dixa_assets_tests.support.scenario import component, failure_of, fetched, load, tampered
from dixa_assets_tests.support.simulator import Simulator

CSAT, NPS = "dixa_metrics/csat", "dixa_metrics/nps"
RATINGS, MESSAGES = "dixa_records/ratings", "dixa_records/messages_sent"
KEYS = (CSAT, RATINGS, MESSAGES)
# On each of these days the messages fill two pages, and everything else fits into one.
FIRST, FAULTY, LAST = DAYS = ("2025-11-04", "2025-11-05", "2025-11-06")
# Tries of one request.
TRIES = 8
ROW = {"primaryTimestampField": {"name": "at", "timestamp": "2025-11-05T09:00:00.000Z"}}
# Rows and lines of the load log, each with its run and instant, by asset and day.
Held = dict[tuple[str, str], list[str]]


def few(simulator: Simulator, folder: Path, **attributes: Any) -> DixaAnalytics:
    """A component of four assets that requests one day after the other."""
    ids = ["csat", "nps", "ratings", "messages_sent"]
    return component(simulator, folder, **{"windows_at_a_time": 1, "include": ids} | attributes)


def ask_for_days_alone(analytics: DixaAnalytics) -> None:
    """Log rows outside their day, so that the loader requests each day alone."""
    tampered(analytics, "UPDATE dixa_catalogue.loads SET rows_outside_window = 1")


@dataclass(frozen=True)
class Scene:
    """A simulator, a component and its catalogue; without names of assets, `KEYS` are meant."""

    simulator: Simulator
    analytics: DixaAnalytics
    catalogue: Catalogue
    world: World

    @classmethod
    def at(cls, url: str, folder: str) -> "Scene":
        """The scene of a database that exists, for another process."""
        analytics = few(Simulator(url), Path(folder))
        return cls(Simulator(url), analytics, fetched(analytics), World())

    def fault(self, kind: str, **wish: Any) -> None:
        """Let the simulator fail."""
        self.simulator.tell("faults", kind=kind, **wish)

    def load(
        self, *keys: str, first: str = FIRST, last: str = LAST, **how: Any
    ) -> dg.ExecuteInProcessResult:
        """Load some days, by default the three."""
        return load(self.analytics, keys or KEYS, first, last, catalogue=self.catalogue, **how)

    def held(self, *keys: str) -> Held:
        """The rows and the load log in the database."""
        found: Held = {}
        with self.analytics.build_warehouse().reading() as query:
            for key in keys or KEYS:
                rows = query(
                    "SELECT partition_date::VARCHAR AS day, one::VARCHAR AS row "
                    f"FROM {key.replace('/', '.')} AS one UNION ALL SELECT "
                    "partition_date::VARCHAR, one::VARCHAR FROM dixa_catalogue.loads AS one "
                    "WHERE asset_key = ? ORDER BY ALL",
                    [key],
                )
                for day, row in rows:
                    found.setdefault((key, day), []).append(row)
        return found

    def noted(self, key: str, column: str) -> dict[str, int]:
        """A column of the load log, by day."""
        rows = self.analytics.build_warehouse().query(
            f"SELECT partition_date::VARCHAR AS day, {column} AS n FROM dixa_catalogue.loads "
            "WHERE asset_key = ?",
            [key],
        )
        return dict(zip(rows.day, rows.n, strict=True))

    def assert_equal(self, *keys: str, days: Iterable[str] = DAYS) -> None:
        """Every row of some days is the simulator's, and there is no other."""
        truth.assert_equal(self.analytics, self.world, *(keys or KEYS), days=days)

    def assert_whole(self, *keys: str, days: Sequence[str] = DAYS) -> None:
        """Some assets have these days, each with the simulator's rows, and no other day."""
        assert set(self.held(*keys)) == {(key, day) for key in keys or KEYS for day in days}
        self.assert_equal(*keys, days=days)

    def rows_of(self, key: str, day: str) -> int:
        """The number of the simulator's rows."""
        return truth.rows_of(self.world, key, day).total()

    def requested(self, key: str) -> list[str]:
        """The local day of each request for an asset, in order."""
        return [(start + timedelta(hours=2)).date().isoformat() for start, _ in self._requests(key)]

    def pages(self, day: str) -> list[bool]:
        """For each request for a day of the messages, whether it had a page key."""
        midnight = truth.period_of(date.fromisoformat(day))["start"]
        return [
            "pageKey" in query for start, query in self._requests(MESSAGES) if start == midnight
        ]

    def _requests(self, key: str) -> list[tuple[datetime, Any]]:
        """The start of the period and the query of each request for an asset."""
        schema, name = key.split("/")
        operation = "postAnalyticsMetrics" if schema == "dixa_metrics" else "postAnalyticsRecords"
        return [
            (
                datetime.fromisoformat(request["body"]["periodFilter"]["start"]),
                request["query"],
            )
            for request in self.simulator.requests()
            if request["operation"] == operation and request["body"]["id"] == name
        ]


def step(key: str) -> str:
    return key.replace("/", "__")


def failed_steps(result: dg.ExecuteInProcessResult) -> set[str]:
    return {event.step_key for event in result.get_step_failure_events() if event.step_key}


def can_retry(result: dg.ExecuteInProcessResult, key: str) -> Any:
    """Whether the run's page says that a retry can help."""
    [failure] = [e for e in result.get_step_failure_events() if e.step_key == step(key)]
    assert failure.step_failure_data.user_failure_data is not None
    return failure.step_failure_data.user_failure_data.metadata["a retry can help"].value


def assert_one_day_failed(result: dg.ExecuteInProcessResult, key: str, cause: str) -> None:
    assert failed_steps(result) == {step(key)}
    said = failure_of(result, step(key))
    assert said.startswith(
        f"1 of 3 days failed ({FAULTY}). Their stored rows did not change. {FAULTY}: "
    )
    assert cause in said
    assert f"'{key.split('/')[1]}'" in said
