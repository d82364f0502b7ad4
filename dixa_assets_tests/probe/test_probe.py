"""The probe finds out what the account does, and loads are right whatever that is."""

import random
import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dixa_assets.model.catalogue import Catalogue, Fact
from dixa_assets.model.tables import catalogue_rows
from dixa_assets.orchestration import state
from dixa_assets.probe.questions import AS_ASSUMED, HANDLED, NEEDS_YOU, UNKNOWN
from dixa_assets.probe.run import probe_account
from dixa_assets.simulator.world import World
from dixa_assets_tests.support.processes import run, settings_for
from dixa_assets_tests.support.scenario import component, fetched, load, midnight
from dixa_assets_tests.support.simulator import COPENHAGEN, KEY, Simulator, running_simulator

RECORD = "closed_conversations"
KEYS = ["dixa_metrics/closed_conversations", "dixa_records/closed_conversations"]
FIRST, LAST = "2025-10-25", "2025-10-28"

# An unknown type, as a field of every row.
HOLOGRAM = {"_type": "HologramField", "depth": {"unit": "cm", "of": [1, 2]}}
HISTORY_SINCE = "2024-05-02"

# Each switch of the simulated vendor: where and how it is told, the question that it answers, what
# the probe observes as a pattern, of which verdict, and what is adapted.
SWITCHES: dict[str, tuple[str, dict[str, Any], str, str, str, dict[str, str]]] = {
    "Bearer": (
        *("quirks", {"auth": "bearer"}),
        *("form of the token", "'Bearer' before it", HANDLED),
        {"auth_scheme": "Bearer"},
    ),
    "raw token": (
        *("quirks", {"auth": "raw"}),
        *("form of the token", "the raw token", AS_ASSUMED),
        {},
    ),
    "exclusive end": (
        *("settings", {"end": "exclusive"}),
        *("end of a period", "does not belong to it", HANDLED),
        {"period_end": "exclusive"},
    ),
    "pages of 100": (
        *("settings", {"max_page_limit": 100}),
        *("largest page", "100 rows", HANDLED),
        {"page_size": "100"},
    ),
    "absolute links": (
        *("settings", {"next_form": "absolute"}),
        *("link to the next page", "an absolute link", AS_ASSUMED),
        {},
    ),
    "bare keys": (
        *("settings", {"next_form": "bare_key"}),
        *("link to the next page", "a key beside the data", AS_ASSUMED),
        {},
    ),
    "keys for links": (
        *("settings", {"next_form": "key_for_link"}),
        *("link to the next page", "a key in place of the link", AS_ASSUMED),
        {},
    ),
    "links past the end": (
        *("quirks", {"links_to_an_empty_page": True}),
        *("link after the last page", "there is one", HANDLED),
        {},
    ),
    "keys that are enough": (
        *("quirks", {"key_is_enough": True}),
        *("body with a page key", "is not needed", AS_ASSUMED),
        {},
    ),
    "shuffled pages": (
        *("quirks", {"shuffles_pages": True}),
        *("same question twice", "same rows in another order", HANDLED),
        {},
    ),
    "a month at most": (
        *("quirks", {"longest_days": 31}),
        *("longest period", "less than 92 days", HANDLED),
        {"longest_period": "31"},
    ),
    "only the first day of many": (
        *("quirks", {"cuts_after_days": 1}),
        *("days together", "other rows", HANDLED),
        {"days_together": "1"},
    ),
    "a short history": (
        *("quirks", {"history_since": HISTORY_SINCE}),
        *("history", r"to 2024-0(4-2[4-9]|4-30|5-0[1-9]|5-1[0-6]) at least", AS_ASSUMED),
        {},
    ),
    "null for nothing": (
        *("quirks", {"empty": "null"}),
        *("empty period", "null", AS_ASSUMED),
        {},
    ),
    "0 for nothing": ("quirks", {"empty": "zero"}, "empty period", "0", HANDLED, {}),
    "nothing for nothing": (
        *("quirks", {"empty": "nothing"}),
        *("empty period", "no aggregate", AS_ASSUMED),
        {},
    ),
    "one measure": (
        *("quirks", {"gives_one_measure": True}),
        *("measures left out", "[A-Z][A-Za-z]+ came", AS_ASSUMED),
        {},
    ),
    "the zone's own clock": (
        *("quirks", {"shifts_by_zone": True}),
        *("zone beside an interval", "changes the number", NEEDS_YOU),
        {},
    ),
    "fields as declared": (
        *("quirks", {"declares_its_fields": True}),
        *("fields of records", "those of the catalogue", AS_ASSUMED),
        {},
    ),
    "a new type": (
        *("records/fields", {"id": "closed_conversations", "field": "hologram", "data": HOLOGRAM}),
        *("types of values", "also HologramField", HANDLED),
        {},
    ),
    "milliseconds": (
        *("quirks", {"in_milliseconds": True}),
        *("unit of durations", "milliseconds", AS_ASSUMED),
        {},
    ),
    "rate headers": (
        *("quirks", {"tells_its_rate": True}),
        *("rate headers", "x-ratelimit-limit, x-ratelimit-remaining", AS_ASSUMED),
        {},
    ),
    "null kept by a filter": (
        *("quirks", {"keeps_rows_without": True}),
        *("filter of all values", "loses no row", AS_ASSUMED),
        {},
    ),
    "compulsory filter": (
        *("settings", {"require_filter": True}),
        *("compulsory filter, metrics", "compulsory; channel leaves most", NEEDS_YOU),
        {"required_filter": "channel"},
    ),
    "compulsory filter of metrics": (
        *("quirks", {"needs_filter": "metrics"}),
        *("compulsory filter, metrics", "compulsory; channel leaves most", NEEDS_YOU),
        {"required_filter": "channel", "required_filter_of_records": ""},
    ),
    "compulsory filter of records": (
        *("quirks", {"needs_filter": "records"}),
        *("compulsory filter, records", "compulsory; channel leaves most", NEEDS_YOU),
        {"required_filter_of_records": "channel"},
    ),
    "compulsory filter, and no word of it": (
        *("quirks", {"needs_filter": "metrics", "is_terse": True}),
        *("compulsory filter, metrics", "compulsory; channel leaves most", NEEDS_YOU),
        {"required_filter": "channel", "required_filter_of_records": ""},
    ),
}
# What cannot be told beside each other.
ABOUT_FILTERS = {"require_filter", "needs_filter", "keeps_rows_without"}


