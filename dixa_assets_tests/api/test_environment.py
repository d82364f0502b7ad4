"""Proxies and certificates from the environment: each works, or the error names its variable."""

import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dixa_assets.api.addresses import is_loopback
from dixa_assets.api.client import DixaClient
from dixa_assets.api.settings import Patience
from dixa_assets.errors import ApiUnavailable, ConfigError
from dixa_assets_tests.support.client import Impatient, listening
from dixa_assets_tests.support.processes import wait_until
from dixa_assets_tests.support.raw import EMPTY, serve_raw
from dixa_assets_tests.support.simulator import KEY
from dixa_assets_tests.support.tunnel import HOST, make_authority, proxy_to

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy and no certificates, whatever the machine has."""
    for name in (*PROXIES, "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """A certificate that no machine knows, for loopback and a host: its file, a server's TLS."""
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.mark.parametrize("name", [*PROXIES, *map(str.lower, PROXIES)])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_requests_to_loopback_are_never_proxied(
    name: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listening() as (url, got), listening() as (proxy, proxied):
        monkeypatch.setenv(name, proxy)
        with Impatient(base_url=url.replace("127.0.0.1", host)) as client:
            assert client.fetch_metrics() == []
    assert (len(got), proxied) == (1, [])


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *((host, True) for host in ("localhost", "127.0.0.1", "127.8.8.8", "::1")),
        *((host, False) for host in ("dev.dixa.io", "localhost.example", "10.0.0.1", "", None)),
    ],
)
def test_loopback_is_this_machine_alone(host: str | None, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NO_PROXY", "[::1]"),
        ("no_proxy", "localhost,[fe80::1]:80"),
        ("ALL_PROXY", "socks5://127.0.0.1:1080"),
        ("all_proxy", "socks5h://127.0.0.1:1080"),
        ("HTTPS_PROXY", "socks4://127.0.0.1:1080"),
        ("HTTPS_PROXY", "http://user:se/cret@proxy:3128"),
        ("https_proxy", "http://proxy:port"),
        ("HTTP_PROXY", "ftp://proxy"),
        ("SSL_CERT_FILE", "/missing/secret.pem"),
        ("SSL_CERT_FILE", os.devnull),
        ("SSL_CERT_FILE", os.curdir),
        ("SSL_CERT_DIR", "/missing/secret"),
        ("SSLKEYLOGFILE", "/missing/secret/keys"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"^{name}: cannot be used") as caught:
        DixaClient(KEY)
    assert "\n" not in str(caught.value)
    assert "cret@" not in str(caught.value)
    # The simulator and other servers on loopback need neither proxies nor certificates.
    with listening() as (url, _), Impatient(base_url=url) as client:
        assert client.fetch_metrics() == []


def test_all_variables_that_may_be_wrong_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", "[::1]")
    with pytest.raises(ConfigError, match="^HTTPS_PROXY or NO_PROXY: "):
        DixaClient(KEY)


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_a_certificate_of_a_company_is_accepted(
    name: str, authority: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, tls = authority
    monkeypatch.setenv(name, str(certificate))
    if name == "SSL_CERT_DIR":
        command = ["openssl", "x509", "-hash", "-noout", "-in", certificate]
        found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        (certificate.parent / f"{found.strip()}.0").symlink_to(certificate)
        monkeypatch.setenv(name, f"/missing{os.pathsep}{certificate.parent}")
    with (
        serve_raw(lambda _, out: out.sendall(EMPTY), tls) as server,
        Impatient(base_url=server.url) as client,
    ):
        for _ in range(3):
            assert client.fetch_metrics() == []


def test_an_unknown_certificate_is_refused_with_the_variable_for_it(
    authority: tuple[Path, ssl.SSLContext],
) -> None:
    with (
        serve_raw(lambda _, out: out.sendall(EMPTY), authority[1]) as server,
        Impatient(patience=Patience(attempts=1), base_url=server.url) as client,
        pytest.raises(ApiUnavailable, match="CERTIFICATE_VERIFY_FAILED.*SSL_CERT_FILE"),
    ):
        client.fetch_metrics()
    assert server.heads == []


@pytest.fixture
def tunnel(
    authority: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[list[str], list[str], list[bytes]]]:
    """A proxy to a server with TLS: heads at the proxy, heads at the server, the answer to send."""
    certificate, tls = authority
    answers = [EMPTY]

    def answer(_: str, out: socket.socket) -> None:
        out.sendall(answers[0])

    with serve_raw(answer, tls) as server, proxy_to(server.url) as proxy:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        yield proxy.heads, server.heads, answers


def test_requests_to_other_hosts_go_through_the_proxy_without_the_key_in_clear(
    tunnel: tuple[list[str], list[str], list[bytes]],
) -> None:
    proxied, served, _ = tunnel
    with Impatient(base_url=f"https://{HOST}") as client:
        for _ in range(3):
            assert client.fetch_metrics() == []
    assert len(proxied) == 1
    assert proxied[0].startswith(f"connect {HOST}:443")
    assert KEY.lower() not in proxied[0]
    assert len(served) == 3


def test_an_answer_through_a_proxy_is_cut_too(
    tunnel: tuple[list[str], list[str], list[bytes]],
) -> None:
    answers = tunnel[2]
    answers[0] = b"HTTP/1.1 200 OK\r\n"
    with Impatient(
        patience=Patience(attempts=1, answer_seconds=0.3), base_url=f"https://{HOST}"
    ) as client:
        for _ in range(5):
            with pytest.raises(ApiUnavailable, match="no complete answer"):
                client.fetch_metrics()
        wait_until(
            lambda: all(each.name != "dixa-answer" for each in threading.enumerate()),
            seconds=10,
            what="the end of the reading threads",
        )
        answers[0] = EMPTY
        assert client.fetch_metrics() == []
