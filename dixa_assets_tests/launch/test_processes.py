"""A started process group ends within a limit, whatever its members do."""

import os
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from dixa_assets.launch.processes import STOPPING, started
from dixa_assets_tests.support.processes import wait_until

STUBBORN = """
import os, signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
os.fork()
os.write(1, f"{os.getpid()}\\n".encode())
time.sleep(60)
"""
OBEDIENT = """
import os, time
try:
    os.write(1, b"ready\\n")
    time.sleep(60)
except KeyboardInterrupt:
    os.write(1, b"interrupted\\n")
"""


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """The end of a group ignores signals for good, which is not for the test process."""
    before = {number: signal.getsignal(number) for number in STOPPING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def has_ended(pid: int) -> bool:
    """Whether a process is gone, or stays in the table, ended, since nobody awaits it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("Z")
    except FileNotFoundError:
        return True


def test_a_group_that_ignores_the_interrupt_is_killed_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    with started(["stubborn"], env=os.environ, cwd=tmp_path, grace=0.5) as process:
        assert process.stdout
        members = {int(process.stdout.readline()), int(process.stdout.readline())}
        begun = time.monotonic()
    assert 0.5 <= time.monotonic() - begun < 3
    assert process.returncode == -signal.SIGKILL
    assert len(members) == 2
    for member in members - {process.pid}:
        wait_until(partial(has_ended, member), seconds=10, what="its end")


def test_a_group_that_obeys_ends_at_once_and_its_last_words_are_kept(tmp_path: Path) -> None:
    (tmp_path / "obedient.py").write_text(OBEDIENT)
    words: list[str] = []
    with started(["obedient"], env=os.environ, cwd=tmp_path, last_words=words.append) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        begun = time.monotonic()
    assert time.monotonic() - begun < 3
    assert words == ["interrupted\n"]
    assert process.returncode == 0
