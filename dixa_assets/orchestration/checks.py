"""Asset checks: what `quality` finds, on every metric and record, shown by Dagster.

They end an asset's load and ask the warehouse only. Their severity is WARN: the data are stored
either way, and what a check doubts, a person decides. A check that had nothing to look at objects
to nothing, and says so. A load that cannot ask leaves its checks unexecuted, which Dagster does not
show as passed. See https://docs.dagster.io/guides/test/asset-checks
"""

from collections.abc import Iterator

import dagster as dg

from dixa_assets.checks.registry import Finding, Subject, Verdict, checks_of
from dixa_assets.orchestration import metadata
from dixa_assets.warehouse.sql import Query


def check_specs(key: dg.AssetKey, subject: Subject) -> list[dg.AssetCheckSpec]:
    """The checks of one metric or record, as Dagster knows them before any load."""
    return [
        dg.AssetCheckSpec(check.name, asset=key, description=check.description)
        for check in checks_of(subject)
    ]


def check_results(
    key: dg.AssetKey, subject: Subject, query: Query
) -> Iterator[dg.AssetCheckResult]:
    """What each check finds now."""
    for check in checks_of(subject):
        yield _result(key, check.name, check.look(query, subject))


def _result(key: dg.AssetKey, name: str, finding: Finding) -> dg.AssetCheckResult:
    cases = {"cases": metadata.to_table(finding.table)} if finding.table else {}
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=name,
        passed=finding.verdict is not Verdict.FAILED,
        severity=dg.AssetCheckSeverity.WARN,
        description=finding.reason,
        metadata={**finding.figures, **cases},
    )
