"""Every error this project raises on purpose, and whether trying again can help.

    DixaAssetsError
    ├── ConfigError             a setting is wrong                           permanent
    ├── ApiError                the vendor's API did not give what was asked permanent
    │   ├── ApiUnavailable      no answer, 408, 429, 5xx, a broken answer    retryable
    │   ├── ApiRefused          400, 401, 403, 404, a redirect               permanent
    │   │   └── PageKeyRefused  a page key that was given before             permanent
    │   ├── RowsMoved           rows changed pages while they were read      retryable
    │   ├── RowsAstray          rows outside the period that was asked for   permanent
    │   ├── PagesCutShort       a full page with no link to another          permanent
    │   └── ApiContractBroken   an answer that contradicts the API's rules   permanent
    ├── DaysFailed              some days of a load failed                   as its errors are
    ├── CatalogueError          the catalogue cannot be what was meant       permanent
    ├── WarehouseError          the database cannot take the write           permanent
    │   ├── WarehouseBusy       another process holds it                     retryable
    │   └── WarehouseLost       the server behind it does not answer         retryable
    ├── PaceUnavailable         the database of the pace cannot be asked     retryable
    └── AlertNotSent            a webhook did not take a line                permanent

Each message says what was tried, what came back and what to do.
"""

import os
from collections.abc import Iterable, Mapping
from typing import Self


class DixaAssetsError(Exception):
    """Base of all errors below. `retryable` tells whether the same call may succeed later."""

    retryable = False


class ConfigError(DixaAssetsError):
    """A setting that cannot work.

    Args:
        setting: The component's attribute, for instance `timezone`. The message names the
            environment variable instead, `DIXA_TIMEZONE`, where that is set.
        problem: What is wrong with its value and what would be right.
    """

    def __init__(self, setting: str, problem: str) -> None:
        variable = f"DIXA_{setting.upper()}"
        self.setting = variable if variable in os.environ else setting
        super().__init__(f"{self.setting}: {problem}")

    @classmethod
    def of(cls, mistakes: Iterable[tuple[str, str]]) -> Self:
        """Several mistakes, each a setting with its problem, as one error with a line for each."""
        (setting, problem), *more = mistakes
        return cls(setting, "\n".join([problem, *(str(cls(*each)) for each in more)]))


class PaceUnavailable(DixaAssetsError):
    """The database that several machines share the pace in cannot be asked."""

    retryable = True

    def __init__(self, said: str) -> None:
        super().__init__(f"the pace in DIXA_PACE_URL cannot be asked: {said}")


class ApiError(DixaAssetsError):
    """A request that did not give what was asked for.

    Args:
        request: Method, path and id of the request, never its headers.
        answer: What came back.
        advice: What the reader can do.
        status: The HTTP status, where there was an answer.
        retry_after: The wait in seconds that the server asked for, if any.
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
    """No usable answer now."""

    retryable = True


class ApiRefused(ApiError):
    """The API understood and said no; the same request will be refused again."""


class PageKeyRefused(ApiRefused):
    """A page key that the API gave with one page and refused with the next: it may have expired."""


class RowsMoved(ApiError):
    """Rows moved from page to page while the pages were read, each time they were read."""

    retryable = True


class RowsAstray(ApiError):
    """Rows of a period of several days lie outside it, so their days are not certain either."""


class PagesCutShort(ApiError):
    """The last page is full and has no link: there may be more rows, and no way to them."""


class ApiContractBroken(ApiError):
    """A well-formed answer that contradicts the API's rules, such as a page key given twice."""


class DaysFailed(DixaAssetsError):
    """Some days of a load failed, by day; the others are written.

    Args:
        failed: The error of each day that failed.
        asked: How many days were to be loaded.
        untried: How many of them were not even tried, because the others' errors ruled it out.
    """

    def __init__(
        self, failed: Mapping[str, DixaAssetsError], *, asked: int, untried: int = 0
    ) -> None:
        self.failed = failed
        self.retryable = all(error.retryable for error in failed.values())
        first = min(failed)
        given_up = f" {untried} more were not tried." if untried else ""
        super().__init__(
            f"{len(failed)} of {asked} days failed ({', '.join(sorted(failed))}) and are as they "
            f"were.{given_up} {first}: {failed[first]}"
        )


class CatalogueError(DixaAssetsError):
    """A fetched catalogue that must not replace the known one."""


class WarehouseError(DixaAssetsError):
    """The database cannot take the write, and waiting will not change that."""


class WarehouseBusy(WarehouseError):
    """Another process held the database for as long as this one was allowed to wait."""

    retryable = True


class WarehouseLost(WarehouseError):
    """The server that a shared database stands on does not answer, or broke off.

    A partition that was being written is as it was, or was replaced whole.
    """

    retryable = True


class AlertNotSent(DixaAssetsError):
    """A failed run could not be told to the webhook."""
