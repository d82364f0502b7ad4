"""The lines of Dagster's output that the console shows, and the banner above them."""

from pathlib import Path

import pytest

from dixa_assets.launch.console import WIDTH, banner, lines_to_show, log_writer

RUN = "0bf32d92-1c89-4446-8649-5b1a53aaca52"
UI = "http://127.0.0.1:3000"


def shown(*lines: str) -> list[str]:
    return [*lines_to_show(lines, UI)]


def event(kind: str, text: str, *, at: str = "06:27:54", level: str = "DEBUG") -> str:
    return (
        f"2026-11-25 {at} +0000 - dagster - {level} - __ASSET_JOB - {RUN} - 4443 - {kind} - {text}"
    )


def daemon(text: str, level: str = "INFO") -> str:
    return f"2026-11-25 06:27:45 +0000 - dagster.daemon.SensorDaemon - {level} - {text}"


def test_the_banner_names_what_to_open_first_in_ten_lines() -> None:
    text = banner(
        "Title.",
        ui=UI,
        report=Path(".demo/dixa_report.html"),
        read_copy=Path(".demo/dixa_read.duckdb"),
        log=Path(".demo/dagster.log"),
    )
    assert len(text.splitlines()) <= 10
    for place in (f"{UI}/assets\n", f"{UI}/assets/dixa_metrics/csat", "dixa_report.html"):
        assert place in text
    assert "duckdb.connect('.demo/dixa_read.duckdb', True)" in text
    assert ".demo/dagster.log" in text
    assert "  Report  .demo/dixa_report.html, written after the loads\n" in text


def test_the_banner_names_the_settings_of_what_is_not_written() -> None:
    text = banner("Title.", ui=UI, report=None, read_copy=None, log=Path(".demo/dagster.log"))
    assert "  Report  set DIXA_REPORT_PATH to get one\n" in text
    assert "  Query   set DIXA_READ_COPY_PATH" in text


@pytest.mark.parametrize(
    "line",
    [
        daemon("Checking for new runs for sensor: dixa_history"),
        daemon("Sensor dixa_publish skipped: The database has not changed."),
        daemon("Sensor dixa_catalogue skipped: 26 metrics and 13 records, nothing new."),
        event("STEP_START", 'Started execution of step "dixa_metrics__csat".'),
        event("ENGINE_EVENT", "Executing steps in process (pid: 4443)"),
        f"2026-11-25 06:07:00 +0000 - dagster - INFO - __ASSET_JOB - {RUN} - dixa_metrics__csat"
        " - 2026-10-26 (24 h): 1 rows. 1 of 30 days, 1 rows, 1 requests, 0 retries",
        daemon(
            "Found a dagster instance configuration value (dagster.yaml) in the current folder, but"
            " your DAGSTER_HOME environment variable is set to .dagster_home.",
            "WARNING",
        ),
        "",
    ],
)
def test_an_unimportant_line_is_not_shown(line: str) -> None:
    assert shown(line) == []


@pytest.mark.parametrize(
    "line",
    [
        daemon("Code server process has exited with code -9. Restarting it.", "WARNING"),
        event("STEP_FAILURE", 'Execution of step "dixa_metrics__csat" failed.', level="ERROR"),
        daemon("Sensor daemon caught an error for sensor dixa_catalogue", "ERROR"),
        "Traceback (most recent call last):",
        '  File "dixa_assets/component.py", line 1, in <module>',
        "dagster._core.errors.DagsterUserCodeUnreachableError: Could not reach user code server",
        "Fatal Python error: Segmentation fault",
        "a line - DEBUG - in an unknown format",
    ],
)
def test_warnings_errors_and_unknown_formats_are_shown_unchanged(line: str) -> None:
    assert shown(line) == [line]


def loaded(asset: str, *, at: str = "06:27:54") -> str:
    schema, name = asset.split("/")
    told = event("ASSET_MATERIALIZATION", f"Materialized value {schema} {name}.", at=at)
    return told.replace(" - ASSET", f" - {schema}__{name} - ASSET")


STARTED = event("RUN_START", 'Started execution of run for "__ASSET_JOB".')
BEGUN = f"06:27:54  Load begun: {UI}/runs/{RUN}"


