"""Requests to a running Dagster, as its UI sends them."""

from collections.abc import Sequence
from typing import Any

from dixa_assets_tests.support.processes import graphql, wait_until

ASSETS = "{ assetNodes { assetKey { path } } }"
BACKFILL = """mutation ($keys: [AssetKeyInput!]!, $days: [String!]!) {
  launchPartitionBackfill(backfillParams: {assetSelection: $keys, partitionNames: $days}) {
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message } } }"""
BACKFILL_STATUS = """query ($id: String!) {
  partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }"""


def assets_in(data: Any) -> set[str]:
    """The keys in the answer to `ASSETS`; none while Dagster does not answer."""
    nodes = data["assetNodes"] if data else []
    return {"/".join(node["assetKey"]["path"]) for node in nodes}


def backfill(url: str, keys: Sequence[str], days: Sequence[str]) -> None:
    """Start a backfill and wait for its success."""
    until_done(url, start_backfill(url, keys, days), what=", ".join(keys))


def start_backfill(url: str, keys: Sequence[str], days: Sequence[str]) -> str:
    """Start a backfill and return its id."""
    started = graphql(url, BACKFILL, keys=[{"path": key.split("/")} for key in keys], days=days)
    return str(started["launchPartitionBackfill"]["backfillId"])


def until_done(url: str, backfill_id: str, *, what: str) -> None:
    """Wait for the success of a backfill, which other backfills may slow down."""

    def has_ended() -> bool:
        status = graphql(url, BACKFILL_STATUS, id=backfill_id)
        return bool(status["partitionBackfillOrError"]["status"] == "COMPLETED_SUCCESS")

    wait_until(has_ended, what=f"the backfill of {what}")
