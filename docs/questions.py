"""Write the answers into docs/questions.md, from a database like the demo's.

Run `python -m docs.questions` in the root of the project.
"""

import re
import sys
import tempfile
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from dixa_assets.marts.roles import ROLES
from dixa_assets.model.days import Day
from dixa_assets.simulator.world import World
from dixa_assets.warehouse.sql import Query
from dixa_assets.warehouse.warehouse import Warehouse
from dixa_assets_tests.support.loading import load_days
from dixa_assets_tests.support.marts import Account, filled
from dixa_assets_tests.support.simulator import COPENHAGEN, NOW, running_simulator
from dixa_assets_tests.support.staged import spec_of

PAGE = Path(__file__).with_suffix(".md")
# A query, and the table below it.
BLOCK = re.compile(r"(```sql\n((?s:.+?))```\n)(?:\n(?:\|.*\n)+)?")
# Five whole weeks.
FIRST, LAST = date(2025, 10, 6), date(2025, 11, 9)
RECORDS = [role.ids[0] for role in ROLES if role.kind == "record"]


def fill(account: Account, folder: Path, first: date = FIRST) -> Warehouse:
    """Load every record until `LAST`, and a metric whose late ratings changed a total."""
    rated = Day.of(LAST - timedelta(days=3), COPENHAGEN)
    for now in (rated.period.end + timedelta(hours=6), NOW):
        account.simulator.tell("clock", now=now.isoformat())
        warehouse = Warehouse(folder / "test.duckdb")
        load_days(account.simulator.url, warehouse, spec_of("metric", "csat"), [rated])
    days = [first + timedelta(days=number) for number in range((LAST - first).days + 1)]
    return filled(account, folder, COPENHAGEN, dict.fromkeys(RECORDS, days))[0]


def queries() -> list[str]:
    """The queries of the page."""
    return [query for _, query in BLOCK.findall(PAGE.read_text())]


def page(query: Query) -> str:
    """The page with the answers of a database."""

    def answered(found: re.Match[str]) -> str:
        rows = query(found[2])
        names = rows[0]._fields
        lines = [_line(names), _line(["---"] * len(names)), *map(_line, rows)]
        return "\n".join([found[1], *lines, ""])

    return BLOCK.sub(answered, PAGE.read_text())


def _line(cells: Sequence[Any]) -> str:
    return f"|{'|'.join(f' {text} ' if text else ' ' for text in map(_text, cells))}|"


def _text(cell: Any) -> str:
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return "" if cell is None else re.sub(r"\s+", " ", str(cell)).replace("|", r"\|")


def main() -> int:
    """Write the page."""
    options = ("--rate", "0", "--edge-share", "0.02", "--now", NOW.isoformat())
    with tempfile.TemporaryDirectory() as folder, running_simulator(*options) as simulator:
        warehouse = fill(Account(simulator, World()), Path(folder))
        with warehouse.reading() as query:
            PAGE.write_text(page(query))
    return 0


if __name__ == "__main__":
    sys.exit(main())
