"""Checks of addresses. Requests to them may carry a secret, so no error shows an address."""

import re
from contextlib import suppress
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from dixa_assets.errors import ConfigError


def is_loopback(host: str | None) -> bool:
    """True if the host is this machine."""
    with suppress(ValueError):
        return ip_address(host or "").is_loopback
    return host == "localhost"


def web_address(setting: str, address: str) -> SplitResult:
    """Parse an address without a user."""
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
    """Return scheme and host of the API; `ConfigError` if the token would not be safe there."""
    parts = web_address("base_url", base_url.strip())
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ConfigError("base_url", "must be https: every request carries the token.")
    if parts.query or parts.fragment or parts.path.strip("/"):
        raise ConfigError("base_url", "must be scheme and host alone, without a path.")
    return f"{parts.scheme}://{parts.netloc}"
