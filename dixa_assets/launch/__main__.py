"""Command line: `python -m dixa_assets.launch demo|dev`, used by `make demo` and `make dev`."""

import argparse
import signal
import socket
import sys
from collections.abc import Sequence

from dixa_assets.errors import DixaAssetsError
from dixa_assets.launch import demo, dev
from dixa_assets.launch.processes import STOP_SIGNALS
from dixa_assets.settings.messages import accept_every_character

START = {"demo": demo.start, "dev": dev.start}


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until Dagster ends or a signal arrives; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m dixa_assets.launch",
        description="Start the Dagster UI on 127.0.0.1 and load data into it.",
    )
    parser.add_argument(
        "mode", choices=START, help="demo: the simulated Dixa; dev: your own account"
    )
    parser.add_argument(
        "--port", type=int, default=3000, help="port of the Dagster UI (default: %(default)s)"
    )
    accept_every_character()
    options = parser.parse_args(arguments)
    try:
        socket.create_server(("127.0.0.1", options.port)).close()
    except OSError:
        command = f"make {options.mode} PORT={options.port + 1}"
        print(f"Port {options.port} is in use. Use another one: {command}", file=sys.stderr)
        return 1
    try:
        return START[options.mode](options.port)
    except (DixaAssetsError, OSError) as error:
        print(f"✗ {error}", file=sys.stderr)
        return 1


def _stop(*_: object) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    for number in STOP_SIGNALS:
        signal.signal(number, _stop)
    sys.exit(main())
