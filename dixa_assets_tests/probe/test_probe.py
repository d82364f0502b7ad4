"""The probe finds out how an account's API behaves, and loads are right afterwards."""

import random
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dixa_assets.component import DixaAnalytics
from dixa_assets.model.catalogue import Catalogue, Fact
from dixa_assets.model.catalogue_rows import catalogue_rows
from dixa_assets.model.options import Adaptation
from dixa_assets.orchestration import state
from dixa_assets.orchestration.dagster_internals import DefsStateStorage
from dixa_assets.probe.questions import QUESTIONS, Verdict
from dixa_assets.probe.run import probe_account
from dixa_assets.simulator.world import World
from dixa_assets_tests.support.processes import run, settings_for
from dixa_assets_tests.support.scenario import component, fetched, load, midnight
from dixa_assets_tests.support.simulator import COPENHAGEN, KEY, Simulator, running_simulator

RECORD = "closed_conversations"
KEYS = [f"dixa_metrics/{RECORD}", f"dixa_records/{RECORD}"]
FIRST, LAST = "2025-10-25", "2025-10-28"
METRICS_AND_RECORDS = ("postAnalyticsMetrics", "postAnalyticsRecords")
AS_ASSUMED, HANDLED, NEEDS_YOU, UNKNOWN = Verdict
# Differences that are settings of the simulator; the others are quirks.
SETTINGS = {"require_filter", "max_page_limit", "end"}


@dataclass(frozen=True)
class Switch:
    """One difference of the simulated API, and what the probe finds then.

    `observed` is a pattern. `adapted` are arguments of `Adaptation`.
    """

    question: str
    observed: str
    verdict: Verdict
    differs: dict[str, Any]
    adapted: dict[str, Any] = field(default_factory=dict)

    @property
    def topics(self) -> set[str]:
        """Two switches with a common topic contradict each other."""
        return {"filter"} if self.question in (FOR_METRICS, FOR_RECORDS) else {*self.differs}


TOKEN, ORDER = "form of the token", "same question twice"
FOR_METRICS, FOR_RECORDS = "compulsory filter, metrics", "compulsory filter, records"
REQUIRED, CHANNEL = "compulsory; channel leaves most", {"required_filter": "channel"}
OF_RECORDS = {"required_filter_of_records": "channel"}
NO_REASON = {"needs_filter": "metrics", "is_terse": True}
SWITCHES = {
    "Bearer": Switch(
        TOKEN, "'Bearer' before it", HANDLED, {"auth": "bearer"}, {"auth_scheme": "Bearer"}
    ),
    "raw token": Switch(TOKEN, "the raw token", AS_ASSUMED, {"auth": "raw"}),
    "filter": Switch(
        FOR_METRICS, REQUIRED, NEEDS_YOU, {"require_filter": True}, CHANNEL | OF_RECORDS
    ),
    "filter of metrics": Switch(
        FOR_METRICS, REQUIRED, NEEDS_YOU, {"needs_filter": "metrics"}, CHANNEL
    ),
    "filter of records": Switch(
        FOR_RECORDS, REQUIRED, NEEDS_YOU, {"needs_filter": "records"}, OF_RECORDS
    ),
    "filter without a reason": Switch(FOR_METRICS, REQUIRED, NEEDS_YOU, NO_REASON, CHANNEL),
    "pages of 100": Switch(
        "largest page", "100 rows", HANDLED, {"max_page_limit": 100}, {"page_size": 100}
    ),
    "unstable order": Switch(
        ORDER, "same rows in another order", HANDLED, {"shuffles_pages": True}
    ),
    "exclusive end": Switch(
        "end of a period",
        "does not belong to it",
        HANDLED,
        {"end": "exclusive"},
        {"is_end_exclusive": True},
    ),
}


def combinations(number: int) -> Iterator[tuple[str, ...]]:
    """Random switches that do not contradict each other."""
    choose, found = random.Random(5), set[tuple[str, ...]]()
    while len(found) < number:
        names = tuple(sorted(choose.sample(sorted(SWITCHES), choose.randint(2, 6))))
        topics = [topic for name in names for topic in SWITCHES[name].topics]
        if len(topics) == len({*topics}) and names not in found:
            found.add(names)
            yield names


