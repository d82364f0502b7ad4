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
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx

from dixa_assets.api.addresses import is_loopback
from dixa_assets.errors import ConfigError

CONNECT_SECONDS = 10.0
# The caller checks this often, in seconds, whether it should stop waiting.
CLOSE_CHECK_SECONDS = 0.2
# Decoded bytes of one answer. A page has at most 300 rows.
MAX_BYTES = 64 * 2**20
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")
PROXIES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")


class GaveUp(Exception):
    """The caller stopped waiting, and the connection was cut, or the connections are closed."""


class TooLarge(Exception):
    """The answer has more than `MAX_BYTES`; the connection is cut."""


@dataclass
class _Connection:
    """One connection for one request at a time. Another thread can cut it."""

    client: httpx.Client
    is_cut: bool = False
    stream: Any = field(default=None, repr=False)

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Remember the network stream when httpcore opens it."""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
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
        self._base = base
        # `_read` can limit the size of each step of decompressing gzip.
        self._headers = {"Accept-Encoding": "gzip", **headers}
        self._timeout = httpx.Timeout(answer_seconds, connect=CONNECT_SECONDS)
        self._lock = threading.Lock()
        self._idle: list[_Connection] = []
        self._busy: list[_Connection] = []
        self._is_closed = False
        self._tls = _tls_context() if base.startswith("https:") else False
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
        """Send a request and return the whole answer.

        Args:
            build: Builds the request.
            deadline: When to give up, on the monotonic clock.
            stop: Called often; True gives up before the deadline.

        Raises:
            GaveUp: The deadline passed, `stop` returned True, or the connections are closed.
            TooLarge: The answer is too large.
            httpx.HTTPError: The connection failed.
        """
        connection, outcome = self._take(), Future[httpx.Response]()

        def read() -> None:
            try:
                outcome.set_result(_read(connection, build))
            except Exception as error:
                connection.client.close()
                outcome.set_exception(error)

        try:
            threading.Thread(target=read, name="dixa-answer", daemon=True).start()
            while not outcome.done():
                with suppress(TimeoutError):
                    outcome.exception(timeout=CLOSE_CHECK_SECONDS)
                if not outcome.done() and (stop() or time.monotonic() > deadline):
                    raise GaveUp
            return outcome.result()
        finally:
            self._release(connection, outcome)

    def _take(self) -> _Connection:
        with self._lock:
            if self._is_closed:
                raise GaveUp
            connection = self._idle.pop() if self._idle else self._open()
            self._busy.append(connection)
            return connection

    def _release(self, connection: _Connection, outcome: Future[httpx.Response]) -> None:
        with self._lock:
            self._busy.remove(connection)
            if not outcome.done():
                connection.cut()
            elif self._is_closed or outcome.exception():
                connection.client.close()
            else:
                self._idle.append(connection)

    def _open(self) -> _Connection:
        try:
            client = httpx.Client(
                base_url=self._base,
                headers=self._headers,
                timeout=self._timeout,
                limits=httpx.Limits(max_connections=1),
                follow_redirects=False,
                verify=self._tls,
                # A proxy would receive the key of a loopback request unencrypted.
                trust_env=not is_loopback(urlsplit(self._base).hostname),
            )
        except (httpx.InvalidURL, ImportError, ValueError):
            # The reason may quote the proxy's password.
            raise ConfigError(
                _variables(PROXIES),
                "cannot be used. Write a proxy as http://proxy:3128; socks5:// does not work. In "
                "NO_PROXY, list hosts and addresses without brackets.",
            ) from None
        return _Connection(client)


def _read(
    connection: _Connection, build: Callable[[httpx.Client], httpx.Request]
) -> httpx.Response:
    request = build(connection.client)
    request.extensions["trace"] = connection.trace
    response = connection.client.send(request, stream=True)
    kept = [each for each in response.headers.multi_items() if each[0] != "content-encoding"]
    is_packed = response.headers.get("content-encoding", "").lower() in {"gzip", "x-gzip"}
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 16)
    content, received = bytearray(), 0
    try:
        for piece in response.iter_raw():
            received += len(piece)
            most = MAX_BYTES + 1 - len(content)
            content += unpack.decompress(piece, most) if is_packed else piece
            if max(received, len(content)) > MAX_BYTES:
                raise TooLarge
    except zlib.error as error:
        raise httpx.DecodingError(str(error)) from None
    finally:
        response.close()
    # A streamed response and its stream refer to each other. A new response has no stream, so its
    # page leaves the memory without a garbage collection.
    return httpx.Response(
        response.status_code,
        headers=kept,
        content=bytes(content),
        extensions={"reason_phrase": response.reason_phrase.encode()},
    )


def _tls_context() -> ssl.SSLContext:
    # httpx reads SSL_CERT_DIR only if SSL_CERT_FILE is not set. Python ignores missing folders.
    folders = "" if os.environ.get("SSL_CERT_FILE") else os.environ.get("SSL_CERT_DIR", "")
    try:
        if folders and not any(map(os.path.isdir, folders.split(os.pathsep))):
            raise FileNotFoundError("no such folder")
        return httpx.create_ssl_context()
    except OSError as error:
        raise ConfigError(
            _variables(CERTIFICATES),
            f"cannot be used ({error}). Name a readable PEM file or folder.",
        ) from None


def _variables(names: tuple[str, ...]) -> str:
    """The variables among `names` that are set."""
    return " or ".join(
        each for name in names for each in (name, name.lower()) if each in os.environ
    )
