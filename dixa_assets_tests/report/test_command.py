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
from dixa_assets_tests.support.scenario import component, failure_of, load
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


def test_a_file_that_is_no_report_is_not_replaced(
    command: Callable[..., Done], tmp_path: Path
) -> None:
    page, empty = tmp_path / "index.html", tmp_path / "empty.html"
    page.write_text("<html><title>Ours</title></html>")
    empty.touch()
    done = command("report", "--output", str(page))
    assert done.code == 1
    assert f"{page} was not written by this project, so it is not replaced" in done.err
    assert page.read_text() == "<html><title>Ours</title></html>"
    for _ in range(2):
        assert command("report", "--output", str(empty)).code == 0
    # A report of an earlier release has the title alone.
    empty.write_text(empty.read_text().replace('<meta name="generator"', "<meta"))
    assert command("report", "--output", str(empty)).code == 0
    assert {each.suffix for each in tmp_path.iterdir() if each.name.startswith(".")} == set()


def test_a_report_that_cannot_be_written_is_named_with_its_setting(
    command: Callable[..., Done], tmp_path: Path
) -> None:
    (tmp_path / "a file").touch()
    place = f"{tmp_path}/a file/report.html"
    problem = f"its folder {tmp_path}/a file cannot be made (File exists)."
    done = command("report", "--output", "a file/report.html")
    assert (done.code, done.err) == (
        1,
        f"✗ --output: {problem}\n",
    )
    done = command("report", DIXA_REPORT_PATH=place)
    assert done.err == f"✗ DIXA_REPORT_PATH: {problem}\n"


def test_assets_of_the_database_that_cannot_be_written_fail_in_a_sentence(
    simulator: Simulator, tmp_path: Path, catalogue: Catalogue
) -> None:
    (tmp_path / "a file").touch()
    place = tmp_path / "a file" / "published"
    analytics = component(
        simulator, tmp_path, read_copy_path=f"{place}.duckdb", report_path=f"{place}.html"
    )
    result = load(analytics, ["dixa/read_copy", "dixa/report", CSAT], "2025-11-01")
    said = {name: failure_of(result, f"dixa__{name}") for name in ("read_copy", "report")}
    assert said["read_copy"].startswith(f"read_copy_path: its folder {place.parent} cannot be made")
    assert said["report"] == f"report_path: its folder {place.parent} cannot be made (File exists)."
    assert len(result.asset_materializations_for_node("dixa_metrics__csat")) == 1


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
