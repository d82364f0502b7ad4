"""The API's seven operations, by the names that the vendor's reference gives them."""

# Method, collection, whether an id follows -> the operation.
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
    """The operation and the id a request names, None for what does not exist."""
    match path.split("/", 4)[2:]:
        case ["analytics", collection, *rest]:
            operation = OPERATIONS.get((method, collection, bool(rest)))
            return operation, rest[0] if operation and rest else None
    return None, None
