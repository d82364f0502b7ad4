"""Child processes with a certain end: each is a process group, ended as a whole and by its id."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

# What ends the launcher: Ctrl-C, a polite kill, a closed terminal.
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Dagster ends within three seconds unless a tick or a load is stuck in a request.
GRACE_SECONDS = 5.0


@contextmanager
def started(
    module: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    stderr: int | None = None,
    last_words: Callable[[str], object] = str,
    grace: float = GRACE_SECONDS,
) -> Iterator[subprocess.Popen[str]]:
    """A Python module as a process group, of which nothing is left afterwards.

    A terminal's Ctrl-C does not reach the group: it is interrupted here, given a few seconds and
    then killed, so that the end never waits for whatever the group is waiting for.

    Args:
        module: The module and its arguments.
        env: Its environment.
        cwd: Its folder.
        stderr: As for `Popen`; by default the terminal's.
        last_words: Takes the lines that are written while the group ends.
        grace: Seconds from the interrupt to the kill.

    Yields:
        The process, whose `stdout` is to be read.
    """
    with subprocess.Popen(
        [sys.executable, "-m", *module],
        env=env,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        errors="replace",
        process_group=0,
    ) as process:
        try:
            yield process
        finally:
            _end(process, last_words, grace)


def _end(process: subprocess.Popen[str], last_words: Callable[[str], object], grace: float) -> None:
    # From here on nothing interrupts: the end has its own limit.
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
    _signal_group(process, signal.SIGINT)
    limit = threading.Timer(grace, _signal_group, (process, signal.SIGKILL))
    limit.start()
    # Every process of the group holds the pipe, so it ends with the last of them.
    for line in process.stdout or ():
        last_words(line)
    limit.cancel()
    _signal_group(process, signal.SIGKILL)


def _signal_group(process: subprocess.Popen[str], number: int) -> None:
    # macOS refuses to signal a group whose members have all ended.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
