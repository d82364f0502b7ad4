"""The files of marts: a header in comments, and a SELECT over roles and other marts.

The header has the question that the mart answers, then `requires:` and `per:`, then a line
`name TYPE: comment` for each column. A line that begins with more spaces continues the line before.

`requires:` lists the roles without which the mart is not made; `a|b` means one of the two. A file
with `per:` is a mart for each of these periods: its column `period` gets the name of the period.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import takewhile
from pathlib import Path

from dixa_assets.model.days import ENDINGS
from dixa_assets.model.tables import MARTS, Column, Table

COLUMN = re.compile(r"-- (\w+) ([A-Z]+(?:\[\])?): (.+)")


@dataclass(frozen=True)
class Mart:
    """A mart, as its file describes it.

    Args:
        table: The name and the columns of its view, and the question that it answers.
        body: The SELECT.
        requires: Groups of roles: the mart needs one role of each group.
        period: `day`, `week` or `month` if a row belongs to one; otherwise empty.
    """

    table: Table
    body: str
    requires: tuple[frozenset[str], ...] = ()
    period: str = ""

    @property
    def name(self) -> str:
        """The name of the view."""
        return self.table.name

    @cached_property
    def reads(self) -> frozenset[str]:
        """Every name after FROM or JOIN: roles, other marts, and CTEs of the mart."""
        return frozenset(re.findall(r"\b(?:FROM|JOIN)\s+(\w+)", self.body))


@cache
def read_marts() -> tuple[Mart, ...]:
    """Read all files."""
    paths = sorted(Path(__file__).parent.glob("*.sql"))
    return tuple(mart for path in paths for mart in _parse(path.stem, path.read_text("utf-8")))


def _parse(stem: str, text: str) -> Iterator[Mart]:
    head = [*takewhile(lambda line: line.startswith("--"), text.splitlines())]
    body = "\n".join(text.splitlines()[len(head) :])
    header = re.sub(r"\n--  +", " ", "\n".join(head))
    options = dict(re.findall(r"^-- (requires|per): (.+)$", header, re.MULTILINE))
    requires = options.get("requires", "").replace("| ", "|").split()
    periods = options.get("per", "").split() or [""]
    for period in periods:
        own = header.replace("{period}", period)
        question = re.sub(r"(?m)^-- ?", "", own.partition("\n--\n")[0]).replace("\n", " ")
        columns = tuple(
            Column(period if name == "period" else name, type_, comment)
            for name, type_, comment in COLUMN.findall(own)
        )
        name = f"{stem}_{ENDINGS[period]}" if len(periods) > 1 else stem
        groups = tuple(frozenset(each.split("|")) for each in requires)
        yield Mart(Table(MARTS, name, question, columns), body, groups, period)
