"""Files that are replaced as a whole, and the folders of processes that write them.

A file that this project did not write is never replaced.
"""

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from dixa_assets.errors import ConfigError

# The marks of a text file are in its first characters.
HEAD = 4000


@contextmanager
def own_folder(parent: Path, prefix: str = "") -> Iterator[Path]:
    """Make a folder for this process, and remove it afterwards.

    It also removes the folders of killed processes.
    """
    remove_leftovers(parent, prefix)
    folder = parent / f"{prefix}{uuid4().hex}"
    with FileLock(f"{folder}.lock") as lock:
        folder.mkdir(0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            Path(lock.lock_file).unlink(missing_ok=True)


def remove_leftovers(parent: Path, prefix: str = "") -> None:
    """Remove the folders of killed processes: a folder whose lock is free has no owner."""
    name = re.compile(re.escape(prefix) + r"[0-9a-f]{32}\.lock")
    for left in [*parent.iterdir()] if parent.is_dir() else ():
        if name.fullmatch(left.name):
            with suppress(Timeout, OSError), FileLock(left, blocking=False):
                shutil.rmtree(left.with_suffix(""), ignore_errors=True)
                left.unlink(missing_ok=True)


def replace_text(path: Path, text: str, *, marks: Sequence[str], setting: str) -> None:
    """Replace a text file of this project, or create it.

    Args:
        path: The file; its folder is made if it is missing.
        text: The new contents.
        marks: Every version of the file begins with text that contains one of these.
        setting: The setting that names the file.

    Raises:
        ConfigError: The file was not written by this project.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with own_folder(path.parent, f".{path.name}-") as folder:
        made = folder / path.name
        made.write_text(text, encoding="utf-8", newline="\n")
        if path.exists():
            with path.open(encoding="utf-8", errors="replace") as file:
                head = file.read(HEAD)
            if head and not any(mark in head for mark in marks):
                raise not_replaced(setting, path)
        os.replace(made, path)


def not_replaced(setting: str, path: Path, reason: str = "") -> ConfigError:
    """The error about a file that this project did not write."""
    return ConfigError(
        setting,
        f"{path} was not written by this project, so it is not replaced{reason}. Choose another "
        "name, or move the file away.",
    )
