"""`python -m dixa_assets.launch demo|dev [--port 3000]`, what `make demo` and `make dev` start."""

import argparse
import signal
import socket
import sys
from collections.abc import Sequence

from dixa_assets.launch import demo, dev
from dixa_assets.launch.processes import STOPPING

START = {"demo": demo.start, "dev": dev.start}


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until Dagster ends or a signal stops it; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m dixa_assets.launch", description=__doc__)
    parser.add_argument("what", choices=START, help="the simulated Dixa, or your own account")
    parser.add_argument("--port", type=int, default=3000, help="where the Dagster UI listens")
    options = parser.parse_args(arguments)
    try:
        socket.create_server(("127.0.0.1", options.port)).close()
    except OSError:
        another = f"make {options.what} PORT={options.port + 1}"
        print(f"Port {options.port} is in use. Take another: {another}", file=sys.stderr)
        return 1
    return START[options.what](options.port)


def _stop(*_: object) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    for number in STOPPING:
        signal.signal(number, _stop)
    sys.exit(main())
