"""The operations of Dixa's Analytics API, and their pages.

They return decoded JSON as the vendor sent it and know nothing of catalogue entries, tables or
Dagster. Vendor facts are from the reference page of the Analytics API.
"""

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Self
from urllib.parse import quote, unquote, urlsplit

from dixa_assets.api.transport import (
    API_VERSION,
    BASE_URL,
    BURST,
    GIVE_UP_AFTER,
    MAX_ATTEMPTS,
    REQUESTS_PER_SECOND,
    Call,
    Transport,
)
from dixa_assets.errors import ApiContractBroken, ApiRefused, PageKeyRefused, PagesCutShort
from dixa_assets.model.counts import Usage

logger = logging.getLogger(__name__)

# Rows a page. The vendor's own clients accept 1 to 300, and no limit is documented. The smaller
# sizes are for a server that refuses 300.
PAGE_SIZES = (300, 100, 50)
# 10,000 pages of 300 rows are three million rows in one window: more is a paging loop.
MAX_PAGES = 10_000
# A server that gives smaller pages than it is asked for has a limit of its own, hardly below this.
SMALLEST_LIMIT = 20
# A limit on the rows of an answer is a round number, a multiple of this one.
ROUND_ROWS = 100


class DixaClient:
    """The seven operations of the Analytics API, at the vendor's pace, with one retry layer.

    Safe to share among threads. Every method raises `ApiUnavailable` when the last try failed,
    `ApiRefused` for 400, 401, 403, 404 and redirects, and `ApiContractBroken` for answers that
    cannot be used.

    Args:
        api_key: The token; surrounding space and a leading `Bearer ` are taken off.
        base_url: Scheme and host. Plain http only to loopback.
        api_version: The path prefix, `v1` or `beta`.
        auth_scheme: Empty for the raw token, as the vendor's samples send it, or `Bearer`.
        requests_per_second: Pace shared by all processes of this machine that use this token, or
            of all machines that name the same `pace_url`, a Postgres.
        burst: Requests that may go at once.
        max_attempts: Tries for one request.
        give_up_after: Seconds that a request may take, with all its tries.
        lifetime: Seconds after which the client asks nothing more.
        page_size: Rows asked for in a page, until a server refuses so many.
    """

    def __init__(
        self,
        api_key: str,
        *,
        key_variable: str = "DIXA_API_KEY",
        base_url: str = BASE_URL,
        api_version: str = API_VERSION,
        auth_scheme: str = "",
        requests_per_second: float = REQUESTS_PER_SECOND,
        burst: int = BURST,
        max_attempts: int = MAX_ATTEMPTS,
        give_up_after: float = GIVE_UP_AFTER,
        lifetime: float = math.inf,
        page_size: int = PAGE_SIZES[0],
        pace_url: str = "",
    ) -> None:
        self._transport = Transport(
            api_key,
            key_variable=key_variable,
            base_url=base_url,
            auth_scheme=auth_scheme,
            requests_per_second=requests_per_second,
            burst=burst,
            max_attempts=max_attempts,
            give_up_after=give_up_after,
            lifetime=lifetime,
            pace_url=pace_url,
        )
        self._prefix = f"/{api_version}/analytics"
        self._page_size = page_size
        # Rows in the largest page that another followed: a server may give less than is asked for.
        self._largest_linked = 0

    def __repr__(self) -> str:
        return f"DixaClient({self._transport.base}{self._prefix})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Wake whoever waits for a retry, start no further request, close the connections."""
        self._transport.close()

    @property
    def page_size(self) -> int:
        """Rows in a page that is full."""
        return self._page_size

    @property
    def requests(self) -> int:
        """How many requests were sent so far, retries among them."""
        return self._transport.requests

    @property
    def rate_headers(self) -> set[str]:
        """The names of headers about a limit that answers have had so far."""
        return self._transport.rate_headers

    def ask(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """One question in the caller's own words, and the whole answer."""
        return self._transport.send(
            replace(self._call(method, path, body=body), params=params or {})
        )

    def next_page(self, payload: Mapping[str, Any]) -> dict[str, str] | None:
        """The query parameters of the page after an answer; None after the last."""
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
        """The values a filter attribute can take, all pages: `{value, label?}` each."""
        return self._list(self._call("GET", "/filter/", attribute, usage=usage))

    def fetch_metric_data(self, query: Mapping[str, Any], usage: Usage) -> dict[str, Any]:
        """The aggregates of one metric query: `{id, aggregates?}`."""
        data = self._object(self._call("POST", "/metrics", body=query, usage=usage))
        other = data.get("id", query["id"])
        if other != query["id"]:
            told = self._transport.redact(other)[:100] if isinstance(other, str) else "no text"
            raise ApiContractBroken(f"metric '{query['id']}'", f"the answer is about '{told}'.")
        return data

    def fetch_record_pages(
        self, query: Mapping[str, Any], usage: Usage
    ) -> Iterator[list[dict[str, Any]]]:
        """The rows of one record query, page by page, in the server's order.

        Raises:
            PagesCutShort: After a last page that is full: there may be more rows.
        """
        return self._pages(self._call("POST", "/records", body=query, usage=usage))

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
        return Call(method, path, body, usage=usage or Usage())

    def _list(self, call: Call) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        try:
            for page in self._pages(call):
                items += page
        except PagesCutShort:
            # In pages of another size the list ends elsewhere, unless it really ends there.
            again = self._pages(call, size=max(min(len(items) // 3, self._page_size - 1), 1))
            with suppress(PagesCutShort):
                items = [item for page in again for item in page]
        return items

    def _object(self, call: Call) -> dict[str, Any]:
        data = self._transport.send(call).get("data")
        if not isinstance(data, dict):
            raise ApiContractBroken(str(call), "the answer has no 'data' object.")
        return data

    def _pages(self, call: Call, *, size: int | None = None) -> Iterator[list[dict[str, Any]]]:
        """The pages of a call; after the last, `PagesCutShort` if it may not be the last."""
        request = str(call)
        payload = self._first_page(call) if size is None else self._page(call, size)
        keys: set[str] = set()
        total = 0
        while True:
            rows = payload.get("data")
            if rows is None and keys:
                raise ApiContractBroken(request, "a page that was promised came without 'data'.")
            if rows is None:
                logger.warning("%s: an answer without 'data' was read as an empty page", request)
                rows = []
            if not isinstance(rows, list):
                raise ApiContractBroken(request, "'data' is not a list.")
            call.usage.pages += 1
            if rows:
                yield rows
            paging = self._next_page(payload, request)
            # Some of the vendor's lists go on offering a next page after the last row.
            total += len(rows)
            if paging is None and rows and len(rows) >= (self._largest_linked or self._page_size):
                raise PagesCutShort(request, f"a full page of {len(rows)} rows, and no link.")
            if paging is None and total and total % ROUND_ROWS == 0:
                raise PagesCutShort(request, f"exactly {total} rows, which looks like a limit.")
            if paging is None or not rows:
                return
            if size is None and len(rows) >= SMALLEST_LIMIT:
                self._largest_linked = max(self._largest_linked, len(rows))
            if paging["pageKey"] in keys:
                raise ApiContractBroken(
                    request, "a page key came twice: the pages go in a circle, nothing was kept."
                )
            keys.add(paging["pageKey"])
            if len(keys) >= MAX_PAGES:
                raise ApiContractBroken(
                    request, f"more than {MAX_PAGES} pages for one query, nothing was kept."
                )
            # The body is sent again with each key, because the key does not hold the query.
            try:
                payload = self._transport.send(replace(call, params=paging))
            except ApiRefused as error:
                if error.status != 400:
                    raise
                raise PageKeyRefused(
                    request,
                    f"a page key it gave before was refused ({error.answer}).",
                    status=400,
                ) from None

    def _first_page(self, call: Call) -> dict[str, Any]:
        size = self._page_size
        while True:
            try:
                page = self._page(call, size)
            except ApiRefused as error:
                smaller = [candidate for candidate in PAGE_SIZES if candidate < size]
                said = error.answer.lower()
                # A list has little else that could be invalid.
                is_about_size = "pagelimit" in said or (
                    call.body is None and "invalid value" in said
                )
                if error.status != 400 or not is_about_size or not smaller:
                    raise
                logger.warning("pages of %d rows were refused, asking for %d", size, smaller[0])
                size = smaller[0]
            else:
                # What was accepted is asked for from then on.
                self._page_size = min(self._page_size, size)
                return page

    def _page(self, call: Call, size: int) -> dict[str, Any]:
        return self._transport.send(replace(call, params={"pageLimit": str(size)}))

    def _next_page(self, payload: Mapping[str, Any], request: str) -> dict[str, str] | None:
        """Query parameters of the next page, or None after the last.

        Documents and clients show three forms: a relative link, an absolute link, and a bare
        key beside the data, or in place of the link.
        """
        meta = payload.get("meta")
        link = meta.get("next") if isinstance(meta, dict) else None
        if not isinstance(link, str) or not link:
            key = payload.get("pageKey")
            return {"pageKey": key} if isinstance(key, str) and key else None
        if not set(link) & set("?&:"):
            # Not a link at all.
            return {"pageKey": link}
        try:
            parts = urlsplit(link)
        except ValueError:
            raise ApiContractBroken(request, "the link to the next page is no address.") from None
        if parts.netloc and _origin(link) != _origin(self._transport.base):
            host = self._transport.redact(str(parts.hostname))
            raise ApiContractBroken(
                request, f"the next page lies on another host ({host}), which was not asked."
            )
        # Not parse_qs: it would turn a '+' of the base64 key into a space.
        pairs = (pair.partition("=") for pair in parts.query.split("&"))
        paging = {name: unquote(value) for name, _, value in pairs if name.startswith("page")}
        if "pageKey" not in paging:
            raise ApiContractBroken(request, "the link to the next page has no pageKey.")
        return {name: paging[name] for name in ("pageKey", "pageLimit") if name in paging}


def _origin(url: str) -> tuple[str, str | None, str | None]:
    """Scheme, host and port, the scheme's own port taken for none."""
    parts = urlsplit(url)
    own_port = {"http": "80", "https": "443"}.get(parts.scheme)
    port = parts.netloc.rpartition(":")[2] if ":" in parts.netloc.rpartition("]")[2] else None
    return parts.scheme, parts.hostname, None if port == own_port else port