def test_a_load_is_one_line_at_its_start_and_one_at_its_end_with_the_kinds_of_assets() -> None:
    days = [loaded(f"dixa_metrics/{name}") for name in ("csat", "csat", "nps", "nps", "frt")]
    ended = event("RUN_SUCCESS", "Finished execution of run.", at="06:30:24")
    assert shown(STARTED, *days, ended) == [
        BEGUN,
        "06:30:24  Load ended: dixa_metrics/csat, dixa_metrics/frt, dixa_metrics/nps, 5 days"
        " in 2 min 30 s",
    ]
    days.append(loaded("dixa_records/ratings"))
    assert shown(STARTED, *days, ended) == [
        BEGUN,
        "06:30:24  Load ended: 4 assets (3 dixa_metrics, 1 dixa_records), 6 days in 2 min 30 s",
    ]


def test_a_long_load_is_one_line_of_progress_every_twenty_seconds() -> None:
    moments = [f"06:{28 + second // 60}:{second % 60:02}" for second in range(54)]
    days = [loaded(f"dixa_metrics/m{number % 3}", at=at) for number, at in enumerate(moments)]
    assert shown(STARTED, *days) == [
        BEGUN,
        "06:28:14  Loading: 15 days of 3 assets so far",
        "06:28:34  Loading: 35 days of 3 assets so far",
    ]


SUMMARY = (
    daemon("Overall backfill status:"),
    "**Materialized assets:**",
    "None",
    "**Failed assets and their downstream assets:**",
    "- dixa_records/ratings: {2 partitions: 2025-10-25 -> 2025-10-26}",
    "",
    "Reason: its parent is missing.",
)


def test_the_list_of_a_hidden_record_is_hidden_with_it() -> None:
    assert shown(*SUMMARY, daemon("Launched 1 runs.")) == []
    failure = daemon("Assets failed:", "ERROR")
    assert shown(*SUMMARY, failure, *SUMMARY[1:5]) == [failure, *SUMMARY[1:5]]


@pytest.mark.parametrize("last", ["Traceback (most recent call last):", "Killed", "terminate"])
def test_what_a_dying_process_writes_after_a_hidden_list_is_shown(last: str) -> None:
    assert shown(*SUMMARY, last, "None") == [last, "None"]


def test_a_failed_load_is_shown_below_the_message_of_dagster() -> None:
    failure = event("RUN_FAILURE", "Steps failed: ['dixa_metrics__csat'].", level="ERROR")
    _, message, summary = shown(event("RUN_START", "Started."), failure)
    assert message == failure
    assert "Load FAILED" in summary


def test_a_new_metric_is_shown_within_the_width() -> None:
    found = "27 metrics and 13 records. metric 'reopened' added. The code location was reloaded."
    (line,) = shown(daemon(f"Sensor dixa_catalogue skipped: {found}"))
    assert line == "06:27:45  Catalogue: metric 'reopened' added. The code location was reloaded."
    (line,) = shown(daemon(f"Sensor dixa_catalogue skipped: {found * 9}"))
    assert len(line) <= WIDTH + len("06:27:45  ")
    assert line.startswith("06:27:45  Catalogue: 27 metrics and 13 records. metric 'reopened'")


@pytest.mark.parametrize(
    ("line", "written"),
    [
        ("\x1b[32m2026\x1b[0m - DEBUG - x\n", "2026 - DEBUG - x"),
        ("a\tb\r\n", "a       b"),
        ("\x1b]0;title\x07\x1b]52;c;Zm9v\x07", "\\x1b]0;title\\x07\\x1b]52;c;Zm9v\\x07"),
        ("50%\rforged", "50%\\rforged"),
        ("\x1b[2Jcleared\x9b2J", "\\x1b[2Jcleared\\x9b2J"),
        ("Naïve – 名前 😀", "Naïve – 名前 😀"),
    ],
    ids=ascii,
)
def test_the_log_has_every_line_without_colours_and_control_characters(
    line: str, written: str, tmp_path: Path
) -> None:
    write = log_writer(tmp_path / "log")
    assert write(line) == written
    assert (tmp_path / "log").read_text("utf-8") == f"{written}\n"
