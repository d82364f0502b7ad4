"""Whole answers that are errors, truncated, or in another order: a day is exact, or it failed.

Each case loads the same day again, through loader and database. A case is JSON: the rows of the
vendor, how it answers, and the requests that get another answer.
"""

import json
import logging
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from dixa_assets.errors import DaysFailed
from dixa_assets.model.catalogue import Entry
from dixa_assets.model.days import Day
from dixa_assets.model.options import LoadSpec
from dixa_assets.warehouse.settings import WarehouseSettings
from dixa_assets.warehouse.warehouse import Warehouse
from dixa_assets_tests.stress.fuzz import Violation, count_ends
from dixa_assets_tests.support.errors_with_200 import BODIES
from dixa_assets_tests.support.handmade import selected
from dixa_assets_tests.support.loading import load_days
from dixa_assets_tests.support.serve import Request, Response, Server, serve
from dixa_assets_tests.support.simulator import COPENHAGEN, Json
from dixa_assets_tests.support.unstable import Event, UnstableVendor

DAY = Day.of(date(2025, 10, 26), COPENHAGEN)
SPEC = LoadSpec(Entry("record", "events", "events"), COPENHAGEN)
# More requests than this are a finding of their own.
MOST_REQUESTS = 400
LOST_LINK, NO_DATA = "lost link", "no data"

cases = st.fixed_dictionaries(
    {
        "rows": st.integers(0, 40) | st.sampled_from([99, 100, 299, 300, 301, 600, 700, 900]),
        # Seconds of the day in which the rows lie, and the ticks in which they are counted.
        "start": st.integers(0, 80_000),
        "seconds": st.sampled_from([0.0, 0.001, 0.003, 1.0, 600.0, 9000.0]),
        "tick": st.sampled_from([0.0001, 0.001, 1.0, 60.0]),
        # Different rows of each timestamp.
        "kinds": st.sampled_from([1, 2, 10_000, 10_000]),
        "order": st.sampled_from(["stable", "ties", "shuffled"]),
        "is_newest_first": st.booleans(),
        "is_end_exclusive": st.booleans(),
        "largest_page": st.sampled_from([300, 300, 100, 37]),
        "precision": st.sampled_from([1, 1, 1, 1, 1_000_000]),
        "seed": st.integers(0, 99),
        # By the number of the request, what is sent once or from then on.
        "answers": st.lists(
            st.fixed_dictionaries(
                {
                    "first": st.integers(0, 12),
                    "times": st.sampled_from([1, 2, 99]),
                    "body": st.sampled_from([LOST_LINK, NO_DATA, *BODIES]),
                }
            ),
            max_size=2,
        ),
    }
)


@dataclass
class Days:
    """A database whose one day is loaded again in each case."""

    server: Server
    warehouse: Warehouse

    def check(self, case: Json) -> str:
        """Load the case's day: `exact`, or the error. Raises `Violation`."""
        events = [
            Event(at, number % case["kinds"])
            for number in range(case["rows"])
            if (at := _instant(case, number)) < DAY.period.end
        ]
        vendor = UnstableVendor(
            events,
            case["seed"],
            case["largest_page"],
            case["is_end_exclusive"],
            case["is_newest_first"],
            is_shuffled=case["order"] == "shuffled",
            is_stable=case["order"] == "stable",
            precision=case["precision"],
        )
        self.server.answer = lambda request: _answer(vendor, case, request)
        before = self._rows()
        end = "exact"
        try:
            load_days(self.server.url, self.warehouse, SPEC, [DAY], threads=1)
        except DaysFailed as error:
            end = type(error.failed[str(DAY)]).__name__
            expected = before
        else:
            expected = Counter((_micros(event), event.number) for event in events)
        if self.server.failure:
            raise RuntimeError(json.dumps(case)) from self.server.failure
        if (found := self._rows()) != expected:
            lacking, extra = expected - found, found - expected
            raise Violation(f"{end}: {lacking.total()} lack, {extra.total()} extra\n{_shown(case)}")
        if len(vendor.requests) > MOST_REQUESTS:
            raise Violation(f"{end} after {len(vendor.requests)} requests\n{_shown(case)}")
        return end

    def _rows(self) -> Counter[tuple[Any, ...]]:
        sql = "SELECT epoch_us(primary_timestamp), number FROM dixa_records.events"
        return Counter(selected(self.warehouse, sql))


def _instant(case: Json, number: int) -> Any:
    share = case["seconds"] * number / max(case["rows"], 1)
    ticks = share // case["tick"] * case["tick"]
    return DAY.period.start + timedelta(seconds=case["start"]) + timedelta(seconds=ticks)


def _micros(event: Event) -> int:
    return (event.at - DAY.period.start) // timedelta(microseconds=1) + int(
        DAY.period.start.timestamp() * 1_000_000
    )


def _answer(vendor: UnstableVendor, case: Json, request: Request) -> Response:
    response = vendor.answer(request)
    number = len(vendor.requests) - 1
    for other in case["answers"]:
        if other["first"] <= number < other["first"] + other["times"]:
            if other["body"] == LOST_LINK:
                # Only a full page shows that its link is lost.
                size = min(int(request.query.get("pageLimit", 0)), vendor.largest_page)
                if len(response.content["data"]) == size == 300:
                    response.content["meta"] = {}
            elif other["body"] == NO_DATA:
                if "pageKey" in request.query:
                    return Response({"meta": {}})
            else:
                return Response(other["body"])
    return response


def _shown(case: Json) -> str:
    return f"case: {json.dumps(case)}"


@contextmanager
def fuzzing() -> Iterator[Days]:
    """A server and a database for many cases."""
    memory = Path("/dev/shm")
    logging.getLogger("dixa_assets").setLevel(logging.ERROR)
    with (
        tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder,
        serve(lambda _: Response({})) as server,
    ):
        path = Path(folder) / "w.duckdb"
        warehouse = Warehouse(path, WarehouseSettings(timezone=COPENHAGEN))
        server.answer = UnstableVendor([Event(DAY.period.start, 0)]).answer
        load_days(server.url, warehouse, SPEC, [DAY])
        yield Days(server, warehouse)


def run(number: int, first_seed: int) -> Counter[str]:
    """The number of cases by their end; raises `Violation` with the smallest bad case."""
    with fuzzing() as days:
        return count_ends(days.check, cases, number, first_seed)
