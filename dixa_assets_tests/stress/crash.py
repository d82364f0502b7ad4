"""Kills real loads at random moments and looks for days that were lost, doubled or half written.

Run as `python -m dixa_assets_tests.stress crash --kills 50 --seed 1`. Each backfill is killed and
resumed with the days that Dagster calls missing, several times, and then loaded to its end.
"""

import io
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from dixa_assets.simulator.world import World
from dixa_assets_tests.stress import loads
from dixa_assets_tests.stress.loads import (
    Job,
    Place,
    judge,
    listed,
    materialize,
    missing_ranges,
    partitions_of,
    stored_catalogue,
    with_period_rows,
    work_place,
)
from dixa_assets_tests.support.processes import run, running
from dixa_assets_tests.support.scenario import component, load
from dixa_assets_tests.support.simulator import Simulator
from dixa_assets_tests.support.truth import Partition, Rows, period_rows_of, rows_in, rows_of

ASSETS = (
    "dixa_metrics/agent_presence_duration",
    "dixa_metrics/closed_conversations",
    "dixa_records/messages_sent",
)
# Assets, the first day and the last one.
BACKFILL = (ASSETS, "2025-10-07", "2025-10-28")
# The weight of each phase to aim at. The phase that a kill hits is looked at afterwards.
AIMS = {"start": 15, "fetching": 25, "writing": 30, "reporting": 20, "ending": 10}
LONGEST_RUN_SECONDS = 180.0


@dataclass
class Tally(loads.Tally):
    """The sum of all kills."""

    phases: Counter[str] = field(default_factory=Counter)
    with_log: int = 0
    backfills: int = 0
    kept: int = 0
    unreported: int = 0

    def __str__(self) -> str:
        return (
            f"{self.kills} kills ({listed(self.phases)}; {self.with_log} left a write-ahead log), "
            f"{self.backfills} backfills resumed to their end and compared whole, "
            f"{self.kept} partitions kept, {self.unreported} unreported; "
            f"violations: {self.listed_violations()}"
        )


