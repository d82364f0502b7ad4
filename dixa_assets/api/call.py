"""One call of the API, and the checks of addresses, whose requests may carry a secret."""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any
from urllib.parse import SplitResult, urlsplit

from dixa_assets.errors import ConfigError, printable
from dixa_assets.model.counts import Usage


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the API. Its cost is added to `usage`.

    `problem_of` returns what is wrong with an answer of status 2xx, or an empty string. Such an
    answer is retried.
    """

    method: str
    path: str
    body: Mapping[str, Any] | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    problem_of: Callable[[Mapping[str, Any]], str] = lambda payload: ""

    def __str__(self) -> str:
        about = f" for '{printable(self.body['id'])}'" if self.body else ""
        return f"{self.method} {self.path}{about}"


def is_loopback(host: str | None) -> bool:
    """True if the host is this machine."""
    with suppress(ValueError):
        return ip_address(host or "").is_loopback
    return host == "localhost"


def web_address(setting: str, address: str) -> SplitResult:
    """Parse an address without a user. No error shows it, because it may hold a secret."""
    try:
        parts = urlsplit(address)
        is_address = parts.scheme in {"http", "https"} and parts.port != 0
    except ValueError:
        is_address = False
    is_plain = address.isprintable() and " " not in address
    if not (is_address and is_plain and re.fullmatch(r"[\w.:-]+", parts.hostname or "")):
        raise ConfigError(setting, "is not an address like https://host.")
    if "@" in parts.netloc:
        raise ConfigError(setting, "must not contain a user or a password.")
    return parts


def checked_base_url(base_url: str) -> str:
    """Scheme and host of the API; `ConfigError` if the key would not be safe there."""
    parts = web_address("base_url", base_url.strip())
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ConfigError("base_url", "must be https: the key is sent with every request.")
    if parts.query or parts.fragment or parts.path.strip("/"):
        raise ConfigError("base_url", "must be scheme and host alone, without a path.")
    return f"{parts.scheme}://{parts.netloc}"
