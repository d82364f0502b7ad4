"""First contact: ask an account what its API does, keep what was found, and adapt to it."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from dixa_assets.api.catalogue import fetch_catalogue
from dixa_assets.api.client import DixaClient
from dixa_assets.api.transport import MAX_ATTEMPTS
from dixa_assets.component import DixaAnalytics, load_components
from dixa_assets.errors import ApiRefused, DixaAssetsError
from dixa_assets.model.catalogue import Catalogue, Fact
from dixa_assets.orchestration import state
from dixa_assets.probe.conversation import Conversation
from dixa_assets.probe.questions import (
    ABOUT_FILTERS,
    AS_ASSUMED,
    HANDLED,
    UNKNOWN,
    Probe,
    to_markdown,
)

# The probe waits no longer for one answer, and so repeats little.
PATIENCE = 20.0


def run(account: str | None = None) -> int:
    """Probe every account of the project, or the one named; 1 if one could not be asked."""
    try:
        for component in load_components(account):
            probe_account(component)
    except (DixaAssetsError, OSError) as error:
        print(f"✗ {error}", file=sys.stderr)
        return 1
    return 0


def probe_account(component: DixaAnalytics, say: Callable[[str], None] = print) -> Sequence[Fact]:
    """Ask the account, write the page, keep what was found; `say` is told line by line."""
    now = datetime.now(UTC)
    since, today = now.isoformat(timespec="seconds"), now.astimezone(ZoneInfo(component.timezone))
    key = component.defs_state_config.key
    with state.home_instance() as instance:
        storage = instance.defs_state_storage if instance else None
        known = (state.load(storage, key) if storage else None) or Catalogue()
        scheme = component.auth_scheme
        try:
            catalogue, spent = _fetch(component, scheme, known)
        except ApiRefused as error:
            if error.status != 401 or scheme:
                raise
            scheme = "Bearer"
            catalogue, spent = _fetch(component, scheme, known)
            # The one that was refused.
            spent += 1
        form = Fact(
            "form of the token",
            "the raw token",
            f"'{scheme}' before it" if scheme else "the raw token",
            HANDLED if scheme and not component.auth_scheme else AS_ASSUMED,
            "401 for the raw token" if scheme and not component.auth_scheme else "200",
            since,
            *(("auth_scheme", scheme) if scheme else ()),
        )
        say(f" 1 {form.question}: {form.observed} ({form.verdict})")
        with _client(component, scheme, max_attempts=1) as client:
            api = Conversation(client, catalogue, component.timezone, today.date(), spent)
            facts = _with_known(Probe(api, say=say).run(since, [form]), known.facts)
        page = component.beside("probe.md")
        page.parent.mkdir(parents=True, exist_ok=True)
        text = to_markdown(facts, host=component.base_url, asked=api.requests)
        page.write_text(text, encoding="utf-8")
        say(f"✓ {page}: {len(facts)} questions, {api.requests} requests")
        if storage is None:
            say("! without a Dagster home nothing is adapted: set DAGSTER_HOME, or start once")
            return facts
        # A tick may have found something new since the probe began.
        kept = replace(state.load(storage, key) or catalogue, facts=tuple(facts))
        state.save(storage, key, kept)
        say(f"✓ adapted: {kept.adapted or 'nothing, all is as assumed'}")
    return facts


def _with_known(facts: Sequence[Fact], known: Sequence[Fact]) -> list[Fact]:
    """The findings, in place of what could not be told now what was told before."""
    told = {fact.question: fact for fact in known if fact.verdict != UNKNOWN}
    unknown = {fact.question for fact in facts if fact.verdict == UNKNOWN}
    # What records need is told beside what metrics need.
    if unknown & {*ABOUT_FILTERS}:
        unknown |= {*ABOUT_FILTERS}
    return [told.get(fact.question, fact) if fact.question in unknown else fact for fact in facts]


def _fetch(component: DixaAnalytics, scheme: str, known: Catalogue) -> tuple[Catalogue, int]:
    """The catalogue, and the requests that it took."""
    with _client(component, scheme) as client:
        return fetch_catalogue(client, known)[0], client.requests


def _client(
    component: DixaAnalytics, scheme: str, *, max_attempts: int = MAX_ATTEMPTS
) -> DixaClient:
    """A client at half the account's pace, without bursts."""
    polite = {
        "auth_scheme": scheme,
        "requests_per_second": component.requests_per_second / 2,
        "burst": 1,
    }
    resource = component.model_copy(update=polite).build_dixa(component.api_key)
    return resource.client(give_up_after=PATIENCE, max_attempts=max_attempts)
