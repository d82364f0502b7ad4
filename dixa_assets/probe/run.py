"""`python -m dixa_assets probe`: ask all questions and store the answers."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from dixa_assets import private
from dixa_assets.api.catalogue import fetch_catalogue
from dixa_assets.api.client import DixaClient
from dixa_assets.api.settings import Patience
from dixa_assets.component import DixaAnalytics
from dixa_assets.errors import ApiError
from dixa_assets.model.catalogue import Catalogue, Fact
from dixa_assets.orchestration import state
from dixa_assets.probe.questions import QUESTIONS, Verdict, filter_of_metrics, filter_of_records
from dixa_assets.probe.session import MAX_REQUESTS, ProbeSession

PATIENCE = Patience(attempts=2, request_seconds=20.0)


def probe_account(component: DixaAnalytics) -> Sequence[Fact]:
    """Ask an account's API all questions, write `probe.md` and store the findings."""
    now = datetime.now(UTC)
    key = component.defs_state_config.key
    with state.home_instance() as instance:
        storage = instance.defs_state_storage if instance else None
        known = (state.load(storage, key) if storage else None) or Catalogue()
        client, catalogue, scheme = _connect(component, known, component.auth_scheme)
        with client:
            today = now.astimezone(ZoneInfo(component.timezone)).date()
            api = ProbeSession(client, catalogue, today, component.timezone, scheme)
            facts = []
            for number, question in enumerate(QUESTIONS, 1):
                fact = question.ask(api, now.isoformat(timespec="seconds"))
                outcome = fact.observed or fact.evidence
                print(f"{number:2} {fact.question}: {outcome} ({fact.verdict})")
                facts.append(fact)
        facts = _keep_earlier(facts, known.facts)
        page = component.next_to_database("probe.md")
        private.make_folder(page.parent)
        private.write_text(page, to_markdown(facts, component.base_url))
        print(f"✓ {page}: {len(facts)} questions, {client.requests} requests")
        if storage is None:
            print(
                "! There is no Dagster home, so nothing is stored and loads do not adapt. Set "
                "DAGSTER_HOME, or start Dagster once."
            )
            return facts
        # The catalogue sensor may have stored a newer catalogue during the probe.
        kept = replace(state.load(storage, key) or catalogue, facts=tuple(facts))
        state.save(storage, key, kept)
        adapted = [f"{fact.setting} = '{fact.value}'" for fact in facts if fact.setting]
        print(f"✓ adapted: {', '.join(adapted) or 'nothing: the API behaves as loads assume'}")
    return facts


def to_markdown(facts: Sequence[Fact], host: str) -> str:
    """The findings as a page that can be attached to a bug report."""
    lines = [
        f"# How Dixa's API at {host} behaves",
        "",
        f"The probe sends {MAX_REQUESTS} requests at most. None of them changes anything. This "
        "page contains no rows. A finding with an earlier date is from an earlier probe, because "
        "this one got no answer.",
        "",
        "| question | loads assume | observed | verdict | evidence | date |",
        "|---|---|---|---|---|---|",
        *(
            f"| {fact.question} | {fact.assumed} | {fact.observed or '-'} | {fact.verdict} "
            f"| {fact.evidence} | {fact.since[:10]} |"
            for fact in facts
        ),
    ]
    needed = {fact.question for fact in facts if fact.verdict == Verdict.NEEDS_YOU}
    if needed:
        lines += ["", "## What needs you", ""]
        lines += [f"- **{each.name}**: {each.advice}" for each in QUESTIONS if each.name in needed]
    return "\n".join(lines) + "\n"


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


def _connect(
    component: DixaAnalytics, known: Catalogue, scheme: str
) -> tuple[DixaClient, Catalogue, str]:
    """Connect at half the account's rate. Return the client, the catalogue and the token scheme."""
    slower = {"requests_per_second": component.requests_per_second / 2, "burst": 1}
    settings = component.model_copy(update=slower | {"auth_scheme": scheme})
    client = DixaClient(component.api_key, settings, PATIENCE)
    try:
        return client, fetch_catalogue(client, known)[0], scheme
    except ApiError as error:
        client.close()
        if error.status != 401 or scheme:
            raise
    return _connect(component, known, "Bearer")
