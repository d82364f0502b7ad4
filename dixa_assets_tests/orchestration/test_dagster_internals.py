"""The parts of Dagster's insides that this project uses: an upgrade that changes one fails here."""

import ast
import inspect
from pathlib import Path

import dagster as dg
from dagster._core.storage.defs_state.base import set_defs_state_storage
from dagster._grpc.client import DagsterGrpcClient

import dixa_assets
from dixa_assets.model.catalogue import Catalogue
from dixa_assets.orchestration import dagster_internals, state
from dixa_assets.orchestration.partitions import range_request

DAYS = dg.DailyPartitionsDefinition(start_date="2025-11-01")


@dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
def daily(context: dg.AssetExecutionContext) -> None:
    context.log.info(", ".join(context.partition_keys))


def test_only_one_module_imports_names_that_are_not_public() -> None:
    house = Path(dixa_assets.__file__).parent
    users = set()
    for path in house.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            if module.startswith(("dagster._", "dagster_shared")):
                users.add(path.relative_to(house).as_posix())
    assert users == {"orchestration/dagster_internals.py"}


def test_two_tags_make_a_run_of_a_range_of_days(instance: dg.DagsterInstance) -> None:
    request = range_request([daily.key], "2025-11-03", "2025-11-05")
    assert request.tags == {
        dagster_internals.ASSET_PARTITION_RANGE_START_TAG: "2025-11-03",
        dagster_internals.ASSET_PARTITION_RANGE_END_TAG: "2025-11-05",
    }
    assert dg.materialize([daily], tags=dict(request.tags), instance=instance).success
    loaded = dagster_internals.loaded_partitions(instance, daily.key)
    assert set(loaded) == {"2025-11-03", "2025-11-04", "2025-11-05"}


def test_unfinished_runs_are_queued_starting_running_or_canceling() -> None:
    # Older releases know no SUSPENDED.
    assert {status.value for status in dagster_internals.NOT_FINISHED_STATUSES} - {"SUSPENDED"} == {
        *("QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING"),
    }


def test_a_stored_version_is_the_latest_and_is_pinned(instance: dg.DagsterInstance) -> None:
    storage = instance.defs_state_storage
    assert isinstance(storage, dagster_internals.DefsStateStorage)
    assert state.load(storage, "a key") is None
    state.save(storage, "a key", Catalogue())
    assert state.load(storage, "a key") == Catalogue()
    with set_defs_state_storage(storage):
        assert dagster_internals.DefsStateStorage.get() is storage
        assert state.pin("a key") == Catalogue().version
        known = dagster_internals.DefinitionsLoadContext.get().get_defs_key_state_info("a key")
    assert known is None or known.version == Catalogue().version


def test_state_can_be_kept_as_versions_in_a_storage() -> None:
    assert dagster_internals.DefsStateManagementType.VERSIONED_STATE_STORAGE.value in (
        "VERSIONED_STATE_STORAGE",
        "versioned_state_storage",
    )


def test_a_code_server_reloads_and_has_an_id() -> None:
    make = dagster_internals.GrpcServerCodeLocationOrigin.create_client
    client = inspect.signature(make).return_annotation
    assert "DagsterGrpcClient" in str(client)
    assert "timeout" in inspect.signature(DagsterGrpcClient.reload_code).parameters
    assert callable(DagsterGrpcClient.get_server_id)


def test_a_step_knows_the_next_steps_of_its_process() -> None:
    after: dict[str, list[str]] = {}

    def asset(name: str, priority: int) -> dg.AssetsDefinition:
        @dg.asset(name=name, op_tags={"dagster/priority": str(priority)})
        def step(context: dg.AssetExecutionContext) -> None:
            after[name] = dagster_internals.steps_after(context)

        return step

    assets = [asset("last", 0), asset("first", 2), asset("second", 1)]
    assert dg.materialize(assets).success
    assert after == {"first": ["second", "last"], "second": ["last"], "last": []}
