"""HTTP access to Dixa's Analytics API: auth, rate limit, retry, paging, host check.

The only module that imports httpx. It returns decoded JSON as the vendor sent it and knows
nothing of catalogue entries, tables or Dagster. Vendor facts are from the reference page of the
Analytics API and the vendor's API standards (10 requests/s, burst 4, per token).
"""

import json
import logging
import math
import re
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Self
from urllib.parse import quote, unquote, urlsplit

import httpx
from pydantic_core import from_json
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
    wait_exponential_jitter,
)

from dixa_assets.errors import (
    ApiContractBroken,
    ApiError,
    ApiRefused,
    ApiUnavailable,
    ConfigError,
    PageKeyRefused,
)
from dixa_assets.pace import shared_limiter

logger = logging.getLogger(__name__)

DEFAULT_BASE_URL = "https://dev.dixa.io"

# The vendor's own clients accept 1 to 300 rows a page; no documented limit exists. The smaller
# sizes are for a server that refuses 300.
PAGE_SIZES = (300, 100, 50)
# 10,000 pages of 300 rows are three million rows in one window: more is a paging loop.
MAX_PAGES = 10_000
# Beyond this a `Retry-After` is not a pause but a closed door.
LONGEST_RETRY_AFTER = 300.0
RETRYABLE_STATUS = frozenset({408, 429, 500, 502, 503, 504})

ADVICE = {
    400: "The request itself was refused; repeating it cannot help.",
    401: "Check DIXA_API_KEY: made by an admin under Settings > Integrations > API Tokens, "
    "for the API version 'Dixa API'.",
    403: "The key is known but may not do this: check that it is a 'Dixa API' token of an admin.",
    404: "The id is not, or no longer, known to Dixa.",
}


