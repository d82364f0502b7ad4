"""In every environment a command works, or a line names the cause; `environments` has the rule."""

from collections.abc import Iterator

import pytest

from dixa_assets_tests.stress import environments
from dixa_assets_tests.stress.environments import Environments, Violation

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def running() -> Iterator[Environments]:
    with environments.environments() as each:
        yield each


def test_commands_work_in_random_environments_or_name_the_cause() -> None:
    ends = environments.run(12, first_seed=0)
    assert ends["works"] >= 2
    assert len(ends) >= 4


@pytest.mark.parametrize("user", ["root", "nobody"])
@pytest.mark.parametrize("command", ["doctor", "probe", "report", "load"])
def test_a_usual_environment_works(command: str, user: str, running: Environments) -> None:
    assert running.check({"command": command, "user": user}) == "works"


@pytest.mark.parametrize("api", ["tls", "proxied"])
def test_the_certificate_and_the_proxy_of_a_company_work(api: str, running: Environments) -> None:
    company = {"command": "load", "api": api, "certificate": "right", "proxy": "right"}
    assert running.check(company) == "works"


@pytest.mark.parametrize(
    ("odd", "end"),
    [
        ({"api": "tls"}, "SSL_CERT_FILE"),
        ({"dagster_home": "relative"}, "DAGSTER_HOME"),
        ({"dagster_home": "theirs"}, "DAGSTER_HOME"),
        ({"dagster_home": "full", "command": "load"}, "DAGSTER_HOME"),
        ({"database": "full", "command": "load"}, "DIXA_DUCKDB_PATH"),
        ({"read_copy": "full", "command": "load"}, "DIXA_READ_COPY_PATH"),
        ({"report": "read only", "command": "report"}, "DIXA_REPORT_PATH"),
        ({"env_file": "latin-1"}, ".env"),
        ({"webhook": "blank"}, "DIXA_ALERT_WEBHOOK"),
    ],
    ids=str,
)
def test_a_cause_is_named(odd: dict[str, str], end: str, running: Environments) -> None:
    kinds = {*odd.values()} & {"theirs", "full", "read only"}
    if not kinds <= running.kinds:
        pytest.skip("this user cannot make such a place")
    assert running.check({"user": "nobody"} | odd) == end


def test_the_rule_notices_a_stack_trace_and_a_cause_that_is_not_named() -> None:
    for said in ("Traceback (most recent call last)", "✗ [Errno 28] No space left on device"):
        problem, _ = environments._judge(1, "", said, ["TMPDIR"])
        assert problem
    assert environments._judge(1, "", "✗ TMPDIR: /x cannot be written.", ["TMPDIR"]) == (
        *("", "TMPDIR"),
    )


def test_the_rule_notices_a_change_outside(
    running: Environments, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The home is no folder of the project.
    monkeypatch.setattr(
        Environments,
        "_add_temporary",
        lambda self, kind, variables, folder: variables.update(
            DIXA_READ_COPY_PATH=str(folder / "home" / "x.duckdb")
        ),
    )
    with pytest.raises(Violation, match="outside changed"):
        running.check({"command": "load"})
