"""The operations of Dixa's Analytics API, and their pages.

Methods return decoded JSON as the vendor sent it. This module knows nothing of catalogue entries,
tables or Dagster. Vendor facts are from the reference page of the Analytics API.
"""

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Self
from urllib.parse import quote, unquote, urlsplit

from dixa_assets.api.call import Call
from dixa_assets.api.settings import PAGE_SIZE, ApiSettings, Patience
from dixa_assets.errors import ApiContractBroken, ApiRefused, PageKeyRefused, PagesCutShort
from dixa_assets.model.counts import Usage

logger = logging.getLogger(__name__)

# Page sizes to try. The smaller ones are for a server that rejects the larger.
PAGE_SIZES = (PAGE_SIZE, 100, 50)
# 10,000 pages of 300 rows are three million rows in one day: more is a paging loop.
MAX_PAGES = 10_000
# A server may return smaller pages than requested. A page with fewer rows than this does not tell
# the server's page limit.
SMALLEST_PAGE_LIMIT = 20
# The keys of an answer with a list, by the vendor's schema and its clients.
LIST_KEYS = frozenset({"data", "meta", "pageKey"})
# Keys with which servers and gateways report errors, and status values that mean an error.
ERROR_KEY = re.compile("error|exception|^faults?$", re.IGNORECASE)
STATUS_KEYS = frozenset({"success", "ok", "status", "statuscode", "code"})
FAILED = re.compile("false|err.*|fail.*|[45][0-9][0-9]", re.IGNORECASE)
MESSAGE_KEYS = frozenset({"message", "detail", "title", "reason"})
# A truncated answer has a round number of rows: a multiple of this number.
ROUND_ROWS = 100


