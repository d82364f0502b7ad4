"""A server on loopback that answers with bytes, for answers that are no HTTP or never end."""

import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import BinaryIO

# Answers a request, given as its head in lower case, on a connection.
Write = Callable[[str, socket.socket], None]
JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
EMPTY = JSON + b"content-length: 12\r\n\r\n" + b'{"data": []}'


@dataclass
class RawServer:
    """The address of a server, the heads of its requests, and how many connections are open."""

    url: str = ""
    heads: list[str] = field(default_factory=list)
    open: int = 0


@contextmanager
def serve_raw(write: Write, tls: ssl.SSLContext | None = None) -> Iterator[RawServer]:
    """A server that answers each request of a connection with `write`, until the block ends."""
    served = RawServer()
    lock = threading.Lock()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with lock:
                served.open += 1
            # A client may hang up at any moment.
            with suppress(OSError):
                while head := _head(self.rfile):
                    served.heads.append(head)
                    write(head, self.connection)
            with lock:
                served.open -= 1

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

        def handle_error(self, *_: object) -> None:
            pass

    with Server(("127.0.0.1", 0), Handler) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        served.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()


def _head(stream: BinaryIO) -> str:
    """The first line and the headers of the next request, in lower case; empty at the end."""
    lines = []
    while (line := stream.readline().decode("latin-1").lower()).strip():
        lines.append(line)
    for each in lines:
        if each.startswith("content-length:"):
            stream.read(int(each.partition(":")[2]))
    return "".join(lines)
