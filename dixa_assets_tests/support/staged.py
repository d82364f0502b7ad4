"""Requests for entries of the simulator, and the rows that they stage."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dixa_assets.api.requests import FilterValue, Request
from dixa_assets.model.catalogue import Entry, Kind
from dixa_assets.model.options import LoadSpec
from dixa_assets.simulator.metrics import METRICS
from dixa_assets.simulator.records import RECORDS
from dixa_assets.staging import Staged
from dixa_assets_tests.support.simulator import COPENHAGEN

# A staged row: own columns by name, the API's fields by (name, part).
Line = dict[Any, Any]
# Extracts a day, by default `DAY`.
Extracted = Callable[..., Staged]


def lines(staged: Staged) -> list[Line]:
    """The staged rows, with the API's fields under (name, part) instead of short keys."""
    staged.close()
    sources = {key: source for source, key in staged.keys.items()}
    found = [json.loads(line) for line in staged.path.read_text().splitlines()]
    assert len(found) == staged.rows
    return [{sources.get(key, key): value for key, value in line.items()} for line in found]


def spec_of(kind: Kind, entry_id: str, timezone: str = COPENHAGEN, **settings: Any) -> LoadSpec:
    """How an entry of the simulator is loaded."""
    described = METRICS[entry_id] if kind == "metric" else RECORDS[entry_id]
    entry = replace(Entry.from_api(kind, described.to_api()), name=entry_id)
    return LoadSpec(entry, timezone, **settings)


def metric_request(
    metric_id: str,
    filters: Mapping[str, Sequence[str]] | None = None,
    breakdowns: Mapping[str, Sequence[FilterValue]] | None = None,
) -> Request:
    return Request(spec_of("metric", metric_id), filters or {}, breakdowns or {})


def record_request(
    record_id: str, filters: Mapping[str, Sequence[str]] | None = None, **settings: Any
) -> Request:
    return Request(spec_of("record", record_id, **settings), filters or {})