class Crash:
    """Backfills of one job over a simulator, and the kills of their loads."""

    def __init__(
        self, simulator: Simulator, folder: Path, *, seed: int, backfill: Job = BACKFILL
    ) -> None:
        self._simulator, self._folder = simulator, folder
        self._rng = random.Random(seed)
        self._backfill = backfill
        self._assets = backfill[0]
        self._wanted = partitions_of(*backfill)
        self._undisturbed = folder / "undisturbed"
        self.tally = Tally()

    def run(self, kills: int) -> Tally:
        """Kill loads until this number of kills is reached."""
        self._truth = self._load_undisturbed()
        catalogue = stored_catalogue(self._simulator, self._folder / "catalogue")
        while self.tally.kills < kills:
            folder = self._folder / f"backfill_{self.tally.backfills}"
            with work_place(self._simulator, folder, catalogue, DIXA_PERIODS="week,month") as place:
                self._kill_backfill(place, kills)
                self._resume(place)
                self._compare_whole(place)
            self.tally.backfills += 1
            if not self.tally.violations:
                shutil.rmtree(folder)
        return self.tally

    def _load_undisturbed(self) -> dict[Partition, Rows]:
        """The simulator's rows by partition; a load that is not killed has the same."""
        self._undisturbed.mkdir(parents=True)
        analytics = component(self._simulator, self._undisturbed, periods=["week", "month"])
        with redirect_stderr(io.StringIO()):
            assert load(analytics, *self._backfill).success
        world = World()
        truth = {(asset, day): rows_of(world, asset, day) for asset, day in self._wanted}
        for asset, day in self._wanted:
            if asset.startswith("dixa_metrics/"):
                truth[asset, day] += period_rows_of(world, [asset.partition("/")[2]], day)
        database = Path(analytics.duckdb_path)
        found = with_period_rows(rows_in(database, *self._assets), database)
        assert found == {key: rows for key, rows in truth.items() if rows}
        return truth

    def _kill_backfill(self, place: Place, kills: int) -> None:
        """Load what is missing and kill it, again and again, until nothing is missing."""
        tally = self.tally
        present: frozenset[Partition] = frozenset()
        reported: set[Partition] = set()
        for _ in range(10 * len(self._wanted)):
            if tally.kills >= kills or not self._wanted - reported:
                return
            job = missing_ranges(self._wanted - reported)[0]
            aim = self._rng.choices([*AIMS], [*AIMS.values()])[0]
            phase = self._kill_load(place, job, aim)
            unreported = present - reported
            before, reported = present, place.reported(self._assets)
            tally.with_log += Path(f"{place.database}.wal").exists()
            verdict = judge(copy_of(place.database), self._truth, self._assets)
            present = verdict.present
            new = present - reported - unreported
            if phase is None:
                continue
            if phase == "fetching" and new:
                phase = "reporting"
            elif phase == "fetching" and partitions_of(*job) <= reported:
                phase = "ending"
            tally.kills += 1
            tally.phases[phase] += 1
            tally.kept += len(present - before)
            tally.unreported += len(new)
            tally.note_database(verdict, reported | before)
            print(
                f"kill {tally.kills}: aimed at {aim}, hit {phase}; {len(present)} of "
                f"{len(self._wanted)} days there, {len(present - reported)} unreported",
                flush=True,
            )

    def _kill_load(self, place: Place, job: Job, aim: str) -> str | None:
        """Kill a load near the moment aimed at; the phase that was hit, None if it had ended."""
        self._simulator.forget_requests()
        log = Path(place.settings["HOME"]) / "log"
        with running(materialize(*job), place.settings, log) as process:
            self._wait_for(aim, place, process, job)
            with suppress(ProcessLookupError):
                # A stopped process can be looked at, and runs nothing more before it is killed.
                os.killpg(process.pid, signal.SIGSTOP)
            time.sleep(0.01)
            writing, has_requests = is_locked(place.database), self._has_requests()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if process.wait() != -signal.SIGKILL:
                return None
        return "writing" if writing else "fetching" if has_requests else "start"

    def _wait_for(self, aim: str, place: Place, process: subprocess.Popen[bytes], job: Job) -> None:
        """Return at a random moment of a phase of the load, or when the load has ended."""
        wanted = partitions_of(*job)

        def until(condition: Callable[[], bool], pause: float = 0.001) -> None:
            deadline = time.monotonic() + LONGEST_RUN_SECONDS
            while process.poll() is None and not condition() and time.monotonic() < deadline:
                time.sleep(pause)

        def pause(most: float) -> None:
            time.sleep(self._rng.uniform(0, most))

        if aim == "start":
            return pause(5)
        until(self._has_requests, 0.05)
        if aim == "fetching":
            return pause(5)
        if aim == "ending":
            until(lambda: wanted <= place.reported(job[0]), 0.02)
            return pause(0.8)
        for _ in range(self._rng.randrange(min(15, len(wanted)))):
            until(lambda: is_locked(place.database))
            until(lambda: not is_locked(place.database))
        until(lambda: is_locked(place.database))
        if aim == "reporting":
            until(lambda: not is_locked(place.database))
            return pause(0.03)
        if self._rng.random() < 0.6:
            # The write-ahead log is there from the first commit until the file is closed.
            log = Path(f"{place.database}.wal")
            until(lambda: log.exists() or not is_locked(place.database), 0.0002)
            return pause(0.01)
        return pause(0.08)

    def _resume(self, place: Place) -> None:
        """Load what Dagster calls missing; at least one day, because a load tidies up."""
        missing = self._wanted - place.reported(self._assets)
        for job in missing_ranges(missing or {min(self._wanted)}):
            done = run(materialize(*job), place.settings)
            if done.returncode:
                self.tally.note(resumed_loads_that_failed=1)
                print(done.stderr[-3000:], file=sys.stderr)

    def _compare_whole(self, place: Place) -> None:
        """Compare a resumed backfill with the undisturbed load."""
        verdict = judge(place.database, self._truth, self._assets)
        self.tally.note_database(verdict, self._truth)
        self.tally.note_end(place, verdict, self._assets)
        columns, expected = (
            columns_in(database, self._assets)
            for database in (place.database, self._undisturbed / "test.duckdb")
        )
        self.tally.note(backfills_with_other_columns=int(columns != expected))

    def _has_requests(self) -> bool:
        return bool(self._simulator.look("summary")["total"])


def columns_in(database: Path, assets: Sequence[str]) -> set[tuple[str, ...]]:
    """Every column of the assets with its type."""
    with duckdb.connect(str(database)) as connection:
        rows = connection.execute(
            "SELECT schema_name || '/' || table_name, column_name, data_type FROM duckdb_columns()"
        ).fetchall()
    return {row for row in rows if row[0] in assets}


def is_locked(database: Path) -> bool:
    """Whether a process of this project holds the database; leaves the lock alone."""
    try:
        inode = str(Path(f"{database}.lock").stat().st_ino)
    except FileNotFoundError:
        return False
    return any(
        line.split()[5].endswith(f":{inode}")
        for line in Path("/proc/locks").read_text().splitlines()
        if "->" not in line
    )


def copy_of(database: Path) -> Path:
    """A copy of the database as the kill left it; the next load must recover the original."""
    copy = database.with_name("copy.duckdb")
    for suffix in ("", ".wal"):
        Path(f"{copy}{suffix}").unlink(missing_ok=True)
        if Path(f"{database}{suffix}").exists():
            shutil.copyfile(f"{database}{suffix}", f"{copy}{suffix}")
    return copy
