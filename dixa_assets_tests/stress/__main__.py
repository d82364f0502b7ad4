"""`python -m dixa_assets_tests.stress PROGRAM`; exits with 1 on a violation.

The programs are `crash`, `soak`, `fuzz`, `lives` and `environments`.
"""

import argparse
import json
import logging
import sys
import time

from dixa_assets_tests.stress import environments, fuzz, fuzz_days, lives
from dixa_assets_tests.stress.crash import Crash
from dixa_assets_tests.stress.soak import CONVERSATIONS_PER_DAY, soak
from dixa_assets_tests.support.processes import folder_of_command
from dixa_assets_tests.support.simulator import NOW, running_simulator

WORLD = ("--now", NOW.isoformat())
CRASH_VENDOR = ("--rate", "0", "--latency-ms", "60", *WORLD)
SOAK_VENDOR = ("--rate", "10", "--burst", "4", *WORLD)
# Loads of a day take longer than answers that are only parsed.
DAYS_SHARE = 5
SOAK_VENDOR += ("--conversations-per-day", str(CONVERSATIONS_PER_DAY))


def crash_or_soak(options: argparse.Namespace) -> None:
    """Run loads in processes; the folder is kept on a violation."""
    is_crash = options.program == "crash"
    vendor = CRASH_VENDOR if is_crash else SOAK_VENDOR
    with folder_of_command(options.program) as folder, running_simulator(*vendor) as simulator:
        if is_crash:
            tally = Crash(simulator, folder, seed=options.seed).run(options.kills)
        else:
            tally = soak(simulator, folder, minutes=options.minutes, seed=options.seed)
        print(tally)
        if tally.violations:
            sys.exit(1)


def fuzzed(options: argparse.Namespace) -> None:
    """Run many cases, or one again; the smallest case that breaks the rule is printed."""
    logging.getLogger("dixa_assets").setLevel(logging.ERROR)
    try:
        is_fuzz = options.program == "fuzz"
        if options.case:
            days = fuzz if "target" in options.case else fuzz_days
            with days.fuzzing() if is_fuzz else environments.environments() as one:
                print(one.check(options.case))
            return
        if is_fuzz:
            ends = fuzz.run(options.cases, options.seed)
            ends += fuzz_days.run(options.cases // DAYS_SHARE, options.seed)
        else:
            ends = environments.run(options.cases, options.seed)
    except fuzz.Violation as violation:
        sys.exit(f"broken: {violation}")
    print(f"{ends.total()} cases: {', '.join(f'{name} {n}' for name, n in ends.most_common())}")


def lived(options: argparse.Namespace) -> None:
    """Run many lives, or one again; the smallest life that breaks the rule is printed."""
    try:
        if options.case:
            with lives.living() as all_lives:
                all_lives.check(options.case)
            return
        ends = lives.run(options.lives, options.seed)
    except fuzz.Violation as violation:
        sys.exit(f"broken: {violation}")
    print(", ".join(f"{name} {number}" for name, number in ends.most_common()))


PROGRAMS = {
    "crash": crash_or_soak,
    "soak": crash_or_soak,
    "fuzz": fuzzed,
    "lives": lived,
    "environments": fuzzed,
}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m dixa_assets_tests.stress")
    parser.add_argument("program", choices=PROGRAMS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=50, help="of crash")
    parser.add_argument("--minutes", type=float, default=10, help="of soak")
    parser.add_argument("--cases", type=int, default=10_000, help="of fuzz and environments")
    parser.add_argument("--lives", type=int, default=300, help="of lives")
    parser.add_argument("--case", type=json.loads, help="of fuzz and lives: a printed case")
    options = parser.parse_args()
    began = time.monotonic()
    PROGRAMS[options.program](options)
    print(f"{time.monotonic() - began:.0f} s, seed {options.seed}")


if __name__ == "__main__":
    main()