@pytest.fixture
def home(simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A Dagster home, and the key in the environment."""
    # The probe asks about the days before today.
    simulator.tell("reset")
    settings = settings_for(simulator, tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", settings["DAGSTER_HOME"])
    monkeypatch.setenv("DIXA_API_KEY", KEY)
    return settings


def probed(simulator: Simulator, folder: Path) -> tuple[dict[str, Fact], Catalogue]:
    """The findings by question, and the catalogue as it is kept then."""
    analytics = component(simulator, folder)
    facts = probe_account(analytics, say=lambda line: None)
    with dg.DagsterInstance.get() as instance:
        storage = instance.defs_state_storage
        assert storage is not None
        kept = state.load(storage, analytics.defs_state_config.key)
    assert kept is not None
    assert kept.facts == tuple(facts)
    return {fact.question: fact for fact in facts}, kept


def loaded(simulator: Simulator, folder: Path, catalogue: Catalogue | None = None) -> list[Any]:
    """What a load brings, without what it notes of itself."""
    folder.mkdir()
    analytics = component(simulator, folder)
    assert load(analytics, KEYS, FIRST, LAST, catalogue=catalogue).success
    query = analytics.build_warehouse().query
    frames = []
    for key in KEYS:
        frame = query(f"SELECT * FROM {key.replace('/', '.')}")
        own = sorted({*frame.columns} - {"loaded_at", "run_id", "hologram"})
        frames.append(frame[own].astype(str).sort_values(own).values.tolist())
    return frames


def combinations() -> list[Any]:
    """Each switch alone, and random ones together, of those that do not contradict each other."""
    choose = random.Random(5)
    together: list[tuple[str, ...]] = []
    while len(together) < 20:
        names = tuple(sorted(choose.sample(sorted(SWITCHES), choose.randint(2, 6))))
        switches = [
            "about filters" if switch in ABOUT_FILTERS else switch
            for name in names
            for switch in SWITCHES[name][1]
        ]
        if len(switches) == len({*switches}) and names not in together:
            together.append(names)
    slow = [*((name,) for name in SWITCHES), *together]
    return [(), *(pytest.param(names, marks=pytest.mark.slow) for names in slow)]


@pytest.fixture(scope="module")
def truth(simulator_process: Simulator, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What a load brings from an account without any switch."""
    simulator_process.tell("reset")
    return loaded(simulator_process, tmp_path_factory.mktemp("account") / "truth")


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("names", combinations(), ids=", ".join)
def test_each_switch_is_found_out_and_loads_are_right_afterwards(
    names: tuple[str, ...], truth: list[Any], simulator: Simulator, tmp_path: Path
) -> None:
    for name in names:
        endpoint, wish, *_ = SWITCHES[name]
        simulator.tell(endpoint, **wish)
    simulator.forget_requests()
    facts, kept = probed(simulator, tmp_path)
    asked = simulator.requests()
    assert len(asked) <= 80
    assert {one["status"] for one in asked} <= {200, 400, 401}
    adapted: dict[str, str] = {}
    for name in names:
        _, _, question, observed, verdict, to = SWITCHES[name]
        fact = facts[question]
        assert re.fullmatch(observed, fact.observed), f"{question}: {fact}"
        assert fact.verdict == verdict, fact.evidence
        adapted |= to
    assert kept.adapted == adapted
    assert loaded(simulator, tmp_path / "after", kept) == truth


@pytest.mark.usefixtures("home")
def test_a_period_that_looks_at_another_time_is_found_out(
    simulator: Simulator, world: World, tmp_path: Path
) -> None:
    simulator.tell("quirks", looks_back_minutes=95)
    facts, kept = probed(simulator, tmp_path)
    looked_at = facts["timestamp of a period"]
    assert (looked_at.observed, looked_at.verdict) == ("another one", NEEDS_YOU), looked_at.evidence
    assert kept.adapted == {"days_together": "1", "period_timestamp": "another"}
    # A row on a midnight is looked for at another time: none is lost there, and none comes twice.
    back, start = timedelta(minutes=95), midnight(date.fromisoformat(FIRST), COPENHAGEN)
    end = midnight(date.fromisoformat(LAST) + timedelta(days=1), COPENHAGEN)
    truth = world.rows(RECORD, start=start + back, end=end + back, now=datetime.now(UTC))
    loaded(simulator, tmp_path / "after", kept)
    rows = (
        component(simulator, tmp_path / "after")
        .build_warehouse()
        .query(f"SELECT primary_timestamp FROM dixa_records.{RECORD}")
    )
    assert sorted(rows.primary_timestamp) == [row.at for row in truth]


@pytest.mark.usefixtures("home")
def test_what_was_found_out_is_kept_when_the_api_does_not_answer_later(
    simulator: Simulator, tmp_path: Path
) -> None:
    simulator.tell("settings", require_filter=True, end="exclusive", max_page_limit=100)
    _, kept = probed(simulator, tmp_path)
    assert {*kept.adapted} == {"required_filter", "period_end", "page_size"}
    for operation in ("postAnalyticsMetrics", "postAnalyticsRecords"):
        simulator.tell("faults", kind="status", status=503, operation=operation)
    simulator.forget_requests()
    facts, later = probed(simulator, tmp_path)
    assert later.adapted == kept.adapted
    assert facts["empty period"] in kept.facts
    assert len(simulator.requests()) < 10


@pytest.mark.usefixtures("home")
def test_what_records_need_is_not_forgotten_beside_what_metrics_need(
    simulator: Simulator, tmp_path: Path
) -> None:
    simulator.tell("quirks", needs_filter="metrics")
    _, kept = probed(simulator, tmp_path)
    assert kept.adapted == {"required_filter": "channel", "required_filter_of_records": ""}
    simulator.tell("faults", kind="status", status=503, operation="postAnalyticsMetrics", times=1)
    _, later = probed(simulator, tmp_path)
    assert later.adapted == kept.adapted


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    "body", ['{"data": {"aggregates": [null]}}', '{"data": [1]}', '{"data": [null], "meta": []}']
)
def test_answers_of_another_form_are_told_as_such(
    simulator: Simulator, tmp_path: Path, body: str
) -> None:
    for operation in ("postAnalyticsMetrics", "postAnalyticsRecords"):
        simulator.tell("faults", kind="status", status=200, body=body, operation=operation)
    facts, _ = probed(simulator, tmp_path)
    assert facts["compulsory filter, metrics"].verdict == UNKNOWN