@dataclass(slots=True)
class Usage:
    """What a piece of work has cost: requests sent, retries among them, pages, bytes, waits."""

    requests: int = 0
    retries: int = 0
    pages: int = 0
    bytes: int = 0
    seconds_waiting: float = 0.0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(*(getattr(self, each) + getattr(other, each) for each in self.__slots__))


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
        requests_per_second: Pace shared by all processes of this machine that use this token.
        burst: Requests that may go at once. Half of the vendor's four: a request that is late,
            or overtakes another, then still finds a token there.
        max_attempts: Tries for one request.
        give_up_after: Seconds after which no further try of a request starts.
    """

    def __init__(
        self,
        api_key: str,
        *,
        base_url: str = DEFAULT_BASE_URL,
        api_version: str = "v1",
        auth_scheme: str = "",
        requests_per_second: float = 10.0,
        burst: int = 2,
        max_attempts: int = 8,
        give_up_after: float = 600.0,
    ) -> None:
        self._base = _checked_base_url(base_url)
        token = re.sub(r"(?i)^bearer(\s+|$)", "", api_key.strip())
        if not token or not token.isascii() or not token.isprintable():
            raise ConfigError(
                "DIXA_API_KEY", "is missing or not a token; paste the token as Dixa shows it."
            )
        self._token = token
        self._prefix = f"/{api_version}/analytics"
        self._page_size = PAGE_SIZES[0]
        self._stopping = threading.Event()
        self._http = httpx.Client(
            base_url=self._base,
            headers={"Authorization": f"{auth_scheme} {token}".strip()},
            timeout=httpx.Timeout(60.0, connect=10.0, pool=None),
            limits=httpx.Limits(max_connections=16),
            follow_redirects=False,
        )
        self._limiter = shared_limiter(
            f"{self._base} {token}", requests_per_second=requests_per_second, burst=burst
        )
        # Threads wait for a token one at a time. The one that the limiter keeps is their
        # process's, whoever of them wakes first would take it, and a thread could go without for
        # many seconds.
        self._turn = threading.Lock()
        self._retrying = Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, ApiUnavailable)),
            wait=_wait,
            stop=stop_after_attempt(max_attempts) | stop_after_delay(give_up_after),
            sleep=self._sleep,
            before_sleep=_log_retry,
            reraise=True,
        )

    def __repr__(self) -> str:
        return f"DixaClient({self._base}{self._prefix})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Wake whoever waits for a retry, start no further request, close the connections."""
        self._stopping.set()
        self._http.close()

    @property
    def page_size(self) -> int:
        """Rows in a page that is full."""
        return self._page_size

    def fetch_metrics(self) -> list[dict[str, Any]]:
        """The metrics catalogue, all pages."""
        return self._fetch_list("/metrics")

    def fetch_records(self) -> list[dict[str, Any]]:
        """The records catalogue, all pages."""
        return self._fetch_list("/records")

    def fetch_metric(self, metric_id: str) -> dict[str, Any]:
        """The description of one metric."""
        return self._fetch_object("GET", f"/metrics/{quote(metric_id, safe='')}")

    def fetch_record(self, record_id: str) -> dict[str, Any]:
        """The description of one record."""
        return self._fetch_object("GET", f"/records/{quote(record_id, safe='')}")

    def fetch_filter_values(
        self, attribute: str, usage: Usage | None = None
    ) -> list[dict[str, Any]]:
        """The values a filter attribute can take, all pages: `{value, label?}` each."""
        return self._fetch_list(f"/filter/{quote(attribute, safe='')}", usage)

    def fetch_metric_data(self, query: Mapping[str, Any], usage: Usage) -> dict[str, Any]:
        """The aggregates of one metric query: `{id, aggregates?}`."""
        data = self._fetch_object("POST", "/metrics", query, usage)
        other = data.get("id", query["id"])
        if other != query["id"]:
            told = self._redact(other)[:100] if isinstance(other, str) else "no text"
            raise ApiContractBroken(f"metric '{query['id']}'", f"the answer is about '{told}'.")
        return data

    def fetch_record_pages(
        self, query: Mapping[str, Any], usage: Usage
    ) -> Iterator[list[dict[str, Any]]]:
        """The rows of one record query, page by page, in the server's order."""
        return self._pages("POST", "/records", query, usage)

    def _fetch_list(self, path: str, usage: Usage | None = None) -> list[dict[str, Any]]:
        return [item for page in self._pages("GET", path, None, usage or Usage()) for item in page]

    def _fetch_object(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        usage: Usage | None = None,
    ) -> dict[str, Any]:
        data = self._send(method, path, body, {}, usage or Usage()).get("data")
        if not isinstance(data, dict):
            raise ApiContractBroken(
                _describe(method, self._prefix + path, body), "the answer has no 'data' object."
            )
        return data

    def _pages(
        self, method: str, path: str, body: Mapping[str, Any] | None, usage: Usage
    ) -> Iterator[list[dict[str, Any]]]:
        request = _describe(method, self._prefix + path, body)
        payload = self._first_page(method, path, body, usage)
        keys: set[str] = set()
        while True:
            rows = payload.get("data")
            if rows is None and keys:
                raise ApiContractBroken(request, "a page that was promised came without 'data'.")
            if rows is None:
                logger.warning("%s: an answer without 'data' was read as an empty page", request)
                rows = []
            if not isinstance(rows, list):
                raise ApiContractBroken(request, "'data' is not a list.")
            usage.pages += 1
            if rows:
                yield rows
            paging = self._next_page(payload, request)
            # Some of the vendor's lists go on offering a next page after the last row.
            if paging is None or not rows:
                return
            if paging["pageKey"] in keys:
                raise ApiContractBroken(
                    request, "a page key came twice: the pages go in a circle, nothing was kept."
                )
            keys.add(paging["pageKey"])
            if len(keys) >= MAX_PAGES:
                raise ApiContractBroken(
                    request, f"more than {MAX_PAGES} pages for one query, nothing was kept."
                )
            # The same body goes with every key: the key alone does not carry the query.
            try:
                payload = self._send(method, path, body, paging, usage)
            except ApiRefused as error:
                if error.status != 400:
                    raise
                raise PageKeyRefused(
                    request,
                    f"a page key it gave before was refused ({error.answer}).",
                    status=400,
                ) from None

    def _first_page(
        self, method: str, path: str, body: Mapping[str, Any] | None, usage: Usage
    ) -> dict[str, Any]:
        while True:
            size = self._page_size
            try:
                return self._send(method, path, body, {"pageLimit": str(size)}, usage)
            except ApiRefused as error:
                smaller = [candidate for candidate in PAGE_SIZES if candidate < size]
                if error.status != 400 or "pagelimit" not in error.answer.lower() or not smaller:
                    raise
                logger.warning("pages of %d rows were refused, asking for %d", size, smaller[0])
                self._page_size = smaller[0]

    def _next_page(self, payload: Mapping[str, Any], request: str) -> dict[str, str] | None:
        """Query parameters of the next page, or None after the last.

        Documents and clients show three forms: a relative link, an absolute link, and a bare
        key beside the data.
        """
        meta = payload.get("meta")
        link = meta.get("next") if isinstance(meta, dict) else None
        if not isinstance(link, str) or not link:
            key = payload.get("pageKey")
            return {"pageKey": key} if isinstance(key, str) and key else None
        try:
            parts = urlsplit(link)
        except ValueError:
            raise ApiContractBroken(request, "the link to the next page is no address.") from None
        if parts.netloc and _origin(link) != _origin(self._base):
            host = self._redact(str(parts.hostname))
            raise ApiContractBroken(
                request, f"the next page lies on another host ({host}), which was not asked."
            )
        # Not parse_qs: it would turn a '+' of the base64 key into a space.
        pairs = (pair.partition("=") for pair in parts.query.split("&"))
        paging = {name: unquote(value) for name, _, value in pairs if name.startswith("page")}
        if "pageKey" not in paging:
            raise ApiContractBroken(request, "the link to the next page has no pageKey.")
        return {name: paging[name] for name in ("pageKey", "pageLimit") if name in paging}

    def _send(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        params: Mapping[str, str],
        usage: Usage,
    ) -> dict[str, Any]:
        started = usage.requests
        try:
            return self._retrying(self._try_once, method, path, body, params, usage)
        finally:
            usage.retries += max(usage.requests - started - 1, 0)

    def _try_once(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        params: Mapping[str, str],
        usage: Usage,
    ) -> dict[str, Any]:
        path = self._prefix + path
        request = _describe(method, path, body)
        began = time.monotonic()
        with self._turn:
            self._limiter.try_acquire()
        usage.seconds_waiting += time.monotonic() - began
        if self._stopping.is_set():
            raise ApiError(request, "not sent: this load is being stopped.")
        usage.requests += 1
        try:
            response = self._http.request(method, path, params=dict(params), json=body)
        except (httpx.InvalidURL, UnicodeEncodeError) as error:
            raise ApiRefused(request, f"the address cannot be asked for ({error}).") from None
        except RuntimeError:
            # Closed between the look above and the sending.
            if not self._stopping.is_set():
                raise
            raise ApiError(request, "not sent: this load is being stopped.") from None
        except httpx.HTTPError as error:
            reason = f"{type(error).__name__}: {error}"
            raise ApiUnavailable(
                request,
                f"no complete answer ({self._redact(reason)[:300]}).",
                "Is the API reachable?",
            ) from None
        # An answer and its stream refer to each other: without this, the page would stay in memory
        # until the garbage collector looks.
        response.stream = httpx.ByteStream(b"")
        usage.bytes += len(response.content)
        if response.is_success:
            return self._decode(response, request)
        raise self._refusal(response, request)

    def _decode(self, response: httpx.Response, request: str) -> dict[str, Any]:
        try:
            payload = _from_json(response.content)
        except (ValueError, RecursionError) as error:
            kind = self._redact(response.headers.get("content-type", "no content type"))
            raise ApiUnavailable(
                request,
                f"the answer ({response.status_code}, {kind}) is not JSON: {error}.",
                "A proxy in between, or a cut connection?",
                status=response.status_code,
            ) from None
        if not isinstance(payload, dict):
            raise ApiContractBroken(request, "the answer is JSON but not an object.")
        return payload

    def _refusal(self, response: httpx.Response, request: str) -> ApiError:
        status = response.status_code
        reason = self._redact(response.reason_phrase)
        answer = f"{status} {reason}".strip() + f": {self._message(response)}"
        if response.is_redirect:
            return ApiRefused(
                request,
                f"{status}: redirected, which is not followed with the key.",
                "Check DIXA_BASE_URL.",
                status=status,
            )
        retry_after = _retry_after(response.headers.get("retry-after"))
        if status in RETRYABLE_STATUS and (retry_after or 0) <= LONGEST_RETRY_AFTER:
            return ApiUnavailable(request, answer, status=status, retry_after=retry_after)
        advice = ADVICE.get(status, "Repeating the request cannot help.")
        if status in RETRYABLE_STATUS:
            advice = f"It asks to come back in {retry_after:.0f} s: load again after that."
        if status == 400 and "filter" in _text(response).lower():
            advice += (
                " If Dixa insists on a filter with every period, name an attribute in"
                " DIXA_REQUIRED_FILTER (for instance initial_direction): all its values are sent."
            )
        return ApiRefused(request, answer, advice, status=status)

    def _message(self, response: httpx.Response) -> str:
        """The server's own words, from `{"message": …}` or as text: short, a sentence, no key."""
        text = _text(response)
        try:
            payload = json.loads(text)
        except (ValueError, RecursionError):
            pass
        else:
            if isinstance(payload, dict) and isinstance(payload.get("message"), str):
                text = payload["message"]
        said = self._redact(" ".join(text.split()))[:300] or "no message"
        return said if said.endswith((".", "!", "?")) else f"{said}."

    def _redact(self, text: str) -> str:
        return re.sub(re.escape(self._token), "***", text, flags=re.IGNORECASE)

    def _sleep(self, seconds: float) -> None:
        self._stopping.wait(seconds)


