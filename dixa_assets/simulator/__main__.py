"""Serve the simulator on loopback: `python -m dixa_assets.simulator --port 8070`."""

import argparse
import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence

import uvicorn

from dixa_assets.simulator.app import Simulator
from dixa_assets.simulator.control import parse_now
from dixa_assets.simulator.state import Settings, Shelf, State
from dixa_assets.simulator.world import World

DEMO_KEY = "dixa-demo-key"
HOST = "127.0.0.1"


class _Server(uvicorn.Server):
    """A server that says where it listens once it does."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if sockets:
            port = sockets[0].getsockname()[1]
            print(f"Dixa simulator listening on http://{HOST}:{port}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop, and return the exit code."""
    # uvicorn closes its connections at the first signal and then hands it on to this handler,
    # which must not wait for a long period still being computed in a thread.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))
    options = _parse(arguments)
    # The cached history has no cycles: looking for some in it would halt every answer.
    gc.set_threshold(50_000, 1_000, 1_000)
    late = options.add_metric_after
    state = State(
        world=World(seed=options.seed, conversations_per_day=options.conversations_per_day),
        key=os.environ.get("DIXA_API_KEY", "").strip() or DEMO_KEY,
        settings=Settings(rate=options.rate, burst=options.burst, latency_ms=options.latency_ms),
        stopped_at=options.now,
        shelf=Shelf(late_at=None if late is None else time.monotonic() + late),
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
        description="A local imitation of Dixa's Analytics API, with invented data.",
    )
    parser.add_argument("--port", type=int, required=True, help="0 takes a free port")
    parser.add_argument("--seed", type=int, default=7, help="another seed, another history")
    parser.add_argument("--now", type=parse_now, help="stops the clock, e.g. 2025-04-02T12:00:00Z")
    parser.add_argument("--rate", type=float, default=10.0, help="requests per second; 0: no limit")
    parser.add_argument("--burst", type=int, default=4, help="requests allowed at once")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="added to every answer")
    parser.add_argument("--conversations-per-day", type=int, default=120)
    parser.add_argument(
        "--add-metric-after",
        type=float,
        metavar="SECONDS",
        help="lets a new metric appear in the catalogue after so many seconds",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
