"""The shape of the catalogue's lists, compared with Dixa's documentation.

The documentation is the OpenAPI document of Analytics v1: MetricMetadata, MetricRecordMetadata and
their parts. Undocumented parts are read as far as possible, and reported.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from dixa_assets.errors import printable

_FILTERS = ("filterAttribute", "description")
# The documented keys, by kind: keys of an item, and keys of the items of its lists.
_DESCRIBED: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "metric": {
        "": ("id", "description", "filters", "aggregations", "relatedRecordIds"),
        "filters": _FILTERS,
        "aggregations": ("measure", "description"),
    },
    "record": {
        "": ("id", "description", "filters", "fieldsMetadata", "relatedMetricIds"),
        "filters": _FILTERS,
        "fieldsMetadata": ("field", "description", "nullable"),
    },
}
_MEASURES = frozenset(
    {"Min", "Max", "Sum", "Count", "Percentage", "AgentPresenceDuration", "StdDev", "Average"}
)
# Keys of an item of the Intelligence API, the beta generation.
_NEXT_GENERATION = frozenset({"primaryFilters", "aggregates", "category"})


def undescribed(kind: str, items: Iterable[Mapping[str, Any]]) -> set[tuple[str, str]]:
    """The undocumented parts of usable items: kind of the part, its name.

    `kind` is the kind of the list: metric or record.
    """
    found = set()
    for part, keys in _DESCRIBED[kind].items():
        for each in (one for item in items for one in (item.get(part) or () if part else (item,))):
            for key in each.keys() - {*keys}:
                if not part and key in _NEXT_GENERATION:
                    found.add(("answers like the Intelligence API", str(key)))
                else:
                    found.add(("unknown key", printable(f"{part}.{key}".strip("."))[:100]))
            if part == "aggregations" and each["measure"] not in _MEASURES:
                found.add(("unknown measure", each["measure"]))
    return found
