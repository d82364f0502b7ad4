"""The report as an asset and as a command: where it is written, and the probe's findings in it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import dagster as dg

from dixa_assets.model.catalogue import Catalogue, Fact
from dixa_assets.model.catalogue_rows import catalogue_rows
from dixa_assets.orchestration import state
from dixa_assets_tests.conftest import Done
from dixa_assets_tests.support.processes import settings_for
from dixa_assets_tests.support.projects import write_project
from dixa_assets_tests.support.reports import Reader
from dixa_assets_tests.support.scenario import component, load
from dixa_assets_tests.support.simulator import Simulator

CSAT = "dixa_metrics/csat"
FAULT = "✗ filter Dixa rejects requests without a filter"


def test_a_path_on_the_command_line_begins_at_the_working_folder(
    command: Callable[..., Done], tmp_path: Path
) -> None:
    assert command("report", "--output", "here.html").code == 0
    assert (tmp_path / "here.html").exists()
    done = command("report", "--output", str(tmp_path))
    assert done.code == 1
    assert done.err == f"✗ --output: '{tmp_path}' is a folder; name a file in it.\n"


def test_each_account_of_a_project_has_a_report(
    command: Callable[..., Done], tmp_path: Path
) -> None:
    attributes = "attributes: {{account: {0}, duckdb_path: {0}.duckdb}}"
    write_project(tmp_path, **{name: attributes.format(name) for name in ("acme", "globex")})
    assert command("report").code == 0
    assert {path.name for path in tmp_path.glob("*.html")} == {
        *("acme_report.html", "globex_report.html"),
    }
    done = command("report", "--output", "one.html")
    assert done.code == 1
    assert "name an --account" in done.err


def test_the_checks_and_the_report_know_the_filter_that_the_probe_found(
    simulator: Simulator, tmp_path: Path, catalogue: Catalogue, command: Callable[..., Done]
) -> None:
    settings = settings_for(simulator, tmp_path)
    analytics = component(simulator, tmp_path, duckdb_path=settings["DIXA_DUCKDB_PATH"])
    finding = Fact(
        question="is a filter compulsory",
        assumed="no",
        observed="yes",
        verdict="adapted",
        evidence="400 without a filter",
        since="2025-11-01T00:00:00+00:00",
        setting="required_filter",
        value="queue_id",
    )
    probed = replace(catalogue, facts=(finding,))
    with dg.DagsterInstance.from_config(settings["DAGSTER_HOME"]) as instance:
        assert instance.defs_state_storage is not None
        state.save(instance.defs_state_storage, analytics.defs_state_config.key, probed)
        keys = [CSAT, *(f"dixa_catalogue/{table.name}" for table in catalogue_rows(probed))]
        result = load(analytics, keys, "2025-11-05", catalogue=probed, instance=instance)
        checks = {each.check_name: each for each in result.get_asset_check_evaluations()}
        assert not checks["filter"].passed
        assert load(analytics, ["dixa/report"], catalogue=probed, instance=instance).success
    assert analytics.report_file is not None
    assert FAULT in Reader(analytics.report_file.read_text()).page("csat")
    assert command("report", "--output", "command.html").code == 0
    assert FAULT in Reader((tmp_path / "command.html").read_text()).page("csat")
