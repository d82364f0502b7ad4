"""The settings of the connection to the API, declared once.

`DixaAnalytics` and the Dagster resource inherit them; client, transport and limiter receive them.
"""

import math
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

BASE_URL = "https://dev.dixa.io"
# The vendor's limit.
REQUESTS_PER_SECOND = 10.0
# Half of the vendor's four: a delayed request, or one that overtakes another, stays in the limit.
BURST = 2
# The vendor's own clients accept 1 to 300 rows; no limit is documented.
PAGE_SIZE = 300


class ApiSettings(BaseModel):
    """How to reach the API, and how fast."""

    model_config = ConfigDict(frozen=True)

    api_key_variable: str = Field(
        default="DIXA_API_KEY", description="The environment variable that holds the token."
    )
    base_url: str = Field(
        default=BASE_URL, description="Scheme and host of the API. Plain http only to loopback."
    )
    api_version: str = Field(default="v1", description="Path prefix of the API: v1 or beta.")
    auth_scheme: str = Field(
        default="", description="Empty sends the raw token; 'Bearer' puts that word before it."
    )
    requests_per_second: float = Field(
        default=REQUESTS_PER_SECOND,
        description="Rate limit that all processes with this token share. Lower it if other "
        "programs use the same token.",
    )
    burst: int = Field(
        default=BURST, description="Requests that may be sent at the same moment. Dixa allows four."
    )
    pace_url: str = Field(
        default="",
        description="The Postgres (postgresql://…) in which several machines share the rate limit; "
        "empty: the processes of this user on this machine share it.",
    )


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a client tries.

    Args:
        attempts: The most attempts of a request.
        request_seconds: Seconds for one request, with all its retries.
        answer_seconds: Seconds for one answer, from the first byte sent to the last byte received.
        lifetime: Seconds after which the client sends nothing.
    """

    attempts: int = 8
    request_seconds: float = 600.0
    answer_seconds: float = 60.0
    lifetime: float = math.inf
