"""The report in a real browser: what its script does, and what it never runs."""

import csv
import html
import io
import re
import shutil
import subprocess
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pytest

from dixa_assets.report.render import write_report
from dixa_assets.simulator.world import World
from dixa_assets.warehouse.warehouse import Warehouse
from dixa_assets_tests.support.marts import Account, filled
from dixa_assets_tests.support.reports import OPTIONS, Reader, rendered
from dixa_assets_tests.support.simulator import COPENHAGEN, NOW, Simulator

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), ""
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not BROWSER, reason="no Chromium on this machine"),
]
HOSTILE = '=cmd|a, "b"</script><img src=x onerror=alert(1)>'
RECORDS = ("ratings", "created_conversations", "closed_conversations", "first_response_time")
# Presses a button, and keeps the name and the text of the file that is written.
PRESS = """<script>
URL.createObjectURL = (file) => file.text().then((text) => document.body.dataset.csv = text);
URL.revokeObjectURL = () => {};
HTMLAnchorElement.prototype.click = function () { document.body.dataset.name = this.download; };
addEventListener("load", () => document.querySelector("BUTTON").click());
</script></head>"""


@pytest.fixture(scope="module")
def page(
    simulator_process: Simulator, world: World, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """The report of three weeks, with a queue of a hostile name."""
    days = [date(2025, 10, 20) + timedelta(days=number) for number in range(21)]
    folder = tmp_path_factory.mktemp("browser")
    account = Account(simulator_process, world)
    simulator_process.tell("reset", now=NOW.isoformat())
    loaded = dict.fromkeys(RECORDS, days)
    warehouse, _ = filled(account, folder, COPENHAGEN, loaded, has_lists=False)
    with warehouse.reading() as query:
        for name in RECORDS:
            query(f"UPDATE dixa_records.{name} SET queue_id_label = '{HOSTILE}'")
    return rendered(warehouse)


def browse(page: str, folder: Path, link: str = "") -> str:
    """The document after its script has run, without a network."""
    path = folder / "page.html"
    path.write_text(page)
    arguments = "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --dump-dom"
    command = [
        *(BROWSER, *arguments.split(), "--virtual-time-budget=10000"),
        *("--enable-logging=stderr", "--host-resolver-rules=MAP * ~NOTFOUND"),
    ]
    done = subprocess.run(
        [*command, f"--user-data-dir={folder / 'profile'}", f"{path.as_uri()}#{link}"],
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert "CONSOLE" not in done.stderr, done.stderr
    return done.stdout


def test_a_csv_file_has_the_numbers_of_its_table_and_no_formula(page: str, tmp_path: Path) -> None:
    reader = Reader(page)
    number = [*reader.figures].index("Queues")
    press = PRESS.replace("BUTTON", f"[data-figure='{number}'] [data-do=csv]")
    # The policy of the page would forbid the script of this test.
    unlocked = re.sub("<meta http-equiv[^>]*>", "", page).replace("</head>", press, 1)
    found = browse(unlocked, tmp_path)
    assert 'data-name="Queues.csv"' in found
    (text,) = (html.unescape(each) for each in re.findall('data-csv="([^"]*)"', found))
    rows = [*csv.DictReader(io.StringIO(text.removeprefix("\ufeff")))]
    assert [*rows[0]] == [*reader.figures["Queues"]]
    for name, values in reader.figures["Queues"].items():
        texts = ["" if each is None else str(each).removesuffix(".0") for each in values]
        safe = [f"'{each}" if each.startswith("=") else each for each in texts]
        assert [row[name] for row in rows] == safe
    assert {row["queue"] for row in rows} == {f"'{HOSTILE}", "none"}


def test_the_script_runs_and_foreign_text_does_not(page: str, tmp_path: Path) -> None:
    found = browse(page, tmp_path, "/data")
    # The script adds the box for the values under the pointer.
    assert 'class="tip screen"' in found
    assert "<img" not in found
    assert found.count("<script") == 2


def test_many_metrics_over_years_fit_in_a_small_file(warehouse: Warehouse, tmp_path: Path) -> None:
    warehouse.check()
    with duckdb.connect(warehouse.path) as connection:
        connection.execute(
            "INSERT INTO dixa_metrics.metric_values BY NAME SELECT 'metric_' || m AS metric, "
            "DATE '2025-11-09' - d::INTEGER AS partition_date, measure, "
            "sin(m * d) * 1000 AS value FROM range(60) AS a(m), range(1000) AS b(d), "
            "(VALUES ('Count'), ('Average'), ('Sum')) AS c(measure)"
        )
        connection.execute(
            "INSERT INTO dixa_catalogue.loads BY NAME SELECT DISTINCT "
            "'dixa_metrics/' || metric AS asset_key, partition_date, 3 AS rows, '{}' AS filters, "
            "now() AS loaded_at FROM dixa_metrics.metric_values"
        )
    path = tmp_path / "report.html"
    report = write_report(warehouse, path, options=OPTIONS, now=NOW, days=1000)
    assert (len(report.pages), len(report.days)) == (60, 1000)
    assert path.stat().st_size < 10_000_000
    assert 'class="tip screen"' in browse(path.read_text(), tmp_path, "metric_7")
