"""Cases with their targets, the rows of their measurements, and the page with the table."""

import operator
import os
import platform
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import dagster as dg
import duckdb

BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"
HEADER = "| case | ours | floor | alternative | ratio | target |\n|---|---|---|---|---|---|"
COMPARE = {"≤": operator.le, "≥": operator.ge, "=": operator.eq}


@dataclass(frozen=True)
class Row:
    """A row of a table: what is measured, how the ratio is written, and its target.

    Attributes:
        title: The first column, with the sizes of a whole run.
        sign: `≤`, `≥` or `=`; empty without a target.
        bound: The target of the median.
        form: The format of the ratio and of the bound.
        also: The rest of the target, in words; `Found.flawless` says whether it is met.
    """

    title: str
    sign: str = ""
    bound: float = 0.0
    form: str = "{:.2f}"
    also: str = ""

    @property
    def target(self) -> str:
        return f"{self.sign} {self.form.format(self.bound)}{self.also}" if self.sign else ""


@dataclass(frozen=True)
class Found:
    """The measurement of a row. Several `values` give a median, the least and the greatest."""

    ours: str = ""
    floor: str = ""
    alternative: str = ""
    values: Sequence[float] = ()
    flawless: bool = True


@dataclass(frozen=True)
class Case:
    """One thing to run, which fills some rows of a table.

    Attributes:
        name: The name on the command line.
        measure: Gets an empty folder and whether to use small sizes. Yields a `Found` for each row,
            in their order, and texts for below the table.
        rows: The rows.
        runs: `always`, `whole` (not in a quick run) or `named` (only by its name).
    """

    name: str
    measure: Callable[[Path, bool], Iterator[Found | str]]
    rows: tuple[Row, ...] = ()
    runs: str = "always"


def is_met(row: Row, found: Found) -> bool | None:
    """Whether a measurement meets its target; None without a target or a value."""
    if not row.sign or not found.values:
        return None
    return bool(COMPARE[row.sign](median(found.values), row.bound)) and found.flawless


def line(row: Row, found: Found, *, quick: bool = False) -> str:
    """A row in Markdown; a quick run has no targets, because small sizes cost more for each row."""
    ratio = row.form.format(median(found.values)) if found.values else ""
    if len(found.values) > 1:
        least, greatest = (row.form.format(each(found.values)) for each in (min, max))
        ratio += f" ({least}–{greatest})"
    if not quick:
        ratio += {None: "", True: " ✓", False: " **missed**"}[is_met(row, found)]
    cells = (row.title, found.ours, found.floor, found.alternative, ratio)
    return "| " + " | ".join([*cells, "" if quick else row.target]) + " |"


def table(lines: Sequence[str]) -> str:
    """The table of some rows, with the date and the machine."""
    machine = (
        f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, Dagster {dg.__version__}, DuckDB {duckdb.__version__}"
    )
    return "\n".join(
        [HEADER, *lines, "", f"Measured {datetime.now(UTC):%Y-%m-%d} in one run on {machine}."]
    )


def put_between_marks(page: Path, texts: Sequence[str]) -> None:
    """Replace what a page has between its two marks."""
    content = page.read_text()
    assert BEGIN in content, page
    new = "\n\n".join([BEGIN, *texts, END])
    page.write_text(re.sub(rf"{BEGIN}.*{END}", lambda _: new, content, flags=re.DOTALL))
