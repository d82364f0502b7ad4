"""Answers that never end or grow without limit: the client stops them and goes on working."""

import gzip
import itertools
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from dixa_assets.api import connections
from dixa_assets.api.client import DixaClient
from dixa_assets.api.settings import Patience
from dixa_assets.errors import ApiContractBroken, ApiError, ApiUnavailable
from dixa_assets_tests.support.client import Impatient, listening, quick
from dixa_assets_tests.support.processes import wait_until
from dixa_assets_tests.support.raw import EMPTY, JSON, serve_raw
from dixa_assets_tests.support.serve import Response, serve
from dixa_assets_tests.support.simulator import KEY

# More answers than a connection pool has places.
ANSWERS = 20
CHUNKED = JSON + b"transfer-encoding: chunked\r\n\r\n"
GZIP = JSON + b"content-encoding: gzip\r\n"
# 100 kB that become 100 MB.
BOMB = gzip.compress(b" " * 100_000_000)


def with_length(head: bytes, body: bytes) -> bytes:
    return head + b"content-length: %d\r\n\r\n" % len(body) + body


def endless(first: bytes, then: bytes, pause: float = 0.0) -> Callable[[socket.socket], None]:
    def write(out: socket.socket) -> None:
        out.sendall(first)
        while True:
            out.sendall(then)
            time.sleep(pause)

    return write


def whole(answer: bytes) -> Callable[[socket.socket], None]:
    return lambda out: out.sendall(answer)


def stopping(first: bytes) -> Callable[[socket.socket], None]:
    def write(out: socket.socket) -> None:
        out.sendall(first)
        # Ends when the client hangs up.
        out.recv(1)

    return write


SLOW: dict[str, Callable[[socket.socket], None]] = {
    "dripping status": endless(b"HTTP/1.1 200 ", b"O", 0.05),
    "dripping headers": endless(JSON, b"x-drip: 1\r\n", 0.05),
    "early responses": endless(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100, 0.01),
    "continue": endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.01),
    "dripping body": endless(CHUNKED, b"1\r\n \r\n", 0.05),
    "silence": stopping(b""),
    "a body that stops": stopping(JSON + b"content-length: 99\r\n\r\n{"),
}
LARGE: dict[str, Callable[[socket.socket], None]] = {
    "endless body": endless(JSON + b"\r\n", b" " * 2**16),
    "endless chunks": endless(CHUNKED, b"10000\r\n" + b" " * 2**16 + b"\r\n"),
    "gzip bomb": whole(with_length(GZIP, BOMB)),
    "bytes after the end of gzip": endless(GZIP + b"\r\n" + gzip.compress(b"{}"), b" " * 2**16),
}


def threads() -> int:
    return sum(thread.name == "dixa-answer" for thread in threading.enumerate())


def recovers(
    write: Callable[[socket.socket], None], error: type[ApiError], **patience: Any
) -> None:
    """Request many broken answers with one client, in four threads; then it still works."""
    broken = itertools.count()

    def answer(_: str, out: socket.socket) -> None:
        (write if next(broken) < ANSWERS else whole(EMPTY))(out)

    with (
        serve_raw(answer) as server,
        Impatient(patience=Patience(attempts=1, **patience), base_url=server.url) as client,
        ThreadPoolExecutor(4) as pool,
    ):
        for fetch in [pool.submit(client.fetch_metrics) for _ in range(ANSWERS)]:
            with pytest.raises(error):
                fetch.result()
        assert client.fetch_metrics() == []
        wait_until(lambda: threads() == 0, seconds=10, what="the end of the reading threads")
        wait_until(lambda: server.open <= 4, seconds=10, what="the end of the connections")


@pytest.mark.parametrize("kind", SLOW)
def test_a_client_recovers_from_answers_that_never_end(kind: str) -> None:
    recovers(SLOW[kind], ApiUnavailable, answer_seconds=0.3)