@pytest.fixture(scope="module")
def settings(
    simulator_process: Simulator, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """The environment of all cases, with one Dagster home."""
    return settings_for(simulator_process, tmp_path_factory.mktemp("home"))


@pytest.fixture
def analytics(
    simulator: Simulator,
    settings: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> DixaAnalytics:
    """An account with a stored catalogue and without findings."""
    # The probe asks about the days before today.
    simulator.tell("reset")
    monkeypatch.setenv("DAGSTER_HOME", settings["DAGSTER_HOME"])
    monkeypatch.setenv("DIXA_API_KEY", KEY)
    analytics = component(simulator, tmp_path)
    with stored() as storage:
        state.save(storage, analytics.defs_state_config.key, fetched(analytics))
    return analytics


@contextmanager
def stored() -> Iterator[DefsStateStorage]:
    """The state storage of the Dagster home."""
    with state.home_instance() as instance:
        assert instance
        storage = instance.defs_state_storage
        assert storage
        yield storage


def probed(analytics: DixaAnalytics) -> tuple[dict[str, Fact], Catalogue]:
    """The findings by question, and the catalogue that is stored then."""
    facts = probe_account(analytics)
    with stored() as storage:
        kept = state.load(storage, analytics.defs_state_config.key)
    assert kept
    assert kept.facts == tuple(facts)
    return {fact.question: fact for fact in facts}, kept


def finding(question: str, setting: str = "", value: str = "") -> Fact:
    """A finding of an earlier probe."""
    return Fact(question, "", "", HANDLED, "", "2025-11-01T00:00:00+00:00", setting, value)


def loaded(simulator: Simulator, folder: Path, catalogue: Catalogue | None = None) -> list[Any]:
    """The rows of a load, without the time and the run of the load."""
    folder.mkdir()
    analytics = component(simulator, folder)
    assert load(analytics, KEYS, FIRST, LAST, catalogue=catalogue).success
    query = analytics.build_warehouse().query
    frames = []
    for key in KEYS:
        frame = query(f"SELECT * EXCLUDE (loaded_at, run_id) FROM {key.replace('/', '.')}")
        frames.append(frame.astype(str).sort_values([*frame.columns]).values.tolist())
    return frames


@pytest.fixture(scope="module")
def truth(simulator_process: Simulator, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The rows of a load from an account without any switch."""
    simulator_process.tell("reset")
    return loaded(simulator_process, tmp_path_factory.mktemp("account") / "truth")


def check_findings(
    names: Sequence[str], simulator: Simulator, analytics: DixaAnalytics
) -> Catalogue:
    """Set the switches, probe, and compare the findings with them; the stored catalogue."""
    switches = [SWITCHES[name] for name in names]
    for name, value in (item for switch in switches for item in switch.differs.items()):
        simulator.tell("settings" if name in SETTINGS else "quirks", **{name: value})
    simulator.forget_requests()
    facts, kept = probed(analytics)
    requests = simulator.requests()
    assert len(requests) <= 80
    assert {each["status"] for each in requests} <= {200, 400, 401}
    adapted: dict[str, Any] = {}
    for switch in switches:
        fact = facts[switch.question]
        assert re.fullmatch(switch.observed, fact.observed), fact
        assert fact.verdict == switch.verdict, fact
        adapted |= switch.adapted
    assert Adaptation.of(kept.facts) == Adaptation(**adapted)
    return kept


@pytest.mark.parametrize("name", SWITCHES)
def test_a_difference_of_the_api_is_found(
    name: str, simulator: Simulator, analytics: DixaAnalytics
) -> None:
    check_findings([name], simulator, analytics)


@pytest.mark.slow
@pytest.mark.parametrize("names", [*combinations(8)], ids=", ".join)
def test_differences_together_are_found_and_loads_are_right_afterwards(
    names: Sequence[str],
    truth: list[Any],
    simulator: Simulator,
    analytics: DixaAnalytics,
    tmp_path: Path,
) -> None:
    kept = check_findings(names, simulator, analytics)
    assert loaded(simulator, tmp_path / "after", kept) == truth


def test_every_question_has_an_answer_and_the_page_has_no_row_and_no_token(
    simulator: Simulator, analytics: DixaAnalytics, tmp_path: Path
) -> None:
    facts, kept = probed(analytics)
    assert [*facts] == [question.name for question in QUESTIONS]
    assert {fact.verdict for fact in facts.values()} == {AS_ASSUMED}, facts
    assert Adaptation.of(kept.facts) == Adaptation()
    page = (tmp_path / "probe.md").read_text()
    assert all(fact.question in page for fact in facts.values())
    assert "What needs you" not in page
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


def test_another_page_of_that_name_is_not_replaced(
    analytics: DixaAnalytics, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "probe.md"
    page.write_text("# How we probe\n")
    facts, kept = probed(analytics)
    assert facts.keys() == {each.question for each in kept.facts}
    assert f"! probe: {page} was not written by this project" in capsys.readouterr().out
    assert page.read_text() == "# How we probe\n"


def test_an_unstable_order_of_rows_needs_nobody(
    simulator: Simulator, analytics: DixaAnalytics, tmp_path: Path
) -> None:
    simulator.tell("quirks", shuffles_pages=True)
    facts, _ = probed(analytics)
    assert facts[ORDER].verdict == HANDLED
    assert "What needs you" not in (tmp_path / "probe.md").read_text()


def test_a_period_that_selects_by_another_timestamp_is_found_and_no_row_is_lost(
    simulator: Simulator, analytics: DixaAnalytics, world: World, tmp_path: Path
) -> None:
    simulator.tell("quirks", looks_back_minutes=95)
    facts, kept = probed(analytics)
    assert facts["timestamp of a period"].verdict == NEEDS_YOU
    assert Adaptation.of(kept.facts) == Adaptation(selects_by_primary_timestamp=False)
    # A row whose other timestamp is on a midnight is loaded once.
    back, start = timedelta(minutes=95), midnight(date.fromisoformat(FIRST), COPENHAGEN)
    end = midnight(date.fromisoformat(LAST) + timedelta(days=1), COPENHAGEN)
    expected = world.rows(RECORD, start=start + back, end=end + back, now=datetime.now(UTC))
    loaded(simulator, tmp_path / "after", kept)
    rows = (
        component(simulator, tmp_path / "after")
        .build_warehouse()
        .query(f"SELECT primary_timestamp FROM dixa_records.{RECORD}")
    )
    assert sorted(rows.primary_timestamp) == [row.at for row in expected]


def test_earlier_findings_are_kept_when_the_api_does_not_answer(
    simulator: Simulator, analytics: DixaAnalytics
) -> None:
    simulator.tell("settings", require_filter=True, end="exclusive", max_page_limit=100)
    _, kept = probed(analytics)
    assert Adaptation.of(kept.facts) == Adaptation("", 100, "channel", "channel", True)
    for operation in METRICS_AND_RECORDS:
        simulator.tell("faults", kind="status", status=503, operation=operation)
    simulator.forget_requests()
    facts, later = probed(analytics)
    assert Adaptation.of(later.facts) == Adaptation.of(kept.facts)
    assert facts[ORDER] in kept.facts
    assert len(simulator.requests()) < 10


def test_the_finding_about_records_is_kept_with_the_one_about_metrics(
    simulator: Simulator, analytics: DixaAnalytics
) -> None:
    simulator.tell("quirks", needs_filter="metrics")
    _, kept = probed(analytics)
    simulator.tell("faults", kind="status", status=503, operation="postAnalyticsMetrics", times=2)
    _, later = probed(analytics)
    assert Adaptation.of(later.facts) == Adaptation.of(kept.facts) == Adaptation(**CHANNEL)


def test_findings_of_deleted_questions_are_ignored_and_dropped_by_the_next_probe(
    simulator: Simulator, analytics: DixaAnalytics
) -> None:
    earlier = (
        finding("days together", "days_together", "1"),
        finding("longest period", "longest_period", "31"),
        finding("rate headers"),
        finding("history"),
        finding("timestamp of a period", "period_timestamp", "another"),
    )
    assert Adaptation.of(earlier) == Adaptation(selects_by_primary_timestamp=False)
    with stored() as storage:
        known = replace(fetched(analytics), facts=earlier)
        state.save(storage, analytics.defs_state_config.key, known)
    for operation in METRICS_AND_RECORDS:
        simulator.tell("faults", kind="status", status=503, operation=operation)
    facts, kept = probed(analytics)
    assert [*facts] == [question.name for question in QUESTIONS]
    assert earlier[-1] in kept.facts
    assert Adaptation.of(kept.facts) == Adaptation(selects_by_primary_timestamp=False)


@pytest.mark.parametrize(
    "body", ['{"data": {"aggregates": [null]}}', '{"data": [1]}', '{"data": [null], "meta": []}']
)
def test_an_answer_of_another_form_is_no_answer(
    simulator: Simulator, analytics: DixaAnalytics, body: str
) -> None:
    for operation in METRICS_AND_RECORDS:
        simulator.tell("faults", kind="status", status=200, body=body, operation=operation)
    facts, _ = probed(analytics)
    assert facts[FOR_METRICS].verdict == UNKNOWN


def test_the_page_does_not_repeat_the_message_of_a_refusal(
    simulator: Simulator, analytics: DixaAnalytics, tmp_path: Path
) -> None:
    body = '{"message": "Invalid value: vip@example.com"}'
    simulator.tell("faults", kind="status", status=400, body=body, operation="postAnalyticsMetrics")
    facts, _ = probed(analytics)
    assert facts[FOR_METRICS].evidence == "status 400"
    assert "vip@" not in (tmp_path / "probe.md").read_text()


def test_names_of_dixa_on_the_page_are_no_markup_and_content_is_not_on_it(
    simulator: Simulator, analytics: DixaAnalytics, tmp_path: Path
) -> None:
    odd = "a | b <b>*x*</b> [y](https://evil.example)"
    about: dict[str, Any] = {
        "filters": [{"filterAttribute": "channel"}],
        "aggregations": [{"measure": "Count"}],
        "relatedRecordIds": [RECORD],
    }
    simulator.tell("metrics", entry={"id": odd, **about}, like=RECORD)
    simulator.withdraw("metrics", RECORD)
    data = {"_type": "vip@example.com", "value": "vip@example.com"}
    simulator.tell("records/fields", id=RECORD, field="odd", data=data)
    facts, _ = probed(analytics)
    assert odd in facts[FOR_METRICS].evidence
    page = (tmp_path / "probe.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {7}
    assert r"a \| b \<b\>\*x\*\</b\> \[y\](https:\//evil.example)" in page
    assert "vip@" not in page


def test_a_page_that_cannot_be_written_loses_no_finding(
    simulator: Simulator,
    analytics: DixaAnalytics,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "probe.md").mkdir()
    simulator.tell("settings", end="exclusive")
    _, kept = probed(analytics)
    assert Adaptation.of(kept.facts) == Adaptation(is_end_exclusive=True)
    assert f"! probe: {tmp_path}/probe.md cannot be written" in capsys.readouterr().out


def test_a_catalogue_of_many_pages_leaves_enough_requests_for_all_questions(
    simulator: Simulator, analytics: DixaAnalytics
) -> None:
    simulator.tell("settings", catalogue_page_limit=4)
    simulator.forget_requests()
    facts, _ = probed(analytics)
    assert len(simulator.requests()) <= 80
    assert {fact.verdict for fact in facts.values()} == {AS_ASSUMED}


def test_the_check_warns_of_a_filter_that_may_leave_out_rows(
    simulator: Simulator, tmp_path: Path
) -> None:
    analytics = component(simulator, tmp_path)
    facts = (finding(FOR_METRICS, "required_filter", "queue_id"),)
    result = load(analytics, KEYS, LAST, catalogue=replace(fetched(analytics), facts=facts))
    passed = {
        each.check_name: each.passed
        for each in result.get_asset_check_evaluations()
        if each.asset_key.path[0] == "dixa_records"
    }
    assert passed["filter"] is False


@pytest.mark.slow
def test_no_request_exceeds_the_vendors_rate_limit(tmp_path: Path) -> None:
    with running_simulator("--rate", "10", "--burst", "4") as limited:
        done = run(["dixa_assets", "probe"], settings_for(limited, tmp_path))
        requests = limited.requests()
    assert done.returncode == 0, done.stderr
    assert len(requests) <= 80
    assert 429 not in {each["status"] for each in requests}


@pytest.mark.slow
def test_an_account_without_answers_gives_findings_and_no_stack_trace(
    simulator: Simulator, settings: dict[str, str]
) -> None:
    for operation in METRICS_AND_RECORDS:
        simulator.tell(
            "faults", kind="status", status=403, operation=operation, times=None, body="{}"
        )
    done = run(["dixa_assets", "probe"], settings)
    assert done.returncode == 0, done.stderr
    assert f"({UNKNOWN})" in done.stdout
    done = run(["dixa_assets", "probe"], settings | {"DIXA_BASE_URL": "http://127.0.0.1:9"})
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
