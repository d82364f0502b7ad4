"""What people see of Dagster's output: loads, news of the catalogue, and whatever goes wrong.

Everything else that Dagster's processes say is in the log file, and in the UI as ever.
"""

import logging
import re
import shlex
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path

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
_CATALOGUE = re.compile(r"Sensor dixa_catalogue skipped: (?P<found>.+)")

# A warning about the dagster.yaml beside DAGSTER_HOME, which there is a link to.
_NEEDLESS = "Found a dagster instance configuration value (dagster.yaml) in the current folder"


@dataclass
class _Run:
    begun: datetime
    materialized: list[str] = field(default_factory=list)


class Console:
    """Chooses and words the lines to show.

    A line that is not recognised as one of Dagster's lesser ones is shown as it is: tracebacks,
    the last words of a process that died, and everything should Dagster change its format.

    Args:
        ui: The address of Dagster's UI.
    """

    def __init__(self, ui: str) -> None:
        self._ui = ui
        self._runs: dict[str, _Run] = {}

    def shown(self, line: str) -> Iterator[str]:
        """What to show for a line of output: nothing for most."""
        record = _RECORD.match(line)
        if record is None:
            if line.strip():
                yield line
            return
        if record["level"] not in ("DEBUG", "INFO") and _NEEDLESS not in record["text"]:
            yield line
        if said := self._in_words(record["text"], datetime.fromisoformat(record["at"])):
            yield f"{record['at'][11:]}  {said}"

    def _in_words(self, text: str, at: datetime) -> str:
        if found := _CATALOGUE.match(text):
            news = "" if found["found"].endswith("nothing new.") else f"Catalogue: {found['found']}"
            return textwrap.shorten(news, WIDTH, placeholder=" …")
        event = _EVENT.match(text)
        if event is None:
            return ""
        if event["type"] == "RUN_START":
            self._runs[event["run"]] = _Run(at)
            return f"Load begun: {self._ui}/runs/{event['run']}"
        if event["type"] == "ASSET_MATERIALIZATION" and event["run"] in self._runs:
            if asset := _MATERIALIZED.match(event["text"]):
                self._runs[event["run"]].materialized.append(asset["asset"].replace(" ", "/"))
        elif event["type"] in ("RUN_SUCCESS", "RUN_FAILURE", "RUN_CANCELED"):
            run = self._runs.pop(event["run"], _Run(at))
            how = {"RUN_SUCCESS": "ended", "RUN_FAILURE": "FAILED"}.get(event["type"], "cancelled")
            return f"Load {how}: {_summary(run, at)}"
        return ""


def banner(
    title: str,
    *,
    ui: str,
    report: Path | None,
    read_copy: Path | None,
    log: Path,
    ending: str,
    probe: Path | None = None,
) -> str:
    """What to open first, in ten lines."""
    if read_copy is None:
        query = "set DIXA_READ_COPY_PATH for a copy that may be kept open"
    else:
        show = "print(sql('SELECT partition_date, value FROM dixa_metrics.csat'))"
        code = f"import duckdb; sql = duckdb.connect({str(read_copy)!r}, True).sql; {show}"
        query = f'{shlex.quote(str(from_here(Path(sys.executable))))} -ic "{code}"'
    found = f"  Probe   {probe}, what the API does where it is not documented\n" if probe else ""
    return (
        f"\n{title}\n\n"
        f"  Assets  {ui}/assets\n"
        f"  CSAT    {ui}/assets/dixa_metrics/csat?view=events\n"
        f"  Report  {report or 'set DIXA_REPORT_PATH for one'}, once loads have ended\n"
        f"  Query   {query}\n"
        f"{found}"
        f"  Log     {log}\n\n"
        f"{ending}"
    )


def recorder(path: Path) -> Callable[[str], str]:
    """What writes a line to a file and returns it, without colours.

    The file begins anew when it is full, and the one before is kept.
    """
    log = logging.getLogger("dixa_assets.launch")
    log.propagate = False
    log.setLevel(logging.INFO)
    log.addHandler(RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=1, encoding="utf-8"))

    def record(line: str) -> str:
        plain = _COLOUR.sub("", line.rstrip("\n"))
        log.info(plain)
        return plain

    return record


def from_here(path: Path) -> Path:
    """A path as it is written in the working folder, if it lies below."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _summary(run: _Run, at: datetime) -> str:
    assets = sorted(set(run.materialized))
    what = ", ".join(assets) if len(assets) <= 3 else f"{len(assets)} assets"
    if len(run.materialized) > len(assets):
        what += f", {len(run.materialized):,} days"
    minutes, seconds = divmod(round((at - run.begun).total_seconds()), 60)
    took = f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    return f"{what or 'nothing'} in {took}"
