"""Child processes: each is a process group that is stopped as a whole, by its id."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

# The signals that stop the launcher: Ctrl-C, `kill`, a closed terminal.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Dagster ends within three seconds unless a sensor tick or a load is blocked by a request.
GRACE_SECONDS = 5.0


@contextmanager
def running_module(
    module: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    stderr: int | None = None,
    on_final_line: Callable[[str], object] = str,
    grace: float = GRACE_SECONDS,
) -> Iterator[subprocess.Popen[str]]:
    """Run a Python module as a process group, and stop the whole group at the end.

    Ctrl-C in a terminal does not reach the group. The group gets an interrupt at the end of the
    block and is killed `grace` seconds later, so that a blocked process cannot delay the end. The
    caller reads `stdout` in the block; `on_final_line` gets each line after the interrupt.
    """
    with subprocess.Popen(
        [sys.executable, "-m", *module],
        env=env,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        encoding="utf-8",
        errors="replace",
        process_group=0,
    ) as process:
        try:
            yield process
        finally:
            # A second signal must not interrupt the stop, which has its own time limit.
            for number in STOP_SIGNALS:
                signal.signal(number, signal.SIG_IGN)
            _signal_group(process, signal.SIGINT)
            kill = threading.Timer(grace, _signal_group, (process, signal.SIGKILL))
            kill.start()
            # Every process of the group holds the pipe, so the output ends with the last process.
            for line in process.stdout or ():
                on_final_line(line)
            kill.cancel()
            _signal_group(process, signal.SIGKILL)


def _signal_group(process: subprocess.Popen[str], number: int) -> None:
    # macOS refuses to signal a group whose members have all ended.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
