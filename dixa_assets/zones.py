"""The rules of time zones: the newest on this machine decide, wherever days are made.

Python reads the system's zone files before those of the `tzdata` package, however old they are,
and a zone whose rules have changed since would have its midnights in the wrong place.
"""

import re
import zoneinfo
from functools import cache
from importlib.resources import files
from pathlib import Path

import tzdata  # type: ignore[import-untyped]

PACKAGE = files("tzdata") / "zoneinfo" / "tzdata.zi"


def use_newest_rules() -> None:
    """Read zones from the `tzdata` package unless the system's files are newer."""
    if _system_version() < tzdata.IANA_VERSION:
        zoneinfo.reset_tzpath(to=())
        zoneinfo.ZoneInfo.clear_cache()


def newest_rules_for_others() -> dict[str, str]:
    """What the environment of another process needs, so that it reads the same files."""
    return {} if zoneinfo.TZPATH else {"PYTHONTZPATH": ""}


def rules_version() -> str:
    """The release of the zone database that decides, such as `2026f`."""
    return max(_system_version(), str(tzdata.IANA_VERSION))


def is_same_zone(one: str, other: str) -> bool:
    """Whether two names stand for the same zone, as Europe/Kiev and Europe/Kyiv do."""
    names = _canonical_names()
    return names.get(one, one) == names.get(other, other)


def _system_version() -> str:
    """The release of the system's files; empty when there are none, or they do not say."""
    for folder in zoneinfo.TZPATH:
        source = Path(folder) / "tzdata.zi"
        if source.is_file():
            with source.open() as text:
                found = re.match(r"# version (\w+)", text.readline())
            return found[1] if found else ""
    return ""


@cache
def _canonical_names() -> dict[str, str]:
    """What each other name of a zone stands for."""
    links = (line.split() for line in PACKAGE.read_text().splitlines() if line.startswith("L "))
    names = {name: target for _, target, name in links}
    # A link may lead to another.
    return {name: names.get(target, target) for name, target in names.items()}
