"""The catalogue, fetched: what Dixa lists now, against what was known."""

from datetime import UTC, datetime

from dixa_assets.api.client import DixaClient
from dixa_assets.errors import ApiRefused
from dixa_assets.model.catalogue import Catalogue, Entry, Listing
from dixa_assets.model.merge import merge

# Descriptions of entries that left the list, asked for one by one; the rest wait for the next
# look.
DESCRIPTIONS_A_LOOK = 20


def fetch_catalogue(client: DixaClient, known: Catalogue) -> tuple[Catalogue, tuple[str, ...]]:
    """The known catalogue brought up to date, and what was odd about the answer.

    An entry that is not listed any more is retired only when Dixa does not describe it either:
    a list cut short retires nothing.
    """
    listing = Listing.from_api(client.fetch_metrics(), client.fetch_records())
    problems = list(listing.problems)
    asked = 0

    def is_still_described(entry: Entry) -> bool:
        nonlocal asked
        asked += 1
        if asked > DESCRIPTIONS_A_LOOK:
            return True
        try:
            (client.fetch_metric if entry.kind == "metric" else client.fetch_record)(entry.asked_as)
        except ApiRefused as error:
            if error.status in (400, 404):
                return False
            raise
        problems.append(f"the {entry.kind} '{entry.id}' was missing from the list and is kept")
        return True

    catalogue = merge(
        known,
        listing,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        is_still_described=is_still_described,
    )
    return catalogue, tuple(problems)
