"""TLS with a certificate that no machine knows, and a proxy that forwards to a server."""

import select
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from dixa_assets_tests.support.raw import RawServer, serve_raw

# A host that only a proxy knows.
HOST = "dixa.example"


def make_authority(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """A certificate for loopback and for `HOST`: its file, and a server's TLS."""
    certificate, key = folder / "ca.pem", folder / "key.pem"
    names = f"subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:{HOST}"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test -addext"
    subprocess.run(
        [*command.split(), names, "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    return certificate, tls


@contextmanager
def proxy_to(url: str) -> Iterator[RawServer]:
    """A proxy that takes CONNECT requests and forwards each of them to one server."""
    port = urlsplit(url).port

    def forward(_: str, client: socket.socket) -> None:
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        with socket.create_connection(("127.0.0.1", port)) as behind:
            threading.Thread(target=_copy, args=(behind, client), daemon=True).start()
            _copy(client, behind)

    with serve_raw(forward) as proxy:
        yield proxy


@contextmanager
def tls_before(url: str, tls: ssl.SSLContext) -> Iterator[str]:
    """The address of a server with TLS that forwards to a server without."""
    port = urlsplit(url).port
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(client: socket.socket) -> None:
            # A client may not know the certificate, or hang up at any moment.
            with (
                suppress(OSError),
                tls.wrap_socket(client, server_side=True) as secure,
                socket.create_connection(("127.0.0.1", port)) as behind,
            ):
                other = {secure: behind, behind: secure}
                while True:
                    # One thread for both directions: an SSL socket is for one thread at a time.
                    for source in select.select([*other], [], [])[0]:
                        if not (data := source.recv(2**16)):
                            return
                        other[source].sendall(data)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=serve, args=listener.accept()[:1], daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"https://localhost:{listener.getsockname()[1]}"


def _copy(source: socket.socket, target: socket.socket) -> None:
    # Either side may hang up at any moment.
    with suppress(OSError):
        while data := source.recv(2**16):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)
