"""Mutated answers through client, extract and warehouse: a day is replaced whole, or untouched.

`python -m dixa_assets_tests.stress fuzz --cases 10000` runs many cases and prints the smallest one
that breaks the rule; `--case '…'` runs that case again. A case is JSON: the asset, the number of
pages, and the changes of the pages on the wire.
"""

import contextlib
import faulthandler
import json
import re
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

from dixa_assets.api.client import PAGE_SIZES
from dixa_assets.api.extract import extract
from dixa_assets.api.requests import Request
from dixa_assets.api.settings import Patience
from dixa_assets.errors import DixaAssetsError
from dixa_assets.model.catalogue import Entry
from dixa_assets.model.days import Day
from dixa_assets.model.options import LoadSpec
from dixa_assets.simulator.metrics import METRICS
from dixa_assets.simulator.records import RECORDS
from dixa_assets.simulator.world import World
from dixa_assets.staging import Staged
from dixa_assets.warehouse.load_log import Load
from dixa_assets.warehouse.settings import WarehouseSettings
from dixa_assets.warehouse.warehouse import Warehouse
from dixa_assets_tests.stress.fuzz_cases import ROWS, TARGETS, TOKEN, cases
from dixa_assets_tests.stress.fuzz_vendor import Served, Vendor
from dixa_assets_tests.support.client import Impatient
from dixa_assets_tests.support.serve import Server, serve
from dixa_assets_tests.support.simulator import COPENHAGEN, Json
from dixa_assets_tests.support.truth import period_of, sent_rows

DAYS = [datetime(2025, 11, number).date() for number in (4, 5, 6)]  # noqa: DTZ001
DAY = DAYS[1]
SECONDS_A_CASE = 20.0
# Thousands of small databases need not reach a disk.
_MEMORY = Path("/dev/shm")


class Violation(AssertionError):
    """The rule is broken; says by which case."""


