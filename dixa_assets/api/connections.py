"""HTTP exchanges that are bounded in time and size.

A thread that waits for bytes cannot be stopped. So a separate thread reads the answer, and the
caller cuts the connection when it stops waiting, which ends the reading thread. Retries, the rate
limit and the meaning of answers are in `transport.py`.
"""

import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx

from dixa_assets.errors import ConfigError

CONNECT_SECONDS = 10.0
# The caller checks this often, in seconds, whether it should stop waiting.
LOOK_SECONDS = 0.2
# Decoded bytes of one answer. A page has at most 300 rows.
MOST_BYTES = 64 * 2**20
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
PROXIES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")


class GaveUp(Exception):
    """The caller stopped waiting; the connection is cut."""


class TooLarge(Exception):
    """The answer has more than `MOST_BYTES`; the connection is cut."""


@dataclass
class _Connection:
    """One connection for one request at a time. Another thread can cut it."""

    client: httpx.Client
    is_cut: bool = False
    stream: Any = field(default=None, repr=False)

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Remember the network stream when httpcore opens it."""
        if event.startswith("connection.") and event.endswith(
            (".connect_tcp.complete", "_tls.complete")
        ):
            self.stream = info["return_value"]
            if self.is_cut:
                self.cut()

    def cut(self) -> None:
        """End the exchange: the reading thread sees a closed connection."""
        self.is_cut = True
        if self.stream is not None:
            with suppress(OSError):
                # An SSL socket's own `shutdown` changes state that the reading thread uses.
                socket.socket.shutdown(self.stream.get_extra_info("socket"), socket.SHUT_RDWR)


class Connections:
    """The connections of a client to one host.

    Args:
        base: Scheme and host.
        headers: Headers of every request.
        answer_seconds: Seconds for one answer.
    """

    def __init__(self, base: str, headers: Mapping[str, str], answer_seconds: float) -> None:
        self._base, self._headers = base, dict(headers)
        self._timeout = httpx.Timeout(answer_seconds, connect=CONNECT_SECONDS)
        self._lock = threading.Lock()
        self._idle: list[_Connection] = []
        self._busy: list[_Connection] = []
        self._is_closed = False
        self._tls = _tls_context()
        self._idle.append(self._open())

    def close(self) -> None:
        """Cut the connections in use and close the others."""
        with self._lock:
            self._is_closed = True
            for connection in self._busy:
                connection.cut()
            for connection in self._idle:
                connection.client.close()
            self._idle.clear()

    def exchange(
        self,
        build: Callable[[httpx.Client], httpx.Request],
        *,
        deadline: float,
        stop: Callable[[], bool],
    ) -> httpx.Response:
        """Send a request; the whole answer.

        Args:
            build: Builds the request.
            deadline: When to give up, on the monotonic clock.
            stop: Whether to give up before.

        Raises:
            GaveUp: The deadline passed, or `stop` said so.
            TooLarge: The answer is too large.
            httpx.HTTPError: The connection failed.
        """
        connection = self._take()
        outcome: Future[httpx.Response] = Future()

        def read() -> None:
            try:
                outcome.set_result(_read(connection, build, deadline))
            except Exception as error:
                connection.client.close()
                outcome.set_exception(error)

        threading.Thread(target=read, name="dixa-answer", daemon=True).start()
        while not outcome.done():
            with suppress(TimeoutError):
                outcome.exception(timeout=LOOK_SECONDS)
            if not outcome.done() and (stop() or time.monotonic() > deadline):
                self._release(connection, is_usable=False)
                raise GaveUp
        self._release(connection, is_usable=outcome.exception() is None)
        return outcome.result()

    def _take(self) -> _Connection:
        with self._lock:
            if self._is_closed:
                raise GaveUp
            connection = self._idle.pop() if self._idle else self._open()
            self._busy.append(connection)
            return connection

    def _release(self, connection: _Connection, *, is_usable: bool) -> None:
        with self._lock:
            self._busy.remove(connection)
            if is_usable and not self._is_closed:
                self._idle.append(connection)
                return
        connection.cut()

    def _open(self) -> _Connection:
        # Loopback is never proxied: the proxy would get the key in clear.
        is_local = urlsplit(self._base).hostname in LOOPBACK
        try:
            client = httpx.Client(
                base_url=self._base,
                headers=self._headers,
                timeout=self._timeout,
                limits=httpx.Limits(max_connections=1),
                follow_redirects=False,
                verify=self._tls,
                trust_env=not is_local,
            )
        except (httpx.InvalidURL, ImportError, ValueError) as error:
            raise ConfigError(
                " or ".join(_set_variables(PROXIES)) or "proxy",
                f"cannot be used ({error}). Use addresses like http://proxy:3128; NO_PROXY takes "
                "host names and addresses without brackets.",
            ) from None
        return _Connection(client)


def _read(
    connection: _Connection, build: Callable[[httpx.Client], httpx.Request], deadline: float
) -> httpx.Response:
    request = build(connection.client)
    request.extensions["trace"] = connection.trace
    response = connection.client.send(request, stream=True)
    try:
        pieces, size = [], 0
        for piece in response.iter_bytes():
            pieces.append(piece)
            size += len(piece)
            if size > MOST_BYTES:
                raise TooLarge
            if time.monotonic() > deadline:
                raise httpx.ReadTimeout("the body did not end in time")
    finally:
        response.close()
    # A streamed response and its stream refer to each other. A new response has no stream, so its
    # page leaves the memory without a garbage collection.
    return httpx.Response(
        response.status_code,
        headers=[
            each for each in response.headers.multi_items() if each[0].lower() != "content-encoding"
        ],
        content=b"".join(pieces),
        extensions={"reason_phrase": response.reason_phrase.encode()},
    )


def _tls_context() -> ssl.SSLContext:
    try:
        return httpx.create_ssl_context()
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            " or ".join(_set_variables(CERTIFICATES)) or "certificates",
            f"names no readable certificates ({error}). Name a PEM file or a folder of them.",
        ) from None


def _set_variables(names: tuple[str, ...]) -> list[str]:
    return [each for name in names for each in (name, name.lower()) if os.environ.get(each)]
