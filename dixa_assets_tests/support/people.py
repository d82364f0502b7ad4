"""A vendor whose rows, filter values and breakdowns a test writes, and a search for bytes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from dixa_assets.model.catalogue import Aggregation, Entry, FieldMetadata, FilterAttribute
from dixa_assets_tests.support.serve import Request, Response
from dixa_assets_tests.support.simulator import Json

RECORD = Entry(
    "record",
    "calls",
    "calls",
    "Calls",
    filters=(FilterAttribute("agent_id"),),
    fields=(FieldMetadata("contact_point", "Who called"), FieldMetadata("agent_id")),
)
METRIC = Entry(
    "metric",
    "calls",
    "calls",
    "Calls",
    filters=(FilterAttribute("agent_id"),),
    aggregations=(Aggregation("Count"),),
    related_ids=("calls",),
)


def text(value: str | None, label: str | None = None) -> Json:
    """A StringField of the API."""
    typed: Json = {"_type": "StringField", "value": value}
    return typed | ({"label": label} if label else {})


@dataclass
class People:
    """Answers each day with the same rows, one second apart, and counts them.

    `rows` has the typed values by field, `agents` the labels by value of `agent_id`.
    `before_answer` runs before each answer about rows.
    """

    rows: Sequence[Mapping[str, Any]]
    agents: Mapping[str, str] = field(default_factory=dict)
    before_answer: Callable[[], object] = lambda: None

    def answer(self, request: Request) -> Response:
        if request.method == "GET":
            values = [{"value": key, "label": label} for key, label in self.agents.items()]
            return Response({"data": values})
        body = request.json()
        if request.path.endswith("/metrics"):
            count = {"_type": "LongAggregateValue", "measure": "Count", "value": len(self.rows)}
            return Response({"data": {"id": body["id"], "aggregates": [count]}})
        self.before_answer()
        start = datetime.fromisoformat(body["periodFilter"]["start"])
        return Response({"data": [*self._rows(start)]})

    def _rows(self, start: datetime) -> Iterator[Json]:
        for second, row in enumerate(self.rows):
            at = start.replace(second=second).isoformat().replace("+00:00", "Z")
            fields = [{"name": name, "field": typed} for name, typed in row.items()]
            yield {"primaryTimestampField": {"name": "at", "timestamp": at}, "fields": fields}


def files_with(folder: Path, *texts: str) -> set[str]:
    """The names of the files below a folder that contain one of the texts, in any case."""
    wanted = [each.casefold().encode() for each in texts]
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and any(each in path.read_bytes().lower() for each in wanted)
    }
