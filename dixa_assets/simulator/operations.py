"""The seven operations of the API, with their names in the vendor's reference."""

# (method, collection, whether an id follows): operation
OPERATIONS = {
    ("GET", "metrics", False): "getAnalyticsMetrics",
    ("GET", "metrics", True): "getAnalyticsMetricsMetricid",
    ("POST", "metrics", False): "postAnalyticsMetrics",
    ("GET", "records", False): "getAnalyticsRecords",
    ("GET", "records", True): "getAnalyticsRecordsRecordid",
    ("POST", "records", False): "postAnalyticsRecords",
    ("GET", "filter", True): "getAnalyticsFilterFilterattribute",
}


def operation_of(method: str, path: str) -> tuple[str | None, str | None]:
    """The operation and the id in a path; None for an unknown operation or a missing id."""
    match path.split("/", 4)[2:]:
        case ["analytics", collection, *rest]:
            operation = OPERATIONS.get((method, collection, bool(rest)))
            return operation, rest[0] if operation and rest else None
    return None, None
