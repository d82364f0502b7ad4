"""The pace of requests: one token bucket per token, shared by all processes that use it.

Those of one machine share a file. Those of several share a Postgres, see `pace_postgres`.
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

# Where the pace is kept: the first that can be written, the same for every process of a user.
# Not `tempfile.gettempdir()`, which follows the environment: two would be two paces.
PLACES = ("/tmp", "/var/tmp", "/usr/tmp")  # noqa: S108
# Processes that may wait for a token at the same time.
WAITING = 64


class Reservations(StateStore):
    """A bucket of which a caller that finds no token reserves the next, and gets it when it is due.

    If all callers raced for it, one that asks seldom could wait for as long as another has work.
    """

    # When the reserved token is due, on the monotonic clock. It is one caller's: those of one
    # process wait one at a time.
    _due: float | None = None

    @abstractmethod
    def reserve(self, algorithm: StateAlgorithm, rates: list[Rate], now: int, weight: int) -> int:
        """Take `weight` tokens at `now`, or those that come next; milliseconds until they do."""

    def check(
        self, algorithm: StateAlgorithm, rates: list[Rate], now: int, weight: int
    ) -> Decision:
        """Take `weight` tokens at `now` (milliseconds), or reserve those that come next."""
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
    """The limiter's state in a small file, so that every process on this machine shares it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = FileLock(f"{path}.lock", poll_interval=0.005, thread_local=False)

    def reserve(self, algorithm: StateAlgorithm, rates: list[Rate], now: int, weight: int) -> int:
        """Take `weight` tokens at `now`, or those that come next; milliseconds until they do."""
        with self._lock:
            before = self._read(algorithm, rates, now)
            state, decision = algorithm.step(rates, before, now, weight)
            wait = decision.retry_after_ms or 0
            if wait:
                state, _ = algorithm.step(rates, before, now + wait, weight)
            self._path.write_text(" ".join(str(int(part)) for part in state))
            return wait

    def read(self, algorithm: StateAlgorithm, rates: list[Rate]) -> State:
        """The state now, for reporting."""
        with self._lock:
            return self._read(algorithm, rates, time.time_ns() // 1_000_000)

    def reset(self) -> None:
        """Forget all tokens taken."""
        self._path.unlink(missing_ok=True)

    def _read(self, algorithm: StateAlgorithm, rates: list[Rate], now: int) -> State:
        try:
            state = algorithm.decode(self._path.read_text().split())
        except (FileNotFoundError, ValueError):
            return algorithm.initial(rates)
        # A clock that was set back, or a file cut short, must not stop all traffic.
        slowest = max((rate.burst + WAITING) * rate.interval / rate.limit for rate in rates)
        horizon = (now + 10_000 + slowest) * 1000
        if len(state) != len(rates) or any(part > horizon for part in state):
            return algorithm.initial(rates)
        return state


def pace_folder() -> Path:
    """The folder of this user's paces, made when missing; nobody else may write there."""
    if not hasattr(os, "getuid"):
        folder = Path(tempfile.gettempdir()) / "dixa_assets"
        folder.mkdir(exist_ok=True)
        return folder
    places = [place for place in PLACES if os.access(place, os.W_OK | os.X_OK)]
    folder = Path(*places[:1] or PLACES[:1]) / f"dixa_assets-{os.getuid()}"
    needed = "The pace that all loads share is kept there."
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