class DixaClient:
    """The seven operations of the Analytics API, rate-limited, with one layer of retries.

    Safe to share among threads. Every method raises `ApiUnavailable` if the last attempt failed;
    `ApiRefused` for a status that is not retried, a redirect, or a `Retry-After` above 300 s;
    `ApiContractBroken` for a response that cannot be used; `ApiError` after `close`.

    Args:
        api_key: The token; surrounding space and a leading `Bearer ` are removed.
        settings: Host, token scheme and rate limit.
        patience: How long to try.
        page_size: Rows to request per page. If the server rejects it, the client requests less.
        sleep: Waits between two attempts. The default returns early if the client is closed.
    """

    def __init__(
        self,
        api_key: str,
        settings: ApiSettings | None = None,
        patience: Patience | None = None,
        *,
        page_size: int = PAGE_SIZE,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        # Definitions send no request, and httpx takes 0.1 s to import.
        from dixa_assets.api.transport import Transport

        settings = settings or ApiSettings()
        self._transport = Transport(api_key, settings, patience or Patience(), sleep)
        self._prefix = f"/{settings.api_version}/analytics"
        self._page_size = page_size
        # Rows in the largest page with a next page: a server may return fewer than requested.
        self._full_page_rows = 0

    def __repr__(self) -> str:
        return f"DixaClient({self._transport.base}{self._prefix})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Wake threads that wait for a retry, send nothing more, close the connections."""
        self._transport.close()

    @property
    def page_size(self) -> int:
        """Rows to request per page."""
        return self._page_size

    def second_reading_size(self, rows: int) -> int:
        """A smaller page size, with which a truncated answer of `rows` rows ends at another row."""
        return max(min(self._full_page_rows or self._page_size, rows) - 1, 1)

    @property
    def requests(self) -> int:
        """Requests sent so far, including retries."""
        return self._transport.requests

    def request(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Send a request without changes, with retries, and return the whole answer."""
        return self._transport.send(
            replace(self._call(method, path, body=body), params=params or {})
        )

    def next_page(self, payload: Mapping[str, Any]) -> dict[str, str] | None:
        """The query parameters of the page after an answer; None after the last page."""
        return self._next_page(payload, "a page")

    def fetch_metrics(self) -> list[dict[str, Any]]:
        """The metrics catalogue, all pages."""
        return self._list(self._call("GET", "/metrics"))

    def fetch_records(self) -> list[dict[str, Any]]:
        """The records catalogue, all pages."""
        return self._list(self._call("GET", "/records"))

    def fetch_metric(self, metric_id: str) -> dict[str, Any]:
        """The description of one metric."""
        return self._object(self._call("GET", "/metrics/", metric_id))

    def fetch_record(self, record_id: str) -> dict[str, Any]:
        """The description of one record."""
        return self._object(self._call("GET", "/records/", record_id))

    def fetch_filter_values(
        self, attribute: str, usage: Usage | None = None
    ) -> list[dict[str, Any]]:
        """The values of a filter attribute, all pages: `{value, label?}` each."""
        return self._list(self._call("GET", "/filter/", attribute, usage=usage))

    def fetch_metric_data(self, query: Mapping[str, Any], usage: Usage) -> dict[str, Any]:
        """The aggregates of one metric query: `{id, aggregates?}`."""
        data = self._object(self._call("POST", "/metrics", body=query, usage=usage))
        other = data["id"]
        if other != query["id"]:
            shown = self._transport.redact(other)[:100] if isinstance(other, str) else "no text"
            raise ApiContractBroken(f"metric '{query['id']}'", f"the answer is about '{shown}'.")
        return data

    def fetch_record_pages(
        self, query: Mapping[str, Any], usage: Usage, size: int | None = None
    ) -> Iterator[list[dict[str, Any]]]:
        """The rows of one record query, page by page, in the server's order.

        Args:
            query: The request body.
            usage: Counts the cost.
            size: Rows to request per page; None for the usual size.

        Raises:
            PagesCutShort: After the last page, if rows may be missing: the page is full and has no
                link, or the number of all rows is a multiple of 100.
        """
        return self._pages(self._call("POST", "/records", body=query, usage=usage), size=size)

    def _call(
        self,
        method: str,
        path: str,
        name: str = "",
        *,
        body: Mapping[str, Any] | None = None,
        usage: Usage | None = None,
    ) -> Call:
        path = f"{self._prefix}{path}{quote(name, safe='')}"
        return Call(method, path, body, usage=usage or Usage(), problem_of=_problem_of_list)

    def _list(self, call: Call) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        try:
            for page in self._pages(call):
                items += page
        except PagesCutShort:
            # A list cannot be requested in smaller parts. Read it again with another page size, and
            # accept it even if it is uncertain.
            again = self._pages(call, size=self.second_reading_size(len(items)))
            with suppress(PagesCutShort):
                items = [item for page in again for item in page]
        return items

    def _object(self, call: Call) -> dict[str, Any]:
        data: dict[str, Any] = self._transport.send(replace(call, problem_of=_problem_of_object))[
            "data"
        ]
        return data

    def _pages(self, call: Call, *, size: int | None = None) -> Iterator[list[dict[str, Any]]]:
        """Yield the pages of a call. Raise `PagesCutShort` at the end if rows may be missing."""
        request = str(call)
        payload = self._first_page(call) if size is None else self._page(call, size)
        keys: set[str] = set()
        total = 0
        while True:
            rows = payload.get("data")
            if rows is None and keys:
                raise ApiContractBroken(request, "a page after a link has no 'data'.")
            if rows is None:
                logger.warning("%s: an answer without 'data' was read as an empty page", request)
                rows = []
            if not isinstance(rows, list):
                raise ApiContractBroken(request, "'data' is not a list.")
            call.usage.pages += 1
            if rows:
                yield rows
            paging = self._next_page(payload, request)
            # Some of the vendor's lists link to a next page after the last row.
            total += len(rows)
            full = size or self._full_page_rows or self._page_size
            if paging is None and rows and len(rows) >= full:
                raise PagesCutShort(request, f"a full page of {len(rows)} rows, and no link.")
            if paging is None and size is None and total and total % ROUND_ROWS == 0:
                raise PagesCutShort(request, f"exactly {total} rows, which looks like a limit.")
            if paging is None or not rows:
                return
            if size is None and len(rows) >= SMALLEST_PAGE_LIMIT:
                self._full_page_rows = max(self._full_page_rows, len(rows))
            if paging["pageKey"] in keys:
                raise ApiContractBroken(
                    request,
                    "the API returned the same page key twice, so the pages form a loop. No row "
                    "was stored.",
                )
            keys.add(paging["pageKey"])
            if len(keys) >= MAX_PAGES:
                raise ApiContractBroken(
                    request, f"more than {MAX_PAGES} pages for one query. No row was stored."
                )
            # The page key does not hold the query, so each request repeats the body.
            try:
                payload = self._transport.send(replace(call, params=paging))
            except ApiRefused as error:
                if error.status != 400:
                    raise
                raise PageKeyRefused(
                    request,
                    f"a page key from the last page was refused ({error.answer}).",
                    status=400,
                ) from None

    def _first_page(self, call: Call) -> dict[str, Any]:
        size = self._page_size
        while True:
            try:
                page = self._page(call, size)
            except ApiRefused as error:
                smaller = [candidate for candidate in PAGE_SIZES if candidate < size]
                answer = error.answer.lower()
                # A request for a list has no other value that could be invalid.
                is_about_size = "pagelimit" in answer or (
                    call.body is None and "invalid value" in answer
                )
                if error.status != 400 or not is_about_size or not smaller:
                    raise
                logger.warning("pages of %d rows were refused; requesting %d", size, smaller[0])
                size = smaller[0]
            else:
                # Later calls begin with the accepted size.
                self._page_size = min(self._page_size, size)
                return page

    def _page(self, call: Call, size: int) -> dict[str, Any]:
        return self._transport.send(replace(call, params={"pageLimit": str(size)}))

    def _next_page(self, payload: Mapping[str, Any], request: str) -> dict[str, str] | None:
        """Query parameters of the next page, or None after the last.

        Dixa's documentation and clients show these forms: a relative link, an absolute link, and a
        bare key next to the data or in place of the link.
        """
        meta = payload.get("meta")
        link = meta.get("next") if isinstance(meta, dict) else None
        if not isinstance(link, str) or not link:
            key = payload.get("pageKey")
            return {"pageKey": key} if isinstance(key, str) and key else None
        if not set(link) & set("?&:"):
            # A bare key.
            return {"pageKey": link}
        try:
            parts = urlsplit(link)
        except ValueError:
            raise ApiContractBroken(
                request, "the link to the next page is not an address."
            ) from None
        if parts.netloc and _origin(link) != _origin(self._transport.base):
            host = self._transport.redact(str(parts.hostname))
            raise ApiContractBroken(
                request, f"the next page is on another host ({host}); no request was sent there."
            )
        # parse_qs would turn a '+' of the base64 key into a space.
        pairs = (pair.partition("=") for pair in parts.query.split("&"))
        paging = {name: unquote(value) for name, _, value in pairs if name.startswith("page")}
        if "pageKey" not in paging:
            raise ApiContractBroken(request, "the link to the next page has no pageKey.")
        return {name: paging[name] for name in ("pageKey", "pageLimit") if name in paging}


def _problem_of_list(payload: Mapping[str, Any]) -> str:
    """The problem of an answer with a list; empty if there is none.

    The vendor's schema makes `data` optional, so `{}` is an empty list. An error with status 200
    must not look like an empty list.
    """
    meta, rows = payload.get("meta"), payload.get("data")
    if error := _error_in(payload) or _error_in(meta if isinstance(meta, dict) else {}):
        return error
    if rows is None and payload.keys() - LIST_KEYS:
        return "no 'data'"
    if not rows and (text := [name for name in payload if name.lower() in MESSAGE_KEYS]):
        return f"{text[0]!r} and no rows"
    return ""


def _problem_of_object(payload: Mapping[str, Any]) -> str:
    """The problem of an answer with one object; empty if there is none."""
    data = payload.get("data")
    if not isinstance(data, dict) or not data.get("id"):
        return "no 'data' object with an id"
    return _error_in(data) or _problem_of_list(payload)


def _error_in(part: Mapping[str, Any]) -> str:
    """The key in a part of an answer that reports an error; empty if there is none."""
    return next(
        (
            f"{name!r:.50} that reports an error"
            for name, value in part.items()
            if (value and ERROR_KEY.search(name))
            or (name.lower() in STATUS_KEYS and FAILED.fullmatch(str(value)))
        ),
        "",
    )


def _origin(url: str) -> tuple[str, str | None, str | None]:
    """Scheme, host and port; no port if it is the scheme's default."""
    parts = urlsplit(url)
    default_port = {"http": "80", "https": "443"}.get(parts.scheme)
    port = parts.netloc.rpartition(":")[2] if ":" in parts.netloc.rpartition("]")[2] else None
    return parts.scheme, parts.hostname, None if port == default_port else port