def _checked_base_url(base_url: str) -> str:
    try:
        parts = urlsplit(base_url.strip())
        parts.port  # noqa: B018
    except ValueError as error:
        raise ConfigError("DIXA_BASE_URL", f"is not an address: {error}.") from None
    loopback = parts.hostname in {"localhost", "127.0.0.1", "::1"}
    if not parts.hostname or parts.scheme not in {"http", "https"}:
        raise ConfigError("DIXA_BASE_URL", f"'{base_url}' is not an address like https://host.")
    if parts.scheme == "http" and not loopback:
        raise ConfigError("DIXA_BASE_URL", "must be https: the key is sent with every request.")
    if "@" in parts.netloc or parts.query or parts.fragment or parts.path.strip("/"):
        raise ConfigError("DIXA_BASE_URL", "must be scheme and host alone, without path or user.")
    return f"{parts.scheme}://{parts.netloc}"


def _origin(url: str) -> tuple[str, str | None, str | None]:
    """Scheme, host and port, the scheme's own port taken for none."""
    parts = urlsplit(url)
    own_port = {"http": "80", "https": "443"}.get(parts.scheme)
    port = parts.netloc.rpartition(":")[2] if ":" in parts.netloc.rpartition("]")[2] else None
    return parts.scheme, parts.hostname, None if port == own_port else port


