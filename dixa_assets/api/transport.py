"""One call to the API: rate limit, deadline, retries, errors, redaction.

`send` retries a call; `_try_once` waits for the rate limit; `_exchange` sends one request and stops
waiting at the deadline; `_decode` and `_refusal` read the answer. Operations and pages are in
`client.py`, connections in `connections.py`. The vendor publishes a limit of 10 requests/s with a
burst of 4 per token.
"""

import json
import logging
import math
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
from pydantic_core import from_json
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_exponential_jitter

from dixa_assets.api.addresses import checked_base_url
from dixa_assets.api.call import Call
from dixa_assets.api.connections import (
    CLOSE_CHECK_SECONDS,
    MAX_BYTES,
    Connections,
    GaveUp,
    TooLarge,
)
from dixa_assets.api.limiter import shared_limiter
from dixa_assets.api.settings import ApiSettings, Patience
from dixa_assets.errors import (
    ApiContractBroken,
    ApiError,
    ApiRefused,
    ApiUnavailable,
    ConfigError,
    PaceUnavailable,
    printable,
)

logger = logging.getLogger(__name__)

# Seconds. A longer `Retry-After` fails the request instead of pausing the load.
LONGEST_RETRY_AFTER = 300.0
# Characters of a text from outside in an error.
LONGEST_TEXT = 300
RETRYABLE_STATUS = frozenset({408, 429, 500, 502, 503, 504})

ADVICE = {
    400: "Dixa rejected the request itself; repeating it cannot help.",
    401: "Check {key_variable}: an admin creates the token under Settings > Integrations > "
    "API Tokens, for the API version 'Dixa API'. If the token is right, "
    "`python -m dixa_assets probe` tests whether Dixa wants 'Bearer' before it.",
    403: "The token is valid but may not do this. It must be a 'Dixa API' token of an admin.",
    404: "Dixa does not know this id, or has removed it.",
}


