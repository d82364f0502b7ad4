"""Filters Dagster's output for the console: loads, catalogue changes, warnings and errors.

The log file receives every line.
"""

import logging
import re
import shlex
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from logging.handlers import RotatingFileHandler
from pathlib import Path

from dixa_assets.errors import printable

LOG_BYTES = 10_000_000
WIDTH = 100
# The shortest time between two progress lines.
PROGRESS = timedelta(seconds=20)

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_RECORD = re.compile(
    r"(?P<at>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) [+-]\d{4} - \S+ - (?P<level>[A-Z]+) - (?P<text>.*)"
)
_EVENT = re.compile(
    r"\S+ - (?P<run>[0-9a-f-]{36}) - \d+ - (?:\S+ - )?(?P<type>[A-Z_]+) - (?P<text>.*)"
)
_MATERIALIZED = re.compile(r"Materialized value (?P<asset>.+)\.")
_ENDINGS = {"RUN_SUCCESS": "ended", "RUN_FAILURE": "FAILED", "RUN_CANCELED": "cancelled"}
# The lines of the lists in Dagster's records, such as the summary of a backfill.
_ITEM = re.compile(r"|- .*|None|\*\*.*\*\*|Reason: .*")
_CATALOGUE = re.compile(
    r"Sensor dixa_catalogue skipped: (?P<all>(?:\d+ metrics and \d+ records\. )?(?P<news>.+))"
)

# This warning is wrong here: DAGSTER_HOME contains a link to that dagster.yaml.
_HARMLESS_WARNING = (
    "Found a dagster instance configuration value (dagster.yaml) in the current folder"
)


def lines_to_show(output: Iterable[str], ui: str) -> Iterator[str]:
    """Yield the lines to show. Lines about loads and the catalogue are shortened.

    A line in an unknown format is shown unchanged: a traceback, the last output of a process that
    died, or every line if Dagster changes its format.
    """
    loads = _Loads(ui)
    is_hidden_list = False
    for line in output:
        record = _RECORD.match(line)
        if record is None:
            is_hidden_list &= _ITEM.fullmatch(line.rstrip()) is not None
            if line.strip() and not is_hidden_list:
                yield line
            continue
        text, time = record["text"], record["at"][11:]
        if record["level"] not in ("DEBUG", "INFO") and _HARMLESS_WARNING not in text:
            is_hidden_list = False
            yield line
        elif text.endswith(":"):
            is_hidden_list = True
        if found := _CATALOGUE.match(text):
            if not text.endswith("nothing new."):
                # If the news are too long, the counts say more.
                news = found["news"] if len(found["news"]) < WIDTH - 11 else found["all"]
                yield _line(time, f"Catalogue: {news}")
        elif event := _EVENT.match(text):
            yield from loads.news(event, datetime.fromisoformat(record["at"]))


@dataclass
class _Loads:
    """The running loads, and the time of the last progress line."""

    ui: str
    # When each run started, and the assets of its materializations.
    runs: dict[str, tuple[datetime, list[str]]] = field(default_factory=dict)
    reported_at: datetime | None = None

    def news(self, event: re.Match[str], at: datetime) -> Iterator[str]:
        """The line about an event of a run, if it is important or the last line is old."""
        run, kind, time = event["run"], event["type"], f"{at:%H:%M:%S}"
        if kind == "RUN_START":
            self.runs[run], self.reported_at = (at, []), at
            yield f"{time}  Load begun: {self.ui}/runs/{run}"
        elif kind in _ENDINGS:
            started_at, materialized = self.runs.pop(run, (at, []))
            minutes, seconds = divmod(round((at - started_at).total_seconds()), 60)
            duration = f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
            loaded = _line(time, f"Load {_ENDINGS[kind]}: {_totals(materialized)}")
            yield f"{loaded} in {duration}"
        elif run in self.runs and (asset := _MATERIALIZED.match(event["text"])):
            self.runs[run][1].append(asset["asset"].replace(" ", "/"))
            if self.reported_at is None or at - self.reported_at >= PROGRESS:
                self.reported_at = at
                loaded_days = [each for _, days in self.runs.values() for each in days]
                assets = len({*loaded_days})
                yield f"{time}  Loading: {len(loaded_days):,} days of {assets} assets so far"


def _totals(materialized: Sequence[str]) -> str:
    assets = sorted({*materialized})
    loaded = ", ".join(assets) or "nothing"
    if len(assets) > 3:
        kinds = Counter(asset.rpartition("/")[0] or asset for asset in assets)
        named = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        loaded = f"{len(assets)} assets ({named})"
    days = f", {len(materialized):,} days" if len(materialized) > len(assets) else ""
    return loaded + days


def _line(time: str, text: str) -> str:
    """A time and a text, which is cut at a word."""
    return f"{time}  {textwrap.shorten(text, WIDTH, placeholder=' …')}"


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
        # The shell ignores the comment.
        query = f'{shlex.quote(_relative(Path(sys.executable)))} -ic "{code}" # after the loads'
    written = "set DIXA_REPORT_PATH to get one"
    if report:
        written = f"{_relative(report)}, written after the loads"
    places = {
        "Assets": f"{ui}/assets",
        "CSAT": f"{ui}/assets/dixa_metrics/csat?view=events",
        "Report": written,
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
        # The line may quote Dixa. Such text must not control the terminal.
        plain = printable(_COLOUR.sub("", line.rstrip("\r\n")).expandtabs())
        log.info(plain)
        return plain

    return write
