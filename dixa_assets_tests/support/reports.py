"""Reports that tests render and read."""

import json
from collections.abc import Sequence
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dixa_assets.model.options import LoadSettings, Options
from dixa_assets.report.render import write_report
from dixa_assets.warehouse.warehouse import Warehouse
from dixa_assets_tests.support.simulator import NOW

# Nothing is expected before the first loaded day.
OPTIONS = Options(LoadSettings(start_date="2000-01-01", history_days=0))


def rendered(warehouse: Warehouse, now: datetime = NOW, options: Options = OPTIONS) -> str:
    """The report of a warehouse as HTML."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "report.html"
        write_report(warehouse, path, options=options, now=now)
        return path.read_text("utf-8")


class Reader(HTMLParser):
    """A report as a browser reads it: the text of its pages, its references and its scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.pages: dict[str, str] = {}
        self.references: list[str] = []
        self.scripts: list[str] = []
        self.tags: list[str] = []
        self.policy = ""
        self.sql: list[str] = []
        self._page = ""
        self._in: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        self._in.append(tag)
        assert not [name for name in given if name.startswith("on")]
        self.references += [given[name] for name in ("src", "href", "action") if name in given]
        if tag == "article":
            self._page = given["id"]
            self.pages[self._page] = ""
        if tag == "script":
            self.scripts.append("")
        if self._page and tag in ("td", "th", "li", "dd", "p", "span", "label"):
            # Texts in cells side by side are not one word.
            self.pages[self._page] += " "
        if tag == "pre":
            self.sql.append("")
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"]

    def handle_endtag(self, tag: str) -> None:
        self._page = "" if tag == "article" else self._page
        while tag in self._in and self._in.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._in and self._in[-1] == "script":
            self.scripts[-1] += data
        elif self._in and self._in[-1] == "pre":
            self.sql[-1] += data
        elif self._page:
            self.pages[self._page] += data

    def page(self, link: str) -> str:
        """The page's text, with single spaces."""
        return " ".join(self.pages[link].split())

    @property
    def figures(self) -> dict[str, dict[str, list[Any]]]:
        """The columns of each chart and table, by the name of its CSV file."""
        data = json.loads(self.scripts[0])
        return {
            figure["name"]: {
                name: values if isinstance(values, list) else data["axes"][values]
                for name, values in figure["columns"]
            }
            for figure in data["figures"]
        }
