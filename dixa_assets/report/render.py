"""The report: one HTML file with a page for each metric and record, readable without a network.

The file contains plotly.js, which draws a chart from the embedded numbers when it comes into view.
Strings of the catalogue are not trusted: they are escaped, only the two scripts of the file run,
and the page can fetch nothing.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, date, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

from jinja2 import Environment, StrictUndefined
from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

from dixa_assets import private
from dixa_assets.model.catalogue import Entry
from dixa_assets.model.options import Options
from dixa_assets.report.contents import Chart, Latest, Report
from dixa_assets.report.gather import DAYS, WEEKS, gather
from dixa_assets.warehouse.warehouse import Warehouse

SECONDS = {"milliseconds": 0.001, "seconds": 1.0, "minutes": 60.0, "hours": 3600.0}
MARKS = {"passed": "✓", "failed": "✗", "open": "?"}


def write_report(
    warehouse: Warehouse,
    path: Path,
    *,
    options: Options,
    now: datetime | None = None,
    days: int = DAYS,
) -> Report:
    """Write the report to `path` and return its contents.

    The file is replaced as a whole, or does not change. The database is locked while it is read,
    not while the file is written.

    Args:
        warehouse: The database.
        path: The HTML file; its folder is made if it is missing.
        options: How loads are configured, with the findings of the probe.
        now: The instant of the report, with a zone; by default the current one.
        days: The most days that the report shows.
    """
    with warehouse.reading() as query:
        report = gather(query, options=options, now=now or datetime.now(UTC), days=days)
    html = _to_html(report)
    private.make_folder(path.parent)
    unfinished = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        private.write_text(unfinished, html)
        private.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return report


def shown(value: float, unit: str) -> str:
    """Format a number of a unit: `1,204`, `87.5%`, `5 min 12 s`."""
    if unit in SECONDS:
        return duration(value * SECONDS[unit])
    places = 1 if unit == "percent" else 2
    text = f"{value:,.{places}f}" if abs(value) >= 1 or not value else f"{value:.3g}"
    text = text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text
    return f"{text}%" if unit == "percent" else text


def duration(seconds: float) -> str:
    """Format seconds as `42 s`, `5 min 12 s` or `3 h 05 min`."""
    sign, whole = "-" if seconds < 0 else "", round(abs(seconds))
    if whole < 60:
        return f"{sign}{round(abs(seconds), 1):g} s"
    if whole < 3600:
        return f"{sign}{whole // 60} min {whole % 60:02} s"
    minutes = round(abs(seconds) / 60)
    return f"{sign}{minutes // 60:,} h {minutes % 60:02} min"


def difference(latest: Latest) -> str:
    """The difference between a value and the usual one, in words."""
    if latest.usual is None:
        return ""
    off = latest.value - latest.usual
    if abs(off) <= 1e-9 * max(1.0, abs(latest.value)):
        return "the same"
    if latest.unit == "percent":
        size = f"{abs(off):.1f} points" if abs(off) >= 0.05 else "less than 0.1 points"
    else:
        size = shown(abs(off), latest.unit)
    return f"{size} {'above' if off > 0 else 'below'}"


def link_of(entry: Entry) -> str:
    """The part after '#' of the address of an entry's page."""
    return entry.name if entry.kind == "metric" else f"records.{entry.name}"


def _to_html(report: Report) -> str:
    folder = files(__package__)
    source = {kind: (folder / f"page.{kind}").read_text("utf-8") for kind in ("html", "css", "js")}
    scripts = [get_plotlyjs(), source["js"]]
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    zone = ZoneInfo(report.timezone)
    environment.globals.update(difference=difference, link_of=link_of, WEEKS=WEEKS, MARKS=MARKS)
    environment.filters.update(
        shown=shown,
        day=_day,
        weekday=lambda day: f"{day:%A}",
        instant=lambda at: f"{_day(at.astimezone(zone))}, {at.astimezone(zone):%H:%M %Z}",
        ago=lambda at: _ago((report.now - at).total_seconds()),
        cell=_cell,
    )
    html = environment.from_string(source["html"]).render(
        report=report,
        css=source["css"],
        scripts=scripts,
        # No other script runs, even if a text contains one.
        script_sources=" ".join(f"'sha256-{_digest(script)}'" for script in scripts),
        data=_embedded(_data(report)),
    )
    return html.lstrip()


def _data(report: Report) -> dict[str, Any]:
    """The numbers of the charts."""
    return {
        "days": [str(day) for day in report.days],
        "odd_days": report.odd_days,
        "pages": {
            link_of(page.entry): {
                "title": page.title,
                "states": page.states,
                "lags": page.lags,
                "charts": [_chart_data(chart) for chart in page.charts],
                "latest": [asdict(latest) | {"day": str(latest.day)} for latest in page.latest],
                "breakdowns": [
                    [_chart_data(chart) for chart in breakdown.charts]
                    for breakdown in page.breakdowns
                ],
            }
            for page in report.pages
        },
    }


def _chart_data(chart: Chart) -> dict[str, Any]:
    return {
        "measure": chart.measure,
        "attribute": chart.attribute or None,
        "value": chart.value or None,
        "label": chart.label or None,
        "unit": chart.unit,
        "series": [
            {"status": status or None, "values": values} for status, values in chart.series.items()
        ],
    }


def _embedded(data: Mapping[str, Any]) -> str:
    """JSON for a script element: it contains no tag and no comment."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _day(day: date) -> str:
    return f"{day:%a} {day.day} {day:%b %Y}"


def _ago(seconds: float) -> str:
    hours = max(seconds, 0) / 3600
    if hours < 1:
        return "under 1 h ago"
    return f"{hours:.0f} h ago" if hours < 48 else f"{hours / 24:.0f} days ago"


def _cell(value: object) -> str:
    """A figure of a check's case."""
    if value is None:
        return "–"
    return f"{value:,.6g}" if isinstance(value, float) else str(value)
