"""Switches for behaviour that the vendor does not document and that differs between accounts.

Behaviour that is an error belongs in `faults`.
"""

import random
from dataclasses import dataclass
from typing import Literal

from pydantic import ConfigDict, NonNegativeFloat

from dixa_assets.simulator.values import Json


@dataclass(frozen=True, slots=True)
class Quirks:
    """How an account differs from most accounts. Each switch answers one open question."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    auth: Literal["either", "raw", "bearer"] = "either"
    # In addition to the setting `require_filter`, which applies to both.
    needs_filter: Literal["neither", "metrics", "records"] = "neither"
    # The rows of a page are in random order.
    shuffles_pages: bool = False
    # A period selects rows by a time that is this much earlier than the primary timestamp.
    looks_back_minutes: NonNegativeFloat = 0.0
    # A rejection gives no reason.
    is_terse: bool = False

    def page(self, rows: list[Json]) -> list[Json]:
        """The rows of one page in the order in which the server sends them."""
        return random.sample(rows, len(rows)) if self.shuffles_pages else rows
