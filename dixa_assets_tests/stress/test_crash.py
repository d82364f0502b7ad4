"""The short form of `crash`: real loads, killed at random moments, lose and double nothing."""

from pathlib import Path

import pytest

from dixa_assets_tests.stress.crash import crash
from dixa_assets_tests.support.simulator import Simulator

pytestmark = pytest.mark.slow


def test_loads_killed_at_any_moment_leave_whole_days_and_can_be_resumed(
    simulator: Simulator, tmp_path: Path
) -> None:
    simulator.tell("settings", latency_ms=60)
    tally = crash(
        simulator,
        tmp_path,
        kills=4,
        seed=4,
        assets=("dixa_metrics/closed_conversations", "dixa_records/messages_sent"),
        first="2025-10-19",
        last="2025-10-28",
    )
    assert tally.kills == 4
    assert not tally.violations
