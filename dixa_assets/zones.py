"""Selects the newest time zone rules on this machine, and compares names of zones.

Python prefers the zone files of the system to those of the `tzdata` package, even if they are
older. With old rules, midnight would be at the wrong instant. Days do not belong here.
"""

import re
import zoneinfo
from functools import cache
from importlib.resources import files
from pathlib import Path

import tzdata  # type: ignore[import-untyped]

PACKAGE = files("tzdata") / "zoneinfo" / "tzdata.zi"


def use_newest_rules() -> None:
    """Read zones from the `tzdata` package unless the files of the system are newer."""
    if _system_version() < tzdata.IANA_VERSION:
        zoneinfo.reset_tzpath(to=())
        zoneinfo.ZoneInfo.clear_cache()


def newest_rules_for_others() -> dict[str, str]:
    """The environment variables with which another process reads the same zone files."""
    return {} if zoneinfo.TZPATH else {"PYTHONTZPATH": ""}


def rules_version() -> str:
    """The release of the zone database in use, such as `2026f`."""
    return max(_system_version(), str(tzdata.IANA_VERSION))


def is_same_zone(one: str, other: str) -> bool:
    """Whether two names mean the same zone, such as Europe/Kiev and Europe/Kyiv."""
    names = _canonical_names()
    return names.get(one, one) == names.get(other, other)


def _system_version() -> str:
    """The release of the system's files; empty if there are none or they have no version."""
    for folder in zoneinfo.TZPATH:
        source = Path(folder) / "tzdata.zi"
        if source.is_file():
            with source.open(encoding="utf-8") as text:
                version = re.match(r"# version (\w+)", text.readline())
            return version[1] if version else ""
    return ""


@cache
def _canonical_names() -> dict[str, str]:
    """The canonical name for each alias of a zone."""
    links = (
        line.split() for line in PACKAGE.read_text("utf-8").splitlines() if line.startswith("L ")
    )
    names = {name: target for _, target, name in links}
    # The target of a link may be a link itself.
    return {name: names.get(target, target) for name, target in names.items()}
