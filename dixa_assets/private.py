"""Files and folders that only their owner can read, whatever the umask is."""

import os
import stat
from io import FileIO
from pathlib import Path


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it that are missing. Folders that exist do not change."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)


def open_file(path: Path) -> FileIO:
    """Open an empty file for writing bytes. A new file is private."""
    return FileIO(path, "w", opener=lambda name, flags: os.open(name, flags, 0o600))


def write_text(path: Path, text: str) -> None:
    """Write a text to a file. A new file is private."""
    with open_file(path) as file:
        file.write(text.encode())


def replace(made: Path, path: Path) -> None:
    """Move a new file to `path`. It gets the mode of the file that it replaces, or is private."""
    made.chmod(stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o600)
    os.replace(made, path)
