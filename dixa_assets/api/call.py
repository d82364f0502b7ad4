"""One request to an operation of the API."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dixa_assets.errors import printable
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
