"""The catalogue, fetched from the API and merged with the known one."""

from datetime import UTC, datetime

from dixa_assets.api.client import DixaClient
from dixa_assets.errors import ApiError
from dixa_assets.model.catalogue import Catalogue, Entry, Listing
from dixa_assets.model.merge import merge

# Descriptions of entries that left the list are requested one by one, at most this many per
# refresh; the next refresh requests the rest.
DESCRIPTIONS_PER_REFRESH = 20
# With these statuses, Dixa no longer knows an id.
GONE = frozenset({400, 404, 410})


def fetch_catalogue(client: DixaClient, known: Catalogue) -> tuple[Catalogue, tuple[str, ...]]:
    """Return the updated catalogue, and the problems of the answer.

    An entry that left the list is retired only if Dixa does not describe it either, so that a
    truncated list retires nothing.
    """
    listing = Listing.from_api(client.fetch_metrics(), client.fetch_records())
    problems = list(listing.problems)
    requested = 0

    def is_still_described(entry: Entry) -> bool:
        nonlocal requested
        requested += 1
        if requested > DESCRIPTIONS_PER_REFRESH:
            return True
        try:
            (client.fetch_metric if entry.kind == "metric" else client.fetch_record)(entry.api_id)
        except ApiError as error:
            if error.status == 401:
                raise
            if error.status in GONE:
                return False
            problems.append(f"the {entry.kind} '{entry.id}' left the list and is kept: {error}")
            return True
        problems.append(f"the {entry.kind} '{entry.id}' was missing from the list and is kept")
        return True

    catalogue = merge(
        known,
        listing,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        is_still_described=is_still_described,
    )
    return catalogue, tuple(problems)
