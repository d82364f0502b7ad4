"""Servers that some tests need beside them."""

import os
import socket
from contextlib import closing, suppress

import pytest


def postgres_url() -> str:
    """A Postgres: what DIXA_TEST_POSTGRES names, or what answers on loopback; else a skip."""
    if named := os.environ.get("DIXA_TEST_POSTGRES"):
        return named
    with suppress(OSError), closing(socket.create_connection(("127.0.0.1", 5432), timeout=1)):
        return "postgresql://postgres@127.0.0.1/postgres"
    pytest.skip("no Postgres: name one as DIXA_TEST_POSTGRES=postgresql://user@host/database")