class Transport:
    """Sends calls; safe to share among threads.

    Args:
        api_key: The token, with or without `Bearer `.
        settings: Host, token scheme and rate limit.
        patience: How long to try.
        sleep: Waits between two attempts. The default returns early if the client is closed.
    """

    def __init__(
        self,
        api_key: str,
        settings: ApiSettings,
        patience: Patience,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        self.base = checked_base_url(settings.base_url)
        self._token = _checked_token(api_key, settings.api_key_variable)
        self._key_variable = settings.api_key_variable
        self._patience = patience
        self._end = time.monotonic() + patience.lifetime
        # Requests sent. Threads may overwrite each other's increments.
        self.requests = 0
        self._stopping = threading.Event()
        headers = {"Authorization": f"{settings.auth_scheme} {self._token}".strip()}
        self._connections = Connections(self.base, headers, patience.answer_seconds)
        self._limiter = shared_limiter(f"{self.base} {self._token}", settings)
        # One thread at a time waits for the limiter, which reserves one slot per process. If all
        # threads competed for it, one of them could wait for many seconds.
        self._turn = threading.Lock()
        self._retrying = Retrying(
            retry=retry_if_exception_type(ApiUnavailable),
            wait=_wait,
            stop=self._is_out_of_patience,
            sleep=sleep or self._sleep,
            before_sleep=_log_retry,
            reraise=True,
        )

    def close(self) -> None:
        """Wake threads that wait for a retry, send nothing more, close the connections."""
        self._stopping.set()
        self._connections.close()
        self._limiter.close()

    def send(self, call: Call) -> dict[str, Any]:
        """Send a call until it succeeds or the patience ends, and return the decoded answer."""
        sent = call.usage.requests
        deadline = min(time.monotonic() + self._patience.request_seconds, self._end)
        try:
            return self._retrying(self._try_once, call, deadline)
        finally:
            call.usage.retries += max(call.usage.requests - sent - 1, 0)

    def _is_out_of_patience(self, state: RetryCallState) -> bool:
        """True if no attempt is left, or if the next one would begin after the deadline."""
        _, deadline = state.args
        return (
            state.attempt_number >= self._patience.attempts
            or time.monotonic() + state.upcoming_sleep >= deadline
        )

    def redact(self, text: str) -> str:
        """A text from outside, for errors: short, without token and control characters."""
        hidden = re.sub(re.escape(self._token), "***", text, flags=re.IGNORECASE)
        return printable(hidden)[:LONGEST_TEXT]

    def _try_once(self, call: Call, deadline: float) -> dict[str, Any]:
        request, usage = str(call), call.usage
        began = time.monotonic()
        try:
            with self._turn:
                self._limiter.try_acquire()
        except PaceUnavailable as error:
            raise ApiUnavailable(request, f"not sent: {error}") from None
        usage.seconds_waiting += time.monotonic() - began
        if self._is_ending:
            raise ApiError(request, "not sent: the load is stopping.")
        if time.monotonic() > deadline:
            raise ApiUnavailable(request, "not sent: the time limit of the request has passed.")
        usage.requests += 1
        self.requests += 1
        response = self._exchange(
            call, min(deadline, time.monotonic() + self._patience.answer_seconds)
        )
        usage.bytes += len(response.content)
        if response.is_success:
            return self._decode(response, call)
        raise self._refusal(response, request)

    def _exchange(self, call: Call, deadline: float) -> httpx.Response:
        """Send one request and return the whole answer."""
        request, began = str(call), time.monotonic()
        try:
            return self._connections.exchange(
                lambda client: client.build_request(
                    call.method, call.path, params=dict(call.params), json=call.body
                ),
                deadline=deadline,
                stop=lambda: self._is_ending,
            )
        except GaveUp:
            if self._is_ending:
                raise ApiError(request, "canceled: the load is stopping.") from None
            seconds = time.monotonic() - began
            raise ApiUnavailable(
                request, f"no complete answer in {seconds:.0f} s.", "Is Dixa slow?"
            ) from None
        except TooLarge:
            raise ApiContractBroken(
                request, f"the answer has more than {MAX_BYTES // 2**20} MiB and was not read."
            ) from None
        except (httpx.InvalidURL, UnicodeEncodeError) as error:
            raise ApiRefused(request, f"the address cannot be requested ({error}).") from None
        except httpx.HTTPError as error:
            reason = f"{type(error).__name__}: {error}"
            advice = "Is the API reachable?"
            if "CERTIFICATE_VERIFY_FAILED" in reason:
                advice = "If a proxy decrypts the traffic, set SSL_CERT_FILE to its certificate."
            raise ApiUnavailable(
                request, f"no complete answer ({self.redact(reason)}).", advice
            ) from None

    @property
    def _is_ending(self) -> bool:
        """True if the client was closed or the process waits for this thread to end."""
        return self._stopping.is_set() or not threading.main_thread().is_alive()

    def _decode(self, response: httpx.Response, call: Call) -> dict[str, Any]:
        request, status = str(call), response.status_code
        try:
            payload = _from_json(response.content)
        except (ValueError, RecursionError) as error:
            kind = self.redact(response.headers.get("content-type", "no content type"))
            raise ApiUnavailable(
                request,
                f"the answer ({status}, {kind}) is not JSON: {error}.",
                "A proxy may have answered, or the connection was lost.",
                status=status,
            ) from None
        if not isinstance(payload, dict):
            raise ApiContractBroken(request, "the answer is JSON but not an object.")
        if problem := call.problem_of(payload):
            message = self._message(response)
            raise ApiUnavailable(
                request, f"{status} with {self.redact(problem)}: {message}", status=status
            )
        return payload

    def _refusal(self, response: httpx.Response, request: str) -> ApiError:
        status = response.status_code
        reason = self.redact(response.reason_phrase)
        answer = f"{status} {reason}".strip() + f": {self._message(response)}"
        if response.is_redirect:
            return ApiRefused(
                request,
                f"{status}: a redirect. It is not followed, because the key would be sent there.",
                "Check DIXA_BASE_URL.",
                status=status,
            )
        retry_after = _retry_after(response.headers.get("retry-after"))
        if status in RETRYABLE_STATUS and (retry_after or 0) <= LONGEST_RETRY_AFTER:
            return ApiUnavailable(request, answer, status=status, retry_after=retry_after)
        advice = ADVICE.get(status, "Repeating the request cannot help.").format(
            key_variable=self._key_variable
        )
        if status in RETRYABLE_STATUS:
            advice = f"The server asks to wait {retry_after:.0f} s: load again after that."
        if status == 400 and "filter" in _text(response).lower():
            advice += (
                " If Dixa rejects requests without a filter, set DIXA_REQUIRED_FILTER to an"
                " attribute (for instance initial_direction): every request then sends all its"
                " values. `python -m dixa_assets probe` finds the attribute with which the fewest"
                " rows are lost."
            )
        return ApiRefused(request, answer, advice, status=status)

    def _message(self, response: httpx.Response) -> str:
        """The server's message, from `{"message": …}` or the text: short, without the token."""
        text = _text(response)
        with suppress(ValueError, RecursionError):
            payload = json.loads(text)
            if isinstance(payload, dict) and isinstance(payload.get("message"), str):
                text = payload["message"]
        message = self.redact(" ".join(text.split())) or "no message"
        return message if message.endswith((".", "!", "?")) else f"{message}."

    def _sleep(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and not self._is_ending:
            self._stopping.wait(min(left, CLOSE_CHECK_SECONDS))


def _checked_token(api_key: str, key_variable: str) -> str:
    token = re.sub(r"(?i)^bearer(\s+|$)", "", api_key.strip())
    if not token or not token.isascii() or not token.isprintable():
        raise ConfigError(
            key_variable, "is missing or not a token; paste the token as Dixa shows it."
        )
    return token


def _text(response: httpx.Response) -> str:
    """The body as text. The charset header is ignored: it may name something that is no charset."""
    return response.content.decode("utf-8", "replace")


def _from_json(content: bytes) -> Any:
    """Parse a JSON text, at twice the speed of `json`.

    The fast parser agrees with `json` on every number and text. It rejects lone surrogates, other
    encodings than UTF-8 and deep nesting, which `json` then reads.
    """
    try:
        return from_json(content, allow_inf_nan=False)
    except ValueError:
        return json.loads(content, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


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
    requested = error.retry_after if isinstance(error, ApiUnavailable) else None
    return max(_backoff(state), requested or 0.0)


def _log_retry(state: RetryCallState) -> None:
    pause = state.next_action.sleep if state.next_action else 0.0
    error = state.outcome.exception() if state.outcome else None
    logger.warning("attempt %d: %s Next attempt in %.1f s", state.attempt_number, error, pause)
