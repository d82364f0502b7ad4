"""Signals that arrive while DuckDB works."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

from dixa_assets.warehouse.sql import Connection

STOPS = (signal.SIGINT, signal.SIGTERM)
# The error of a statement that such a signal interrupts.
Interrupted = duckdb.InterruptException


@contextmanager
def delayed_signals(connection: Connection | None = None) -> Iterator[None]:
    """Delay SIGINT and SIGTERM to the end of the block. A second signal acts at once.

    DuckDB calls Python's handlers while a statement runs. It ignores what they raise, or reports it
    as the statement's error, and a run that somebody stopped would start its next asset.

    Args:
        connection: A signal interrupts its running statement, so that the delay is short.
    """
    # Only the main thread can set handlers, and only its statements call them.
    is_main = threading.current_thread() is threading.main_thread()
    found = {number: signal.getsignal(number) for number in STOPS if is_main}
    # The default action of SIGTERM raises nothing: it ends the process.
    handlers = {number: handler for number, handler in found.items() if callable(handler)}
    received: list[int] = []

    def receive(number: int, _: object) -> None:
        received.append(number)
        restore()
        if connection:
            connection.interrupt()

    def restore() -> None:
        for number, handler in handlers.items():
            signal.signal(number, handler)

    try:
        for number in handlers:
            signal.signal(number, receive)
        yield
    finally:
        restore()
        if received:
            signal.raise_signal(received[0])
