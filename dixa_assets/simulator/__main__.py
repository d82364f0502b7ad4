"""Command line: `python -m dixa_assets.simulator --port 8070` serves the simulator on loopback."""

import argparse
import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import uvicorn

from dixa_assets.simulator.app import Simulator
from dixa_assets.simulator.control import parse_now
from dixa_assets.simulator.state import Catalogue, Settings, State
from dixa_assets.simulator.world import World

DEMO_KEY = "dixa-demo-key"
HOST = "127.0.0.1"


class _Server(uvicorn.Server):
    """A server that prints its address as soon as it listens."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if sockets:
            port = sockets[0].getsockname()[1]
            print(f"Dixa simulator listening on http://{HOST}:{port}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until a signal ends the process; return 1 if the port is in use."""
    # uvicorn closes its connections at the first signal and then calls this handler. It must not
    # wait for a thread that still computes a long period.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))
    options = _parse(arguments)
    # The cached rows have no reference cycles, and searching them would delay every answer.
    gc.set_threshold(50_000, 1_000, 1_000)
    delay = options.add_metric_after
    state = State(
        world=World(
            seed=options.seed,
            conversations_per_day=options.conversations_per_day,
            edge_share=options.edge_share,
        ),
        key=os.environ.get("DIXA_API_KEY", "").strip() or DEMO_KEY,
        settings=Settings(rate=options.rate, burst=options.burst, latency_ms=options.latency_ms),
        stopped_at=options.now,
        catalogue=Catalogue(late_at=None if delay is None else time.monotonic() + delay),
    )
    try:
        listener = socket.create_server((HOST, options.port), backlog=128)
    except OSError as error:
        print(f"Cannot listen on {HOST}:{options.port}: {error.strerror}", file=sys.stderr)
        return 1
    config = uvicorn.Config(
        Simulator(state),
        access_log=False,
        log_level="critical",
        lifespan="off",
        timeout_graceful_shutdown=0,
    )
    _Server(config).run(sockets=[listener])
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m dixa_assets.simulator",
        description="Serve a local imitation of Dixa's Analytics API with invented data on "
        "127.0.0.1. The API key is DIXA_API_KEY, or dixa-demo-key if that is not set.",
    )

    def add(flag: str, metavar: str, kind: Callable[[str], object], text: str, **more: Any) -> None:
        text += "" if more.get("default") is None else " (default: %(default)s)"
        parser.add_argument(flag, metavar=metavar, type=kind, help=text, **more)

    add("--port", "PORT", int, "port to listen on; 0 takes a free one", required=True)
    add("--seed", "N", int, "each seed gives other data", default=7)
    add("--now", "INSTANT", parse_now, "stop the clock at an instant, e.g. 2025-04-02T12:00:00Z")
    add("--rate", "R", float, "requests per second; 0 means no limit", default=10.0)
    add("--burst", "N", int, "requests allowed at once", default=4)
    add("--latency-ms", "MS", float, "wait before every answer", default=0.0)
    add("--conversations-per-day", "N", int, "typical size of a working day", default=120)
    add("--edge-share", "S", float, "limit conversations at local midnights to a share, e.g. 0.02")
    add("--add-metric-after", "SECONDS", float, "add a new metric to the catalogue after this time")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
