"""Page keys and links: how they are made and read.

A page key is the base64 of page size, page number and a fingerprint of the request.
"""

import base64
import json
import re
from dataclasses import dataclass
from hashlib import blake2s
from typing import Any
from urllib.parse import quote

from dixa_assets.simulator.queries import ApiError

KEY = re.compile(r"pageLimit=(\d{1,9})&page=(\d{1,9})&for=([0-9a-f]{8})", re.ASCII)
INT32 = re.compile(r"[+-]?\d{1,10}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Page:
    """The part of a list that one answer holds."""

    number: int
    size: int
    fingerprint: str

    @property
    def start(self) -> int:
        """The index of the first item."""
        return self.number * self.size

    @property
    def stop(self) -> int:
        """The index after the last item."""
        return self.start + self.size

    def key(self, number: int) -> str:
        """The key of another page of the same list."""
        text = f"pageLimit={self.size}&page={number}&for={self.fingerprint}"
        return base64.b64encode(text.encode()).decode()


def fingerprint_of(*request: Any) -> str:
    """A digest that ties a page key to one operation, id and body."""
    text = json.dumps(request, sort_keys=True)
    return blake2s(text.encode(), digest_size=4).hexdigest()


def parse_page(query: dict[str, str], *, fingerprint: str, default: int, maximum: int) -> Page:
    """The page that a query string requests.

    The key holds a page number, not an offset. A `pageLimit` that differs from the size in the
    `pageKey` therefore skips or repeats items.

    Raises:
        ApiError: The limit or the key is invalid (400).
    """
    limit = None
    if "pageLimit" in query:
        text = query["pageLimit"]
        limit = int(text) if INT32.fullmatch(text) else 0
        if not 1 <= limit <= maximum:
            raise ApiError(400, "Invalid value for: query parameter pageLimit")
    if "pageKey" not in query:
        return Page(0, limit or min(default, maximum), fingerprint)
    try:
        match = KEY.fullmatch(base64.b64decode(query["pageKey"], validate=True).decode("ascii"))
    except ValueError:
        match = None
    if not match or match[3] != fingerprint or not 1 <= int(match[1]) <= maximum:
        raise ApiError(400, "Invalid value for: query parameter pageKey")
    return Page(int(match[2]), limit or int(match[1]), fingerprint)


def link_to(path: str, key: str, *, base: str = "") -> str:
    """The link to a page: relative, unless `base` is an address such as `http://host`."""
    return f"{base}{quote(path)}?pageKey={quote(key, safe='')}"
