"""Staged rows, and the answers that they come from."""

import json
from typing import Any

from dixa_assets.model.catalogue import Entry
from dixa_assets.simulator.metrics import METRICS
from dixa_assets.simulator.records import RECORDS
from dixa_assets.staging import Staged
from dixa_assets_tests.support.simulator import Simulator

# A staged row: own columns by name, the vendor's fields by (name, part).
Line = dict[Any, Any]


def lines(staged: Staged) -> list[Line]:
    """The staged rows, with the vendor's fields under (name, part) instead of short keys."""
    staged.close()
    sources = {key: source for source, key in staged.keys.items()}
    found = [json.loads(line) for line in staged.path.read_text().splitlines()]
    assert len(found) == staged.rows
    return [{sources.get(key, key): value for key, value in line.items()} for line in found]


def metric_entry(metric_id: str) -> Entry:
    return Entry.from_api("metric", METRICS[metric_id].to_api())


def record_entry(record_id: str) -> Entry:
    return Entry.from_api("record", RECORDS[record_id].to_api())


def answer(simulator: Simulator, data: Any) -> None:
    """Let the simulator answer every request with these data."""
    simulator.tell("faults", kind="status", status=200, body=json.dumps({"data": data}))
