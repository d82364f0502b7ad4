"""A real HTTP server on loopback whose answers are one function."""

import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from dixa_assets_tests.support.processes import child


@dataclass(frozen=True)
class Request:
    """A request of a client."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Message
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Response:
    """The answer for the client; content that is not bytes is sent as JSON.

    `part` is the share of the body that is sent before the connection closes.
    """

    content: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    part: float = 1.0


Answer = Callable[[Request], Response]


class Server(ThreadingHTTPServer):
    """Keeps the exception of an answer that failed, so that no test takes it for a fault."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, answer: Answer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.failure: BaseException | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: object) -> None:
        error = sys.exception()
        # A client may hang up at any moment.
        if not isinstance(error, ConnectionError):
            self.failure = error


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        response = self.server.answer(Request(self.command, url.path, query, self.headers, body))
        content = response.content
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(response.status)
        for name, value in ({"content-type": "application/json"} | dict(response.headers)).items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: int(len(content) * response.part)])
        self.close_connection = response.part < 1 or response.status < 200

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serve(answer: Answer) -> Iterator[Server]:
    """A server on a free port that answers each request in a thread, until the block ends."""
    with Server(answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
    if server.failure:
        raise server.failure


@contextmanager
def serve_in_process(make: Callable[..., Answer], *arguments: Any) -> Iterator[str]:
    """The address of a server in a process of its own; `make(*arguments)` is called there."""
    with child(_serve, make, arguments) as (_, pipe):
        yield pipe.recv()


def _serve(make: Callable[..., Answer], arguments: tuple[Any, ...], pipe: Connection) -> None:
    with serve(make(*arguments)) as server:
        pipe.send(server.url)
        pipe.recv()