def _describe(method: str, path: str, body: Mapping[str, Any] | None) -> str:
    return f"{method} {path}" + (f" for '{body['id']}'" if body else "")


def _text(response: httpx.Response) -> str:
    """An answer's body, whatever encoding it claims to have: some are no encodings of text."""
    return response.content.decode("utf-8", "replace")


def _from_json(content: bytes) -> Any:
    """What a JSON text says, at twice the speed of `json`, whose word is final.

    The fast reader takes every number and text for the same, but not half a character, another
    encoding than UTF-8, or deep nesting.
    """
    try:
        return from_json(content, allow_inf_nan=False)
    except ValueError:
        return json.loads(content, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")


def _retry_after(header: str | None) -> float | None:
    """Seconds to wait, from a number of seconds or an HTTP date."""
    if not header:
        return None
    try:
        seconds = float(header)
        return None if math.isnan(seconds) else max(seconds, 0.0)
    except ValueError:
        pass
    try:
        return max(parsedate_to_datetime(header).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return None


_backoff = wait_exponential_jitter(multiplier=0.5, max=60.0, jitter=1.0)


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, ApiUnavailable) else None
    return max(_backoff(state), asked or 0.0)


def _log_retry(state: RetryCallState) -> None:
    pause = state.next_action.sleep if state.next_action else 0.0
    error = state.outcome.exception() if state.outcome else None
    logger.warning("try %d: %s Next try in %.1f s", state.attempt_number, error, pause)
