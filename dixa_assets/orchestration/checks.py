"""The checks of `dixa_assets.checks` as Dagster's asset checks, on every metric and record.

They run after each load and read only the warehouse. Their severity is WARN: the data are stored
either way, and a person decides about them. A check without data passes and says so. A check that
raises an error fails and names the error. See
https://docs.dagster.io/guides/test/asset-checks
"""

import dagster as dg

from dixa_assets.checks.registry import Finding, Subject, Verdict, checks_of, findings_of
from dixa_assets.errors import DixaAssetsError
from dixa_assets.orchestration import metadata
from dixa_assets.warehouse.warehouse import Warehouse


def check_specs(key: dg.AssetKey, subject: Subject) -> list[dg.AssetCheckSpec]:
    """Build the specs of the checks of one metric or record."""
    return [
        dg.AssetCheckSpec(check.name, asset=key, description=check.description)
        for check in checks_of(subject)
    ]


def check_results(
    key: dg.AssetKey, subject: Subject, warehouse: Warehouse
) -> list[dg.AssetCheckResult]:
    """Run the checks and return their results.

    If the database cannot be read, each check fails with the reason.
    """
    try:
        with warehouse.reading() as query:
            findings = findings_of(query, subject)
    except DixaAssetsError as error:
        unread = Finding(Verdict.BROKEN, f"The check could not run: {error}")
        findings = {check.name: unread for check in checks_of(subject)}
    return [_result(key, *each) for each in findings.items()]


def _result(key: dg.AssetKey, name: str, finding: Finding) -> dg.AssetCheckResult:
    cases = {"cases": metadata.to_table(finding.cases)} if finding.cases else {}
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=name,
        passed=finding.verdict in (Verdict.PASSED, Verdict.NO_DATA),
        severity=dg.AssetCheckSeverity.WARN,
        description=finding.reason,
        metadata={**finding.figures, **cases},
    )
