"""The wheel of this project, and virtual environments that have it."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from dixa_assets_tests.support.processes import PROJECT


@dataclass(frozen=True)
class Environment:
    """A virtual environment of its own, with the wheel and nothing of this folder."""

    venv: Path

    @property
    def python(self) -> str:
        return str(self.venv / "bin" / "python")

    def dg(self, project: Path, settings: dict[str, str], *arguments: str) -> str:
        """The output of a `dg` command in a project."""
        # `dg` expects an installed package. A path does as well.
        own = settings | {"VIRTUAL_ENV": str(self.venv), "PYTHONPATH": str(project)}
        own["PATH"] = f"{self.venv / 'bin'}:/bin"
        return output_of([str(self.venv / "bin" / "dg"), *arguments], project, own)


def output_of(
    command: list[str], cwd: Path | None = None, env: dict[str, str] | None = None
) -> str:
    """The output of a command, which must succeed."""
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def pip(python: str, *arguments: str) -> None:
    """Run pip of a Python."""
    output_of([python, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments])


def uv(*arguments: str) -> None:
    """Run uv, which installs many packages ten times as fast as pip."""
    output_of([sys.executable, "-m", "uv", "--quiet", *arguments], env=os.environ | index_of_pip())


@cache
def index_of_pip() -> dict[str, str]:
    """The variable that tells uv to use pip's package index; empty for the default."""
    asked = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    index = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    return {"UV_DEFAULT_INDEX": index} if index else {}


def built_wheel(folder: Path) -> Path:
    """The wheel of this project, built from a copy, because a build writes into its sources."""
    sources = folder / "sources"
    shutil.copytree(
        PROJECT / "dixa_assets",
        sources / "dixa_assets",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, sources)
    pip(sys.executable, "wheel", "--no-deps", "-w", str(folder), str(sources))
    (wheel,) = folder.glob("*.whl")
    return wheel
