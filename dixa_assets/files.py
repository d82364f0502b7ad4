"""Files that are replaced as a whole, private files and folders, and unwritable places.

Only the owner can read a new file or folder, whatever the umask is. A file that is replaced keeps
its mode. A file that this project did not write is never replaced.
"""

import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from dixa_assets.errors import ConfigError

# The marks of a text file are in its first characters.
HEAD = 4000


@contextmanager
def process_folder(parent: Path, prefix: str = "", *, setting: str) -> Iterator[Path]:
    """Make a folder for this process, and remove it afterwards.

    It also removes the folders of killed processes.

    Raises:
        ConfigError: The folder `parent`, which `setting` names, cannot be written.
    """
    folder = parent / f"{prefix}{uuid4().hex}"
    lock = FileLock(f"{folder}.lock")
    try:
        remove_leftovers(parent, prefix)
        lock.acquire()
        folder.mkdir(0o700)
    except OSError as error:
        raise unwritable(setting, parent, error) from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


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
        ConfigError: The file cannot be written, or was not written by this project.
    """
    make_folder(path.parent, setting)
    try:
        with process_folder(path.parent, f".{path.name}-", setting=setting) as folder:
            # Without the ending of the file, because dbt reads the YAML files of every folder.
            made = folder / "unfinished"
            made.write_text(text, encoding="utf-8", newline="\n")
            if path.exists():
                with path.open(encoding="utf-8", errors="replace") as file:
                    head = file.read(HEAD)
                if head and not any(mark in head for mark in marks):
                    raise not_replaced(setting, path)
            replace_file(made, path)
    except OSError as error:
        raise unwritable(setting, path, error) from None


def replace_file(made: Path, path: Path) -> None:
    """Move a new file to `path`. It gets the mode of the file that it replaces, or is private."""
    made.chmod(stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o600)
    os.replace(made, path)


def open_private(path: Path) -> FileIO:
    """Open an empty file for writing bytes. A new file is private."""
    return FileIO(path, "w", opener=lambda name, flags: os.open(name, flags, 0o600))


def make_folder(folder: Path, setting: str) -> None:
    """Make the folder of a file that a setting names, and the missing folders above it.

    Folders that exist do not change.

    Raises:
        ConfigError: It cannot be made.
    """
    missing = []
    try:
        while not folder.is_dir():
            missing.append(folder)
            folder = folder.parent
        for folder in reversed(missing):
            folder.mkdir(0o700, exist_ok=True)
            folder.chmod(0o700)
    except OSError as error:
        problem = f"its folder {folder} cannot be made ({error.strerror})."
        raise ConfigError(setting, problem) from None


def not_replaced(setting: str, path: Path, reason: str = "") -> ConfigError:
    """The error about a file that this project did not write."""
    return ConfigError(
        setting,
        f"{path} was not written by this project, so it is not replaced{reason}. Choose another "
        "name, or move the file away.",
    )


def own_folder(folder: Path, purpose: str) -> Path:
    """Make a folder for this user alone, in a folder that others may write too.

    Raises:
        ConfigError: It is a link, belongs to another user, or cannot be written. The error has the
            `purpose` of the folder, a sentence.
    """
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        # Another user may have made a folder or a link with this name first.
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != getattr(os, "getuid", int)():
            raise ConfigError(str(folder), f"is not your own folder. {purpose} Have it removed.")
        folder.chmod(0o700)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError("it cannot be written")
    except OSError as error:
        problem = f"{error.strerror or error}. {purpose} Make it a folder you can write."
        raise ConfigError(str(folder), problem) from None
    return folder


def unwritable(setting: str, place: Path, error: OSError) -> ConfigError:
    """The error for a place that cannot be written."""
    return ConfigError(setting, _problem(place, error))


def _problem(place: Path, error: OSError) -> str:
    return f"{place} cannot be written ({error.strerror or error})."


def mistake_of(setting: str, folder: Path) -> tuple[str, str] | None:
    """A setting and why no file can be written into its folder, or into the one above it."""
    with suppress(OSError):
        while not folder.exists() and not folder.is_symlink():
            folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            # A full disk may have room for an empty file.
            file.write(bytes(4096))
    except OSError as error:
        return setting, _problem(folder, error)
    return None
