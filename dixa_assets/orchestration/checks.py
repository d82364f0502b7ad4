"""The checks of `dixa_assets.checks` as Dagster's asset checks, on every metric and record.

They run after each load and read only the warehouse. Their severity is WARN: the data are stored
either way, and a person decides about them. A check without data passes and says so. If a load
cannot read the warehouse, its checks do not run, and Dagster does not show them as passed. See
https://docs.dagster.io/guides/test/asset-checks
"""

from collections.abc import Iterator

import dagster as dg

from dixa_assets.checks.registry import Finding, Subject, Verdict, checks_of
from dixa_assets.orchestration import metadata
from dixa_assets.warehouse.sql import Query


def check_specs(key: dg.AssetKey, subject: Subject) -> list[dg.AssetCheckSpec]:
    """Build the specs of the checks of one metric or record."""
    return [
        dg.AssetCheckSpec(check.name, asset=key, description=check.description)
        for check in checks_of(subject)
    ]


def check_results(
    key: dg.AssetKey, subject: Subject, query: Query
) -> Iterator[dg.AssetCheckResult]:
    """Run the checks and return their results."""
    for check in checks_of(subject):
        yield _result(key, check.name, check.look(query, subject))


def _result(key: dg.AssetKey, name: str, finding: Finding) -> dg.AssetCheckResult:
    cases = {"cases": metadata.to_table(finding.cases)} if finding.cases else {}
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=name,
        passed=finding.verdict is not Verdict.FAILED,
        severity=dg.AssetCheckSeverity.WARN,
        description=finding.reason,
        metadata={**finding.figures, **cases},
    )
