"""Stopping a process group: with an interrupt first, and with a kill if that does not help."""

import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from dixa_assets.launch.processes import STOP_SIGNALS, running_module
from dixa_assets_tests.support.processes import wait_until

STUBBORN = """
import os, signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
os.fork()
os.write(1, f"{os.getpid()}\\n".encode())
time.sleep(3600)
"""
OBEDIENT = """
import os, time
try:
    os.write(1, b"ready\\n")
    time.sleep(3600)
except KeyboardInterrupt:
    os.write(1, b"interrupted\\n")
"""


@pytest.fixture(autouse=True)
def _signal_handlers() -> Iterator[None]:
    """Restores the handlers, because stopping a group makes this process ignore the signals."""
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def has_ended(pid: int) -> bool:
    """Whether a process is gone, or is a zombie because nothing waits for it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("Z")
    except FileNotFoundError:
        return True


def test_a_group_that_ignores_the_interrupt_is_killed_with_all_members(tmp_path: Path) -> None:
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    with running_module(["stubborn"], env=os.environ, cwd=tmp_path, grace=0.1) as process:
        assert process.stdout
        members = {int(process.stdout.readline()), int(process.stdout.readline())}
    assert process.returncode == -signal.SIGKILL
    assert len(members) == 2
    for member in members - {process.pid}:
        wait_until(partial(has_ended, member), what="the end of the other member")


def test_a_group_that_obeys_the_interrupt_is_not_killed_and_its_final_lines_are_kept(
    tmp_path: Path,
) -> None:
    (tmp_path / "obedient.py").write_text(OBEDIENT)
    lines: list[str] = []
    # The kill would come after an hour, so a group that has ended was not killed.
    with running_module(
        ["obedient"], env=os.environ, cwd=tmp_path, on_final_line=lines.append, grace=3600
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    assert lines == ["interrupted\n"]
    assert process.returncode == 0
