"""Where the rate limit keeps its state: a small file that the processes of a machine share.

Several machines share a Postgres instead, see `pace_postgres.py`.
"""

import os
import stat
import tempfile
import time
from abc import abstractmethod
from math import ceil
from pathlib import Path

from filelock import FileLock
from pyrate_limiter import Rate
from pyrate_limiter.abstracts.algorithm import ADMITTED, Decision, State, StateAlgorithm
from pyrate_limiter.abstracts.store import StateStore

from dixa_assets.errors import ConfigError

# The first writable one of these holds the state, so that all processes of a user share one limit.
# `tempfile.gettempdir()` depends on the environment, so it could give them different folders.
STATE_FOLDERS = ("/tmp", "/var/tmp", "/usr/tmp")  # noqa: S108
# Processes that may wait for a slot at the same time.
MAX_WAITING_PROCESSES = 64


class Reservations(StateStore):
    """A bucket in which a waiting caller reserves the next slot.

    If all callers competed for each slot, a process with few requests could wait until another
    process has no more requests.
    """

    # When the reserved slot is due, on the monotonic clock. A process has one waiting thread.
    _due: float | None = None

    @abstractmethod
    def reserve(self, algorithm: StateAlgorithm, rates: list[Rate], now: int, weight: int) -> int:
        """Take `weight` slots at `now` or reserve the next; return the milliseconds to wait."""

    def check(
        self, algorithm: StateAlgorithm, rates: list[Rate], now: int, weight: int
    ) -> Decision:
        """Take `weight` slots at `now` (milliseconds), or reserve the next ones."""
        if self._due is not None:
            left = ceil(1000 * (self._due - time.monotonic()))
            if left > 0:
                return Decision(rates[0], left)
            self._due = None
            return ADMITTED
        wait = self.reserve(algorithm, rates, now, weight)
        if not wait:
            return ADMITTED
        self._due = time.monotonic() + wait / 1000
        return Decision(rates[0], wait)


class SharedTokenBucket(Reservations):
    """The limiter's state in a small file, shared by the processes of this machine."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = FileLock(f"{path}.lock", poll_interval=0.005, thread_local=False)

    def reserve(self, algorithm: StateAlgorithm, rates: list[Rate], now: int, weight: int) -> int:
        """Take `weight` slots at `now` or reserve the next; return the milliseconds to wait."""
        with self._lock:
            before = self._read(algorithm, rates, now)
            state, decision = algorithm.step(rates, before, now, weight)
            wait = decision.retry_after_ms or 0
            if wait:
                state, _ = algorithm.step(rates, before, now + wait, weight)
            self._path.write_text(" ".join(str(int(part)) for part in state))
            return wait

    def read(self, algorithm: StateAlgorithm, rates: list[Rate]) -> State:
        """The current state."""
        with self._lock:
            return self._read(algorithm, rates, time.time_ns() // 1_000_000)

    def reset(self) -> None:
        """Release all slots."""
        self._path.unlink(missing_ok=True)

    def _read(self, algorithm: StateAlgorithm, rates: list[Rate], now: int) -> State:
        try:
            state = algorithm.decode(self._path.read_text().split())
        except (FileNotFoundError, ValueError):
            return algorithm.initial(rates)
        # After a clock that was set back, or with a truncated file, begin anew.
        slowest = max(
            (rate.burst + MAX_WAITING_PROCESSES) * rate.interval / rate.limit for rate in rates
        )
        horizon = (now + 10_000 + slowest) * 1000
        if len(state) != len(rates) or any(part > horizon for part in state):
            return algorithm.initial(rates)
        return state


def pace_folder() -> Path:
    """The folder of this user's rate limits, created if missing. Only the user may write there."""
    if not hasattr(os, "getuid"):
        folder = Path(tempfile.gettempdir()) / "dixa_assets"
        folder.mkdir(exist_ok=True)
        return folder
    places = [place for place in STATE_FOLDERS if os.access(place, os.W_OK | os.X_OK)]
    folder = Path(*places[:1] or STATE_FOLDERS[:1]) / f"dixa_assets-{os.getuid()}"
    needed = "The rate limit that all loads share is kept there."
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode):
            raise ConfigError(str(folder), f"is not your own folder. {needed} Have it removed.")
        folder.chmod(0o700)
        if not os.access(folder, os.W_OK):
            raise PermissionError("it cannot be written")
    except OSError as error:
        raise ConfigError(
            str(folder), f"{error.strerror or error}. {needed} Make it a folder you can write."
        ) from None
    return folder