class Fuzz:
    """A server, a client and a database with three days of five assets, for many cases."""

    def __init__(self, folder: Path, server: Server, vendor: Vendor) -> None:
        self._server, self._vendor = server, vendor
        self._world = World()
        self._folder = folder
        self._client = Impatient(
            TOKEN,
            Patience(attempts=2, answer_seconds=5),
            base_url=server.url,
        )
        self._base = folder / "base.duckdb"
        for target in TARGETS:
            for day in DAYS:
                self._serve({"target": target, "pages": 1, "changes": [], "wires": []}, day)
                self._load(self._base, target, day, "before")

    def close(self) -> None:
        """Close the client's connections."""
        self._client.close()

    def check(self, case: Json) -> str:
        """Load the case's day; what happened, in a word. Raises `Violation`."""
        began = time.monotonic()
        path = self._folder / "case.duckdb"
        shutil.copy(self._base, path)
        self._serve(case, DAY)
        error: DixaAssetsError | None = None
        try:
            self._load(path, case["target"], DAY, "fuzz")
        except DixaAssetsError as raised:
            error = raised
        except BaseException as raised:
            if isinstance(raised, KeyboardInterrupt):
                raise
            raise Violation(f"another error:\n{traceback.format_exc()}{_shown(case)}") from None
        seconds = time.monotonic() - began
        if self._server.failure:
            raise RuntimeError(_shown(case)) from self._server.failure
        problem = self._problem(path, case["target"], error)
        if seconds > SECONDS_A_CASE:
            problem = f"took {seconds:.0f} s"
        if problem:
            raise Violation(f"{problem}\n{_shown(case)}")
        return type(error).__name__ if error else "replaced"

    def _serve(self, case: Json, day: Any) -> None:
        target = case["target"]
        if TARGETS[target]:
            rows = sent_rows(self._world, target, day)[:ROWS]
            size = -(-len(rows) // case["pages"])
            pages = [
                {"data": rows[start : start + size], "meta": {}}
                for start in range(0, len(rows), size)
            ]
            for number, page in enumerate(pages[:-1], 1):
                page["meta"] = {"next": f"/v1/analytics/records?pageKey=K{number}"}
        else:
            aggregates = self._world.aggregate(target, **period_of(day))
            pages = [{"data": {"id": target, "aggregates": aggregates}}]
        self._vendor.prepare(case, pages)

    def _load(self, path: Path, target: str, day: Any, run_id: str) -> None:
        spec = LoadSpec(_entry(target), COPENHAGEN)
        relation, local_day = spec.relation, Day.of(day, COPENHAGEN)
        warehouse = Warehouse(path, WarehouseSettings(database_wait_seconds=5))
        self._client._page_size = PAGE_SIZES[0]
        with (
            warehouse.staging() as folder,
            Staged(folder / "rows", relation.stored_in, key=relation.key) as staged,
        ):
            extract(self._client, Request(spec), local_day, staged)
            warehouse.replace(relation, [Load(run_id, time.monotonic(), [staged], local_day)])

    def _problem(self, path: Path, target: str, error: DixaAssetsError | None) -> str | None:
        """The problem of the database or of the error, None without one."""
        if error:
            said = str(error)
            if TOKEN.lower() in said.lower():
                return f"the error holds the token: {said[:500]}"
            if target not in said:
                return f"the error does not say what it is about: {said[:500]}"
            if len(said) > 2000:
                return f"the error has {len(said)} characters"
            if path.read_bytes() == self._base.read_bytes():
                return None
        own = (f"{'dixa_records' if TARGETS[target] else 'dixa_metrics'}/{target}", str(DAY))
        with duckdb.connect(str(path)) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute(f"ATTACH '{self._base}' AS base (READ_ONLY)")
            for schema, table, groups in _TABLES:
                columns = self._common(connection, schema, table)
                before, after = (
                    _digest(connection, f"{catalog}.{schema}.{table}", groups, columns)
                    for catalog in ("base", '"case"')
                )
                if not error:
                    mine = [which for which in (*before, *after) if _is(own, table, which)]
                    before, after = (
                        {which: found for which, found in each.items() if which not in mine}
                        for each in (before, after)
                    )
                if before != after:
                    return f"{schema}.{table} differs in what was not to be touched"
            return None if error else self._not_replaced(connection, target, own)

    def _common(self, connection: duckdb.DuckDBPyConnection, schema: str, table: str) -> list[str]:
        """The columns that have the same name and type before and after."""
        rows = connection.execute(
            "SELECT column_name FROM duckdb_columns() WHERE schema_name = ? AND table_name = ? "
            "GROUP BY column_name HAVING count(*) = 2 AND count(DISTINCT data_type) = 1 "
            "ORDER BY 1",
            [schema, table],
        ).fetchall()
        return [name for (name,) in rows]

    def _not_replaced(
        self, connection: duckdb.DuckDBPyConnection, target: str, own: tuple[str, str]
    ) -> str | None:
        """How the day differs from what the last reading said, if it does."""
        said = _last_reading(self._vendor.served, Day.of(DAY, COPENHAGEN))
        if TARGETS[target]:
            relation, where = f"dixa_records.{target}", f"partition_date = '{DAY}'"
        else:
            relation = "dixa_metrics.metric_values"
            where = f"partition_date = '{DAY}' AND metric = '{target}'"
        count, runs = connection.execute(
            f"SELECT count(*), list(DISTINCT run_id) FROM {relation} WHERE {where}"
        ).fetchone() or (0, [])
        if count != len(said):
            return f"{count} rows are there, the last reading had {len(said)}"
        if runs not in (["fuzz"], [], None):
            return f"rows of several runs: {runs}"
        noted = connection.execute(
            "SELECT rows, run_id FROM dixa_catalogue.loads "
            "WHERE asset_key = ? AND partition_date = ?",
            list(own),
        ).fetchall()
        if noted != [(count, "fuzz")]:
            return f"the load log says {noted}, there are {count} rows"
        for column, expected in _plain_columns(target, said).items():
            found = connection.execute(
                f"SELECT {column} FROM {relation} WHERE {where} ORDER BY ALL"
            ).fetchall()
            if sorted(text for (text,) in found) != sorted(expected):
                return f"{column} is {found}, the last reading had {expected}"
        return None


_TABLES = [
    *(("dixa_records", name, ["partition_date"]) for name, field in TARGETS.items() if field),
    ("dixa_metrics", "metric_values", ["metric", "partition_date"]),
    ("dixa_catalogue", "loads", ["asset_key", "partition_date"]),
    ("dixa_catalogue", "warehouse", ["timezone"]),
]


def _digest(
    connection: duckdb.DuckDBPyConnection, relation: str, groups: list[str], columns: list[str]
) -> dict[tuple[str, ...], Any]:
    names = ", ".join(f"{name}::VARCHAR" for name in groups)
    quoted = ", ".join('"' + name.replace('"', '""') + '"' for name in columns)
    rows = connection.execute(
        f"SELECT {names}, count(*), sum(hash({quoted})::HUGEINT)::VARCHAR FROM {relation} "
        "GROUP BY ALL"
    ).fetchall()
    return {row[: len(groups)]: row[len(groups) :] for row in rows}


def _is(own: tuple[str, str], table: str, which: tuple[str, ...]) -> bool:
    key, day = own
    name = key.split("/")[1]
    return which in {
        "loads": [(key, day)],
        "metric_values": [(name, day)] if "metrics" in key else [],
        name: [(day,)] if "records" in key else [],
    }.get(table, [])


def _last_reading(served: list[Served], day: Day) -> list[Any]:
    """The rows of the last usable first page and all pages since; none that lies on the end."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        rows: list[Any] = []
        for answer in served:
            payload = _usable(answer)
            if payload is None:
                continue
            data = payload.get("data")
            if isinstance(data, dict):
                # A later answer means that the one before could not be read after all, for
                # instance because it is nested deeper than a parser goes.
                rows = [part for each in data.get("aggregates") or [] for part in _parts(each)]
                continue
            # The client requests an answer with anything else again.
            if isinstance(data, list | None):
                rows = (rows if answer.key else []) + (data or [])
        return [row for row in rows if _instant(row) != day.period.end]
    finally:
        sys.setrecursionlimit(limit)


def _usable(answer: Served) -> Json | None:
    if not answer.is_whole:
        return None
    try:
        payload = json.loads(answer.body, parse_constant=lambda name: 1 / 0)
    except (ValueError, ZeroDivisionError):
        return None
    return payload if isinstance(payload, dict) else None


def _parts(aggregate: Any) -> list[Any]:
    """A presence's statuses, each of which is a row; anything else is one."""
    value = aggregate.get("value") if isinstance(aggregate, dict) else None
    if isinstance(value, list) and all(
        isinstance(part, dict)
        and isinstance(part.get("status"), dict)
        and isinstance(part["status"].get("status"), str)
        and type(part.get("value")) in (int, float, type(None))
        for part in value
    ):
        return value
    return [aggregate]


def _instant(row: Any) -> datetime | None:
    try:
        text = row["primaryTimestampField"]["timestamp"].partition("[")[0]
        instant = datetime.fromisoformat(text)
        return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _plain_columns(target: str, rows: list[Any]) -> dict[str, list[str]]:
    """Columns whose every value is beyond doubt, as texts."""
    found = {}
    name = TARGETS[target]
    if name is None:
        return {}
    stamps = [row["primaryTimestampField"]["timestamp"] for row in rows]
    if all(re.fullmatch(r"202\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d\d\dZ", stamp) for stamp in stamps):
        found["epoch_ms(primary_timestamp)::VARCHAR"] = [
            str(
                (datetime.fromisoformat(s) - datetime(1970, 1, 1, tzinfo=UTC))
                // timedelta(milliseconds=1)
            )
            for s in stamps
        ]
    numbers = []
    for row in rows:
        fields = [one for one in row.get("fields") or [] if one["name"].lower() == name]
        typed = fields[0].get("field") if len(fields) == 1 else None
        if (
            not isinstance(typed, dict)
            or set(typed) != {"_type", "value"}
            or typed["_type"] not in ("LongField", "IntField")
            or type(typed["value"]) is not int
            or fields[0]["name"] != name
        ):
            return found
        numbers.append(str(typed["value"]))
    if rows:
        found[f"{name}::VARCHAR"] = numbers
    return found


def _entry(target: str) -> Entry:
    if TARGETS[target]:
        return replace(Entry.from_api("record", RECORDS[target].to_api()), name=target)
    return replace(Entry.from_api("metric", METRICS[target].to_api()), name=target)


def _shown(case: Json) -> str:
    return f"case: {json.dumps(case)}"


@contextlib.contextmanager
def fuzzing() -> Iterator[Fuzz]:
    """Everything a case needs, gone afterwards."""
    vendor = Vendor()
    with (
        tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as folder,
        serve(vendor.answer) as server,
        contextlib.closing(Fuzz(Path(folder), server, vendor)) as fuzz,
    ):
        yield fuzz


def run(number: int, first_seed: int) -> Counter[str]:
    """How many cases ended how; raises `Violation` with the smallest case that breaks the rule."""
    with fuzzing() as fuzz:

        def check(case: Json) -> str:
            faulthandler.dump_traceback_later(6 * SECONDS_A_CASE, exit=True)
            return fuzz.check(case)

        try:
            return count_ends(check, cases, number, first_seed)
        finally:
            faulthandler.cancel_dump_traceback_later()


def count_ends(
    check: Callable[[Json], str], strategy: SearchStrategy[Json], number: int, first_seed: int
) -> Counter[str]:
    """Check generated cases; how many ended how. A violation is reduced to its smallest case."""
    ends: Counter[str] = Counter()

    @seed(first_seed)
    @settings(
        max_examples=number,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    @given(case=strategy)
    def one(case: Json) -> None:
        ends[check(case)] += 1

    one()
    return ends
