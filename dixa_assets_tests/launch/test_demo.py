"""`make demo` as users run it: the console output, the loaded days, the end."""

from pathlib import Path

import pytest

from dixa_assets_tests.support.launched import launched
from dixa_assets_tests.support.processes import wait_until

pytestmark = pytest.mark.slow


def test_the_demo_prints_little_loads_every_day_and_ends_on_ctrl_c(tmp_path: Path) -> None:
    with launched("demo", tmp_path) as demo:
        wait_until(lambda: len(demo.lines()) >= 10, what="the banner")
        banner = "\n".join(demo.lines()[:10])
        for place in (f"{demo.url}/assets\n", "dixa_metrics/csat", "report.html", "read.duckdb"):
            assert place in banner
        wait_until(
            lambda: (found := demo.filled()) and sum(found) >= 0.9 * len(found),
            what="all days of nine assets in ten",
        )
        wait_until(
            lambda: any("'reopened_conversations' added" in line for line in demo.lines()),
            what="the metric that the simulator adds",
        )
        lines = demo.lines()
        assert len(lines) < 60, "\n".join(lines)
        assert not [line for line in lines if "DEBUG" in line or "supersede" in line.lower()]
        assert any("Load begun" in line for line in lines)
        assert any("Load ended" in line for line in lines)
        log = (tmp_path / ".demo" / "dagster.log").read_text()
        assert "STEP_SUCCESS" in log
        assert demo.interrupt() == 0