@pytest.mark.parametrize("kind", LARGE)
def test_a_client_recovers_from_answers_without_a_limit(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MAX_BYTES", 2**22)
    recovers(LARGE[kind], ApiContractBroken)


def test_a_gzip_bomb_is_refused_in_words() -> None:
    answer = with_length(GZIP, BOMB)
    with (
        serve_raw(lambda _, out: whole(answer)(out)) as server,
        Impatient(base_url=server.url) as client,
        pytest.raises(ApiContractBroken, match="more than 64 MiB"),
    ):
        client.fetch_metrics()
    assert len(server.heads) == 1


@pytest.mark.parametrize(
    "encoding", ["gzip, gzip", "br", "zstd", "deflate", "gzip,", "unknown", "identity, gzip"]
)
def test_a_bomb_in_another_encoding_is_not_decoded(encoding: str) -> None:
    head = JSON + f"content-encoding: {encoding}\r\n".encode()
    answer = with_length(head, gzip.compress(BOMB))
    with (
        serve_raw(lambda _, out: whole(answer)(out)) as server,
        Impatient(patience=Patience(attempts=1), base_url=server.url) as client,
        pytest.raises(ApiUnavailable, match="not JSON"),
    ):
        client.fetch_metrics()


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip"])
def test_an_answer_in_gzip_is_read(encoding: str) -> None:
    body = gzip.compress(b'{"data": [{"id": "one"}]}')
    answer = with_length(JSON + f"Content-Encoding: {encoding}\r\n".encode(), body)
    with (
        serve_raw(lambda _, out: whole(answer)(out)) as server,
        Impatient(base_url=server.url) as client,
    ):
        assert client.fetch_metrics() == [{"id": "one"}]
    assert "accept-encoding: gzip\r\n" in server.heads[0]


PACKED = gzip.compress(b'{"data": [' + b" " * 99 + b"]}")


@pytest.mark.parametrize(
    "answer",
    [
        with_length(GZIP, PACKED[:-12]),
        with_length(GZIP, PACKED[:-8] + b"\0" * 8),
        with_length(GZIP, b'{"data": []}'),
        # The server closes the connection before the last chunk.
        CHUNKED + b'c\r\n{"data": []}\r\n',
        JSON + b'content-length: 99\r\n\r\n{"data": []}',
    ],
)
def test_an_answer_that_ends_early_or_is_damaged_is_retried(answer: bytes) -> None:
    broken = itertools.count()

    def write(_: str, out: socket.socket) -> None:
        if next(broken):
            out.sendall(EMPTY)
        else:
            out.sendall(answer)
            raise ConnectionAbortedError

    with serve_raw(write) as server, Impatient(base_url=server.url) as client:
        assert client.fetch_metrics() == []
    assert len(server.heads) == 2


def test_a_connection_is_used_again_unless_the_server_closed_it() -> None:
    opened = []
    with (
        serve_raw(lambda _, out: (opened.append(out), out.sendall(EMPTY))[0]) as raw,
        Impatient(base_url=raw.url) as client,
    ):
        for _ in range(3):
            client.fetch_metrics()
    assert len({*map(id, opened)}) == 1
    # A server that closes each connection while it is idle.
    closed: list[int] = []

    def write(_: str, out: socket.socket) -> None:
        out.sendall(EMPTY)
        closed.append(1)
        raise ConnectionAbortedError

    with serve_raw(write) as raw, Impatient(base_url=raw.url) as client:
        for number in range(5):
            assert client.fetch_metrics() == []
            wait_until(lambda: raw.open == 0, seconds=10, what=f"the end of connection {number}")
    assert len(closed) == 5
    assert client.waits == []


@pytest.mark.parametrize("kind", ["dripping headers", "early responses", "silence"])
def test_close_ends_a_request_in_flight(kind: str) -> None:
    with serve_raw(lambda _, out: SLOW[kind](out)) as server, ThreadPoolExecutor(4) as pool:
        client = DixaClient(KEY, quick(base_url=server.url))
        fetches = [pool.submit(client.fetch_metrics) for _ in range(4)]
        wait_until(lambda: len(server.heads) == 4, what="four requests")
        client.close()
        for fetch in fetches:
            with pytest.raises(ApiError, match="the load is stopping"):
                fetch.result(timeout=10)
        wait_until(lambda: threads() == 0, seconds=10, what="the end of the reading threads")
        with pytest.raises(ApiError, match="not sent"):
            client.fetch_metrics()


@pytest.mark.parametrize("fault", ["refused", "500", "429 and Retry-After", "an error with 200"])
def test_a_client_waits_no_longer_than_it_lives(fault: str) -> None:
    answers = {
        "500": Response({}, 500),
        "429 and Retry-After": Response({}, 429, {"Retry-After": "30"}),
        "an error with 200": Response({"message": "Task timed out"}),
    }
    with listening() as (refused, _):
        pass
    with serve(lambda _: answers[fault]) as server:
        url = refused if fault == "refused" else server.url
        with Impatient(patience=Patience(lifetime=2), base_url=url) as client:
            for _ in range(3):
                with pytest.raises(ApiUnavailable):
                    client.fetch_metrics()
    assert all(wait < 2 for wait in client.waits)
    assert len(client.waits) <= 3 * 2
