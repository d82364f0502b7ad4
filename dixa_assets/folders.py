"""Folders that only this user may use, and tests whether a place can be written."""

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from dixa_assets.errors import ConfigError

# A full disk may still have room for the name of a file.
TEST_BYTES = 4096


def own_folder(folder: Path, purpose: str) -> Path:
    """Make a folder in a place that other users may write. Only this user can use the folder.

    Args:
        folder: The folder. The folder above it exists.
        purpose: A sentence about its use, for the error.

    Raises:
        ConfigError: It is a link, belongs to another user, or cannot be written.
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
        reason = error.strerror or error
        raise ConfigError(
            str(folder), f"cannot be used ({reason}). {purpose} Make it a folder you can write."
        ) from None
    return folder


def temporary_root() -> Path:
    """The folder for temporary files, which all users may share.

    Raises:
        ConfigError: There is none that can be written.
    """
    try:
        return Path(tempfile.gettempdir())
    except OSError as error:
        raise ConfigError("TMPDIR", f"{error.strerror}.") from None


def temporary_directory() -> "tempfile.TemporaryDirectory[str]":
    """Make a folder that only this user can use; the end of its block removes it.

    Raises:
        ConfigError: It cannot be made.
    """
    place = temporary_root()
    try:
        return tempfile.TemporaryDirectory(prefix="dixa_assets-", dir=place)
    except OSError as error:
        raise unwritable("TMPDIR", place, error) from None


def unwritable(setting: str, place: Path, error: OSError) -> ConfigError:
    """The error for a place that cannot be written."""
    return ConfigError(setting, f"{place} cannot be written ({error.strerror or error}).")


def error_of_writing(setting: str, folder: Path) -> ConfigError | None:
    """The error of a file in a folder, or in the nearest existing folder above it; None without."""
    with suppress(OSError):
        while not folder.exists() and not folder.is_symlink():
            folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(TEST_BYTES))
    except OSError as error:
        return unwritable(setting, folder, error)
    return None