@pytest.mark.usefixtures("home")
def test_what_a_refusal_repeats_of_the_question_is_not_on_the_page(
    simulator: Simulator, tmp_path: Path
) -> None:
    body = '{"message": "Invalid value: vip@example.com"}'
    simulator.tell("faults", kind="status", status=400, body=body, operation="postAnalyticsMetrics")
    facts, _ = probed(simulator, tmp_path)
    assert facts["compulsory filter, metrics"].evidence == "status 400"
    assert "vip@" not in (tmp_path / "probe.md").read_text()


@pytest.mark.usefixtures("home")
def test_lists_of_many_pages_do_not_use_the_conversation_up(
    simulator: Simulator, tmp_path: Path
) -> None:
    simulator.tell("settings", catalogue_page_limit=4)
    simulator.forget_requests()
    facts, _ = probed(simulator, tmp_path)
    assert len(simulator.requests()) <= 80
    assert facts["history"].verdict == AS_ASSUMED


@pytest.mark.usefixtures("home")
def test_headers_about_a_limit_are_told_when_one_comes(
    simulator: Simulator, tmp_path: Path
) -> None:
    facts, _ = probed(simulator, tmp_path)
    assert facts["rate headers"].verdict == UNKNOWN

    headers = {"Retry-After": "1", "X-RateLimit-Remaining": "0"}
    simulator.tell("faults", kind="status", status=429, headers=headers, skip=8, times=1)
    facts, _ = probed(simulator, tmp_path)
    assert facts["rate headers"].observed == "retry-after, x-ratelimit-remaining"


