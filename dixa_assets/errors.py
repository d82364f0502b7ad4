"""Every error that this project raises on purpose, and whether a retry can help.

    DixaAssetsError
    ├── ConfigError             a setting is wrong                           permanent
    ├── ApiError                a request to Dixa's API failed               permanent
    │   ├── ApiUnavailable      no response, 408, 429, 5xx, a broken one     retryable
    │   ├── ApiRefused          any other error status, such as 400 or 401   permanent
    │   │   └── PageKeyRefused  the API rejects a page key that it returned  permanent
    │   ├── PeriodUncertain     the rows of a period may be incomplete
    │   │   ├── RowsMoved       a row is on two pages                        retryable
    │   │   └── PagesCutShort   the pages may be truncated                   permanent
    │   └── ApiContractBroken   a response that contradicts the API's rules  permanent
    ├── DaysFailed              some days of a load failed                   as its errors
    ├── CatalogueError          a fetched catalogue is implausible           permanent
    ├── WarehouseError          the database rejected the write              permanent
    │   ├── ErasedMeanwhile     a value was forgotten after rows were read   retryable
    │   ├── WarehouseBusy       another process holds its lock               retryable
    │   └── WarehouseLost       its server or its file is gone               retryable
    ├── PaceUnavailable         the state of the shared rate limit           retryable
    └── AlertNotSent            a webhook rejected an alert                  permanent

Each message states what was attempted, what the response was and what to do.
"""

import os
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Self

# Control characters, line separators, marks of the text's direction, and half characters.
_UNPRINTABLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    """`text` in one line, with escapes for characters that can change a terminal or a log.

    Zero bytes and half characters are escaped too: SQL or UTF-8 cannot hold them.
    """
    return _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)


class DixaAssetsError(Exception):
    """Base class of all errors below. `retryable` means that the same call may succeed later."""

    retryable = False

    def __init__(self, message: str) -> None:
        # It may have ids and messages of Dixa.
        super().__init__(printable(message))


class ConfigError(DixaAssetsError):
    """An invalid setting.

    Args:
        setting: The attribute of the component, such as `timezone`. If the environment variable
            `DIXA_TIMEZONE` is set, the message names that instead.
        problem: What is wrong with the value, and which value is valid.
    """

    def __init__(self, setting: str, problem: str) -> None:
        variable = f"DIXA_{setting.upper()}"
        self.setting = variable if variable in os.environ else setting
        super().__init__(f"{self.setting}: {problem}")

    @classmethod
    def of(cls, mistakes: Iterable[tuple[str, str]]) -> Self:
        """Combine mistakes, each a setting and its problem, into one error with a line for each."""
        errors = [cls(*mistake) for mistake in mistakes]
        errors[0].args = ("\n".join(map(str, errors)),)
        return errors[0]


class PaceUnavailable(DixaAssetsError):
    """The place in which processes or machines share the rate limit cannot be used."""

    retryable = True

    def __init__(self, reason: str) -> None:
        super().__init__(f"the shared rate limit is not available: {reason}")


class ApiError(DixaAssetsError):
    """A request that failed.

    Args:
        request: Method, path and id of the request, never its headers.
        answer: The response, or the reason why there is none.
        advice: What the reader can do.
        status: The HTTP status, if there was a response.
        retry_after: The wait in seconds that the server requested, if any.
    """

    def __init__(
        self,
        request: str,
        answer: str,
        advice: str = "",
        *,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.request = request
        self.answer = answer
        self.status = status
        self.retry_after = retry_after
        super().__init__(f"{request}: {answer}" + (f" {advice}" if advice else ""))


class ApiUnavailable(ApiError):
    """There is no usable response at the moment."""

    retryable = True


class ApiRefused(ApiError):
    """The API rejected the request, and will reject the same request again."""


class PageKeyRefused(ApiRefused):
    """The API rejected a page key that it returned with the page before; it may have expired."""


class PeriodUncertain(ApiError):
    """The rows of a period may be incomplete. In smaller parts they can be certain.

    `first` and `last` bound the timestamps of the rows that were read, if there are any.
    """

    first: datetime | None = None
    last: datetime | None = None


class RowsMoved(PeriodUncertain):
    """A row is on two pages, so another may be missing: rows moved while they were read."""

    retryable = True


class PagesCutShort(PeriodUncertain):
    """The pages may be truncated: more rows may exist that cannot be fetched.

    Either the last page is full and has no link to the next one, or the number of all rows is a
    multiple of 100.
    """


class ApiContractBroken(ApiError):
    """A well-formed response that contradicts the API's rules, such as a repeated page key."""


class DaysFailed(DixaAssetsError):
    """Some days of a load failed; the other days are written.

    Args:
        failed: The error of each failed day.
        requested: The number of days of the load.
        not_requested: The number of days that were skipped because other days failed.
    """

    def __init__(
        self, failed: Mapping[str, DixaAssetsError], *, requested: int, not_requested: int = 0
    ) -> None:
        self.failed = failed
        self.retryable = all(error.retryable for error in failed.values())
        first = min(failed)
        left_out = f" {not_requested} more were not requested." if not_requested else ""
        super().__init__(
            f"{len(failed)} of {requested} days failed ({', '.join(sorted(failed))}). Their "
            f"stored rows did not change.{left_out} {first}: {failed[first]}"
        )


class CatalogueError(DixaAssetsError):
    """A fetched catalogue that must not replace the stored one."""


class WarehouseError(DixaAssetsError):
    """The database rejected the write. Only the subclasses can be retried."""


class WarehouseBusy(WarehouseError):
    """Another process held the lock of the database for the whole time limit."""

    retryable = True


class ErasedMeanwhile(WarehouseError):
    """A value was forgotten after rows were read that may hold it. Nothing was written."""

    retryable = True


class WarehouseLost(WarehouseError):
    """A shared database does not answer or had another writer, or a file was replaced while open.

    A partition that was being written is either unchanged or completely replaced.
    """

    retryable = True


class AlertNotSent(DixaAssetsError):
    """The webhook did not accept the alert about a failed run."""
