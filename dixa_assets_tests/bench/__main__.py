"""Measures the project against the vendor's limit, a floor and what people would use instead.

`python -m dixa_assets_tests.bench` runs all cases of a page and writes its table. `--quick`, or the
names of cases, print only.
"""

import argparse
import io
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from contextlib import redirect_stderr
from pathlib import Path

from dixa_assets_tests.bench.cases import PAGES
from dixa_assets_tests.bench.table import Case, is_met, line, put_between_marks, table
from dixa_assets_tests.support.processes import PROJECT


def chosen(page: str, names: Sequence[str], *, quick: bool) -> list[Case]:
    """The named cases; without a name, the cases of a page that do not need to be named."""
    if names:
        return [case for cases in PAGES.values() for case in cases if case.name in names]
    runs = {"always"} if quick else {"always", "whole"}
    return [case for case in PAGES[page] if case.runs in runs]


def measure(case: Case, *, quick: bool) -> tuple[list[str], list[str], bool]:
    """Run a case: its rows, its texts for below the table, whether it met its targets."""
    rows, lines, notes, met = iter(case.rows), [], [], True
    # Loads in this process log to stderr.
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, redirect_stderr(io.StringIO()):
        for found in case.measure(Path(folder), quick):
            if isinstance(found, str):
                notes.append(found)
                continue
            row = next(rows)
            lines.append(line(row, found, quick=quick))
            met = met and is_met(row, found) is not False
            print(lines[-1], flush=True)
    assert next(rows, None) is None, f"{case.name}: a row was not measured"
    return lines, notes, met


def main() -> int:
    """Run the command; 1 when a case missed its target."""
    names = [case.name for cases in PAGES.values() for case in cases]
    parser = argparse.ArgumentParser(prog="python -m dixa_assets_tests.bench")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(names))
    parser.add_argument("--page", choices=PAGES, default="benchmarks", help="whose cases to run")
    parser.add_argument("--quick", action="store_true", help="smaller sizes than the rows say")
    options = parser.parse_args()
    if unknown := set(options.cases) - set(names):
        parser.error(f"no case: {', '.join(sorted(unknown))}")
    warnings.simplefilter("ignore")
    began = time.monotonic()
    lines, notes, all_met = [], [], True
    for case in chosen(options.page, options.cases, quick=options.quick):
        more_lines, more_notes, met = measure(case, quick=options.quick)
        lines += more_lines
        notes += more_notes
        all_met = all_met and met
    texts = [table(lines), *notes]
    print("\n\n".join(["", *texts, f"{time.monotonic() - began:.0f} s"]))
    if not options.quick and not options.cases:
        put_between_marks(PROJECT / "docs" / f"{options.page}.md", texts)
    return int(not all_met and not options.quick)


if __name__ == "__main__":
    sys.exit(main())