@pytest.mark.usefixtures("home")
def test_the_unit_of_durations_is_told_by_the_instants_of_their_rows(
    simulator: Simulator, tmp_path: Path
) -> None:
    facts, _ = probed(simulator, tmp_path)
    unit = facts["unit of durations"]
    assert (unit.observed, unit.verdict) == ("seconds", AS_ASSUMED), unit.evidence


@pytest.mark.usefixtures("home")
def test_the_page_and_the_facts_hold_no_row_and_no_token(
    simulator: Simulator, tmp_path: Path
) -> None:
    facts, kept = probed(simulator, tmp_path)
    page = (tmp_path / "probe.md").read_text()
    assert all(fact.question in page for fact in facts.values())
    analytics = component(simulator, tmp_path)
    tables = [f"dixa_catalogue/{table.name}" for table in catalogue_rows(kept)]
    assert load(analytics, tables, catalogue=kept).success
    rows = analytics.build_warehouse().query("SELECT * FROM dixa_catalogue.api_facts")
    assert sorted(rows.question) == sorted(facts)
    assert load(analytics, KEYS, LAST, catalogue=kept).success
    ids = analytics.build_warehouse().query(
        "SELECT DISTINCT unnest([conversation_id::VARCHAR, agent_id::VARCHAR]) AS id "
        "FROM dixa_records.closed_conversations"
    )
    for secret in (KEY, *filter(None, ids.id.dropna())):
        assert f"{secret}" not in page.replace("-", " ").split()


def test_a_filter_that_the_probe_chose_is_warned_of_where_it_may_leave_out_rows(
    simulator: Simulator, tmp_path: Path
) -> None:
    since = "2025-11-01T00:00:00+00:00"
    adapted = ("required_filter", "queue_id")
    fact = Fact("compulsory filter, metrics", "none", "", NEEDS_YOU, "", since, *adapted)
    analytics = component(simulator, tmp_path)
    known = Catalogue(fetched(analytics).entries, facts=(fact,))
    result = load(analytics, KEYS, LAST, catalogue=known)
    found = {
        each.check_name: each.passed
        for each in result.get_asset_check_evaluations()
        if each.asset_key.path[0] == "dixa_records"
    }
    assert found["filter"] is False


@pytest.mark.slow
def test_no_request_is_refused_at_the_vendors_limit(tmp_path: Path) -> None:
    with running_simulator("--rate", "10", "--burst", "4") as limited:
        done = run(["dixa_assets", "probe"], settings_for(limited, tmp_path))
        asked = limited.requests()
    assert done.returncode == 0, done.stderr
    assert len(asked) <= 80
    assert 429 not in {one["status"] for one in asked}


@pytest.mark.slow
def test_an_account_that_answers_nothing_gives_findings_and_no_stack_trace(
    home: dict[str, str], simulator: Simulator
) -> None:
    simulator.tell("faults", kind="status", status=403, operation="postAnalyticsMetrics",
                   times=None, body="{}")  # fmt: skip
    simulator.tell("faults", kind="status", status=403, operation="postAnalyticsRecords",
                   times=None, body="{}")  # fmt: skip
    done = run(["dixa_assets", "probe"], home)
    assert done.returncode == 0, done.stderr
    assert f"({UNKNOWN})" in done.stdout
    done = run(["dixa_assets", "probe"], home | {"DIXA_BASE_URL": "http://127.0.0.1:9"})
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
