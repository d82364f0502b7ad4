"""Names of Dagster that are not part of its public API, in one place.

Each name has a test of the behaviour that this project relies on, so that an upgrade which changes
it fails in that test.
"""

import os
from collections.abc import Collection
from pathlib import Path

import dagster as dg
from dagster import DagsterError
from dagster._core.definitions.data_version import CODE_VERSION_TAG
from dagster._core.definitions.definitions_load_context import DefinitionsLoadContext
from dagster._core.definitions.unresolved_asset_job_definition import (
    UnresolvedAssetJobDefinition as AssetJob,
)
from dagster._core.execution.plan.inputs import StepInput
from dagster._core.instance.ref import InstanceRef
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES
from dagster._core.storage.defs_state.base import DefsStateStorage
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
)
from dagster._utils.schedules import is_valid_cron_schedule as is_valid_cron
from dagster_shared.check import CheckError
from dagster_shared.serdes.objects.models.defs_state_info import DefsStateManagementType

__all__ = [
    "ASSET_PARTITION_RANGE_END_TAG",
    "ASSET_PARTITION_RANGE_START_TAG",
    "CODE_VERSION_TAG",
    "NOT_FINISHED_STATUSES",
    "AssetJob",
    "CheckError",
    "CheckRunHealthResult",
    "DefinitionsLoadContext",
    "DefsStateManagementType",
    "DefsStateStorage",
    "GrpcServerCodeLocationOrigin",
    "WorkerStatus",
    "has_dependants",
    "is_valid_cron",
    "loaded_partitions",
    "run_launcher",
    "steps_after",
    "storage_errors",
    "to_evaluation",
]


def storage_errors() -> tuple[type[Exception], ...]:
    """The errors of an instance whose folder or database cannot be used."""
    # It takes 0.15 s to import. `except` calls this function only after an error.
    from sqlalchemy.exc import SQLAlchemyError

    return OSError, ImportError, CheckError, DagsterError, SQLAlchemyError


def loaded_partitions(instance: dg.DagsterInstance, key: dg.AssetKey) -> Collection[str]:
    """The partitions of an asset with a materialization in Dagster."""
    return instance.event_log_storage.get_materialized_partitions(key)


def run_launcher() -> str:
    """The class of the run launcher in DAGSTER_HOME; empty if there is none."""
    home = os.environ.get("DAGSTER_HOME", "")
    if not home or not (Path(home) / "dagster.yaml").is_file():
        return ""
    launcher = InstanceRef.from_dir(home).run_launcher_data
    return launcher.class_name if launcher else ""


def steps_after(context: dg.AssetExecutionContext) -> list[str]:
    """The steps that this process runs after the current one, in order.

    The list is empty if each step has a process of its own.
    """
    step = context.op_execution_context.get_step_execution_context()
    by_level = step.execution_plan.get_steps_to_execute_by_level()
    order = [
        each.key
        for level in by_level
        for each in sorted(level, key=lambda one: -int(one.tags.get("dagster/priority", 0)))
    ]
    return order[order.index(step.step.key) + 1 :]


def to_evaluation(
    context: dg.AssetExecutionContext, result: dg.AssetCheckResult
) -> dg.AssetCheckEvaluation:
    """The event for the result of a check that the run did not plan."""
    return result.to_asset_check_evaluation(
        context.op_execution_context.get_step_execution_context()
    )


def has_dependants(context: dg.AssetExecutionContext) -> bool:
    """True if another step of the run depends on the current one."""
    step = context.op_execution_context.get_step_execution_context()
    return any(
        step.step.key in each.dependency_keys
        for other in step.execution_plan.steps
        for each in other.step_inputs
        if isinstance(each, StepInput)
    )
