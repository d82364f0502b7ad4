"""Folders that only this user may use, and places that cannot be written."""

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from dixa_assets.errors import ConfigError


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
