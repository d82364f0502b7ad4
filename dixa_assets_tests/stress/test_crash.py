"""A short run of `crash`."""

from pathlib import Path

import pytest

from dixa_assets_tests.stress.crash import Crash
from dixa_assets_tests.support.simulator import Simulator

pytestmark = pytest.mark.slow


def test_loads_killed_at_any_moment_leave_whole_days_and_can_be_resumed(
    simulator: Simulator, tmp_path: Path
) -> None:
    simulator.tell("settings", latency_ms=60)
    assets = ("dixa_metrics/closed_conversations", "dixa_records/messages_sent")
    backfill = (assets, "2025-10-19", "2025-10-28")
    tally = Crash(simulator, tmp_path, seed=4, backfill=backfill).run(kills=4)
    assert tally.kills == 4
    assert not tally.violations
