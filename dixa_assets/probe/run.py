"""`python -m dixa_assets probe`: ask an account's API all questions, store the answers."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from dixa_assets.api.catalogue import fetch_catalogue
from dixa_assets.api.client import DixaClient
from dixa_assets.api.settings import Patience
from dixa_assets.component import DixaAnalytics
from dixa_assets.errors import ApiRefused, DixaAssetsError
from dixa_assets.model.catalogue import Catalogue, Fact
from dixa_assets.orchestration import state
from dixa_assets.probe.conversation import Conversation
from dixa_assets.probe.questions import QUESTIONS, Verdict, filter_of_metrics, filter_of_records
from dixa_assets.project import load_components

# The probe retries requests for the catalogue, but not its questions.
RETRIES = Patience(request_seconds=20.0)
ONE_ATTEMPT = Patience(attempts=1, request_seconds=20.0)


def run(account: str | None = None) -> int:
    """Probe every account of the project, or one; 1 if the API of an account cannot be asked."""
    try:
        for component in load_components(account):
            probe_account(component)
    except (DixaAssetsError, OSError) as error:
        print(f"✗ {error}", file=sys.stderr)
        return 1
    return 0


def probe_account(component: DixaAnalytics, echo: Callable[[str], None] = print) -> Sequence[Fact]:
    """Ask an account's API all questions, write `probe.md` and store the findings.

    Args:
        component: The account.
        echo: Receives each line of output.

    Raises:
        ApiError: The catalogue cannot be fetched.
    """
    now = datetime.now(UTC)
    key = component.defs_state_config.key
    with state.home_instance() as instance:
        storage = instance.defs_state_storage if instance else None
        known = (state.load(storage, key) if storage else None) or Catalogue()
        catalogue, scheme, sent = _fetch_catalogue(component, known)
        with _client(component, scheme, ONE_ATTEMPT) as client:
            api = Conversation(
                client,
                catalogue,
                component.timezone,
                now.astimezone(ZoneInfo(component.timezone)).date(),
                sent_before=sent,
                auth_scheme=scheme,
                is_raw_token_refused=scheme != component.auth_scheme,
            )
            facts = _keep_earlier(_ask_all(api, now, echo), known.facts)
        page = component.beside("probe.md")
        page.parent.mkdir(parents=True, exist_ok=True)
        text = to_markdown(facts, host=component.base_url, requests=api.requests)
        page.write_text(text, encoding="utf-8")
        echo(f"✓ {page}: {len(facts)} questions, {api.requests} requests")
        if storage is None:
            echo(
                "! There is no Dagster home, so nothing is stored and loads do not adapt. Set "
                "DAGSTER_HOME, or start Dagster once."
            )
            return facts
        # The catalogue sensor may have stored a newer catalogue during the probe.
        kept = replace(state.load(storage, key) or catalogue, facts=tuple(facts))
        state.save(storage, key, kept)
        adapted = [f"{fact.setting} = '{fact.value}'" for fact in facts if fact.setting]
        echo(f"✓ adapted: {', '.join(adapted) or 'nothing, the API does what loads assume'}")
    return facts


def to_markdown(facts: Sequence[Fact], *, host: str, requests: int) -> str:
    """The findings as a page that can be attached to a bug report."""
    advice = {question.name: question.advice for question in QUESTIONS}
    needed = [fact for fact in facts if fact.verdict == Verdict.NEEDS_YOU]
    lines = [
        f"# How Dixa's API at {host} behaves",
        "",
        f"The probe sent {requests} requests. None of them changed anything. This page has no "
        "content of rows. A finding with an earlier date is from an earlier probe, because this "
        "one got no answer.",
        "",
        "| question | loads assume | observed | verdict | evidence | date |",
        "|---|---|---|---|---|---|",
        *(
            f"| {fact.question} | {fact.assumed} | {fact.observed or '-'} | {fact.verdict} "
            f"| {fact.evidence} | {fact.since[:10]} |"
            for fact in facts
        ),
    ]
    if needed:
        lines += ["", "## What needs you", ""]
        lines += [f"- **{each.question}**: {advice[each.question]}" for each in needed]
    return "\n".join(lines) + "\n"


def _ask_all(api: Conversation, now: datetime, echo: Callable[[str], None]) -> list[Fact]:
    """One finding for each question."""
    facts = []
    for number, question in enumerate(QUESTIONS, 1):
        answer = question.ask(api)
        outcome = answer.observed or answer.evidence
        echo(f"{number:2} {question.name}: {outcome} ({answer.verdict})")
        facts.append(
            Fact(
                question.name,
                question.assumed,
                answer.observed,
                str(answer.verdict),
                answer.evidence,
                now.isoformat(timespec="seconds"),
                answer.setting,
                answer.value,
            )
        )
    return facts


def _keep_earlier(facts: Sequence[Fact], earlier: Sequence[Fact]) -> list[Fact]:
    """New findings. Where the probe got no answer, keep the earlier one."""
    answered = {fact.question: fact for fact in earlier if fact.verdict != Verdict.UNKNOWN}
    unknown = {fact.question for fact in facts if fact.verdict == Verdict.UNKNOWN}
    # The answer about records depends on the one about metrics: keep both or none.
    about_filters = {
        each.name for each in QUESTIONS if each.answer in (filter_of_metrics, filter_of_records)
    }
    if unknown & about_filters:
        unknown |= about_filters
    return [
        answered.get(fact.question, fact) if fact.question in unknown else fact for fact in facts
    ]


def _fetch_catalogue(component: DixaAnalytics, known: Catalogue) -> tuple[Catalogue, str, int]:
    """The catalogue, the word before the token that the API accepts, and the requests sent."""
    try:
        return _fetch_with(component, component.auth_scheme, known)
    except ApiRefused as error:
        if error.status != 401 or component.auth_scheme:
            raise
    catalogue, scheme, sent = _fetch_with(component, "Bearer", known)
    # One request was refused before.
    return catalogue, scheme, sent + 1


def _fetch_with(
    component: DixaAnalytics, scheme: str, known: Catalogue
) -> tuple[Catalogue, str, int]:
    with _client(component, scheme, RETRIES) as client:
        return fetch_catalogue(client, known)[0], scheme, client.requests


def _client(component: DixaAnalytics, scheme: str, patience: Patience) -> DixaClient:
    """A client at half the account's rate, without bursts."""
    slower = {
        "auth_scheme": scheme,
        "requests_per_second": component.requests_per_second / 2,
        "burst": 1,
    }
    settings = component.model_copy(update=slower)
    return DixaClient(component.api_key, settings, patience)
