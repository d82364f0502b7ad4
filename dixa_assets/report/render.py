"""The report: one HTML file, readable without a network and without a script.

Strings of the catalogue and of rows are not trusted: they are escaped, only the one script of the
file runs, and the page can fetch nothing.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, date, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from jinja2 import Environment, StrictUndefined

from dixa_assets.files import replace_text
from dixa_assets.model.options import Options
from dixa_assets.report import formats
from dixa_assets.report.charts import Chart, Figure, spark
from dixa_assets.report.compare import FEW, Compared
from dixa_assets.report.contents import DAYS, Report, gather
from dixa_assets.report.overview import period_name
from dixa_assets.report.queries import RIPE_PERCENT
from dixa_assets.warehouse.warehouse import Warehouse

# The head of a report, now and in earlier releases.
REPORT_MARKS = ('<meta name="generator" content="dixa_assets">', "<title>Dixa report</title>")
MARKS = {"passed": "✓", "failed": "✗", "open": "?", "broken": "!"}


def write_report(
    warehouse: Warehouse,
    path: Path,
    *,
    options: Options,
    now: datetime | None = None,
    days: int = DAYS,
    setting: str = "report_path",
) -> Report:
    """Write the report to `path` and return its contents.

    The file is replaced as a whole, or does not change. The database is locked while it is read,
    not while the file is written. A section that cannot be made is left out, and named.

    Args:
        warehouse: The database.
        path: The HTML file; its folder is made if it is missing.
        options: How loads are configured, with the findings of the probe.
        now: The instant of the report, with a zone; by default the current one.
        days: The most days that the report shows.
        setting: The setting that names the path, for errors.

    Raises:
        ConfigError: The file cannot be written, or is not a report of this project.
    """
    with warehouse.reading() as query:
        report = gather(query, options=options, now=now or datetime.now(UTC), days=days)
    html = _to_html(report)
    replace_text(path, html, marks=REPORT_MARKS, setting=setting)
    return report


def judgement(compared: Compared) -> str:
    """Whether a figure is as usual, with the reason, as a sentence."""
    unit = compared.measure.unit
    change, normal = compared.change, compared.normal
    if change is None or normal is None:
        if not compared.is_ripe:
            return "Not final: ratings still come in."
        few = compared.n is not None and compared.n < FEW
        return f"Fewer than {FEW} {compared.measure.cases}." if few else "Too little to compare."
    about = "" if compared.is_ripe else "ripe days, "
    about = f"({about}normal ±{formats.size(normal, unit).removesuffix(' points')})"
    if not compared.has_moved:
        return f"As usual {about}"
    direction = "above" if change > 0 else "below"
    return f"{formats.size(change, unit)} {direction} usual {about}"


class Figures:
    """Collects the numbers of charts and tables while a page is rendered."""

    def __init__(self) -> None:
        self._found: list[dict[str, Any]] = []
        self._axes: dict[int, Sequence[Any]] = {}

    def add(self, figure: Figure, chart: Chart | None = None) -> int:
        """Add a figure; its place in the data of the page."""
        columns: dict[str, Any] = {**figure.columns}
        if chart:
            axis = next(iter(columns))
            self._axes[id(columns[axis])] = columns[axis]
            columns[axis] = [*self._axes].index(id(columns[axis]))
        self._found.append(
            {
                "name": figure.name,
                "columns": [[name, values] for name, values in columns.items()],
                "lines": {**chart.lines} if chart else {},
                "unit": chart.unit if chart else "",
            }
        )
        return len(self._found) - 1

    def to_json(self) -> str:
        """JSON for a script element: it contains no tag and no comment."""
        data = {"axes": [*self._axes.values()], "figures": self._found}
        text = json.dumps(
            data, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=str
        )
        return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _to_html(report: Report) -> str:
    folder = files(__package__)
    source = {kind: (folder / f"page.{kind}").read_text("utf-8") for kind in ("html", "css", "js")}
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    zone, figures = ZoneInfo(report.timezone), Figures()
    environment.globals.update(
        MARKS=MARKS,
        FEW=FEW,
        RIPE_PERCENT=RIPE_PERCENT,
        human=formats.human,
        judgement=judgement,
        period_name=period_name,
        spark=spark,
        figures=figures,
    )
    environment.filters.update(
        shown=formats.shown,
        brief=formats.brief,
        size=formats.size,
        signed=formats.signed,
        day=formats.day_name,
        weekday=lambda day: f"{day:%A}",
        instant=lambda at: f"{formats.day_name(local := at.astimezone(zone))}, {local:%H:%M %Z}",
        ago=lambda at: formats.ago((report.now - at).total_seconds()),
        cell=_cell,
    )
    html = environment.from_string(source["html"]).render(
        report=report,
        css=source["css"],
        script=source["js"],
        # No other script runs, even if a text contains one.
        digest=base64.b64encode(hashlib.sha256(source["js"].encode()).digest()).decode(),
    )
    return html.lstrip()


def _cell(value: object) -> str:
    """A figure of a check's case."""
    if value is None:
        return "–"
    if isinstance(value, date):
        return formats.day_name(value)
    return f"{value:,.6g}" if isinstance(value, float) else str(value)
