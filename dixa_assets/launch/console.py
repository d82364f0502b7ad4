"""Filters Dagster's output for the console: loads, catalogue changes, warnings and errors.

The log file receives every line. Starting processes does not belong here.
"""

import logging
import re
import shlex
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path

from dixa_assets.errors import printable

LOG_BYTES = 10_000_000
WIDTH = 100

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_RECORD = re.compile(
    r"(?P<at>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) [+-]\d{4} - \S+ - (?P<level>[A-Z]+) - (?P<text>.*)"
)
_EVENT = re.compile(
    r"\S+ - (?P<run>[0-9a-f-]{36}) - \d+ - (?:\S+ - )?(?P<type>[A-Z_]+) - (?P<text>.*)"
)
_MATERIALIZED = re.compile(r"Materialized value (?P<asset>.+)\.")
_ENDINGS = {"RUN_SUCCESS": "ended", "RUN_FAILURE": "FAILED", "RUN_CANCELED": "cancelled"}
_CATALOGUE = re.compile(r"Sensor dixa_catalogue skipped: (?P<found>.+)")

# This warning is wrong here: DAGSTER_HOME contains a link to that dagster.yaml.
_HARMLESS_WARNING = (
    "Found a dagster instance configuration value (dagster.yaml) in the current folder"
)


def lines_to_show(output: Iterable[str], ui: str) -> Iterator[str]:
    """The lines of Dagster's output to show; those about loads and the catalogue are shortened.

    A line in an unknown format is shown unchanged: a traceback, the last output of a process that
    died, or every line if Dagster changes its format.
    """
    # When each run started, and the assets of its materializations.
    runs: dict[str, tuple[datetime, list[str]]] = {}
    for line in output:
        record = _RECORD.match(line)
        if record is None:
            if line.strip():
                yield line
            continue
        text, time = record["text"], record["at"][11:]
        if record["level"] not in ("DEBUG", "INFO") and _HARMLESS_WARNING not in text:
            yield line
        if found := _CATALOGUE.match(text):
            if not text.endswith("nothing new."):
                news = f"Catalogue: {found['found']}"
                yield f"{time}  {textwrap.shorten(news, WIDTH, placeholder=' …')}"
        elif event := _EVENT.match(text):
            at, run, kind = datetime.fromisoformat(record["at"]), event["run"], event["type"]
            if kind == "RUN_START":
                runs[run] = at, []
                yield f"{time}  Load begun: {ui}/runs/{run}"
            elif kind in _ENDINGS:
                totals = _totals(*runs.pop(run, (at, [])), at)
                yield f"{time}  Load {_ENDINGS[kind]}: {totals}"
            elif run in runs and (asset := _MATERIALIZED.match(event["text"])):
                runs[run][1].append(asset["asset"].replace(" ", "/"))


def _totals(started_at: datetime, materialized: Sequence[str], ended_at: datetime) -> str:
    assets = sorted(set(materialized))
    loaded = ", ".join(assets) if len(assets) <= 3 else f"{len(assets)} assets"
    if len(materialized) > len(assets):
        loaded += f", {len(materialized):,} days"
    minutes, seconds = divmod(round((ended_at - started_at).total_seconds()), 60)
    duration = f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    return f"{loaded or 'nothing'} in {duration}"


def banner(
    title: str,
    *,
    ui: str,
    log: Path,
    report: Path | None,
    read_copy: Path | None,
    probe: Path | None = None,
) -> str:
    """The text above the output: the addresses and files to open first, in ten lines."""
    query = "set DIXA_READ_COPY_PATH to get a copy that you can keep open"
    if read_copy:
        show = "print(sql('SELECT partition_date, value FROM dixa_metrics.csat'))"
        copy = _relative(read_copy)
        code = f"import duckdb; sql = duckdb.connect({copy!r}, True).sql; {show}"
        query = f'{shlex.quote(_relative(Path(sys.executable)))} -ic "{code}"'
    written = _relative(report) if report else "set DIXA_REPORT_PATH to get one"
    places = {
        "Assets": f"{ui}/assets",
        "CSAT": f"{ui}/assets/dixa_metrics/csat?view=events",
        "Report": f"{written}, written after the loads",
        "Query": query,
        "Log": _relative(log),
    }
    if probe:
        places["Probe"] = f"{_relative(probe)}, how the API behaves where it is not documented"
    lines = "".join(f"  {name:6}  {place}\n" for name, place in places.items())
    return f"\n{title}\n\n{lines}\nCtrl-C stops everything. The next start continues from here."


def _relative(path: Path) -> str:
    """The path as seen from the working folder, if it is below it."""
    cwd = Path.cwd()
    return str(path.relative_to(cwd) if path.is_relative_to(cwd) else path)


def log_writer(path: Path) -> Callable[[str], str]:
    """A function that appends a line to a file without colours, and returns the plain line.

    A full file is renamed and a new one started. One old file is kept.
    """
    log = logging.getLogger("dixa_assets.launch")
    log.propagate = False
    log.setLevel(logging.INFO)
    log.addHandler(RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=1, encoding="utf-8"))
    # On a full disk, each line would print a stack trace.
    logging.raiseExceptions = False

    def write(line: str) -> str:
        # Texts of Dixa in it must not control the terminal.
        plain = printable(_COLOUR.sub("", line.rstrip("\r\n")).expandtabs())
        log.info(plain)
        return plain

    return write
