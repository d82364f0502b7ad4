"""Guards of a write: the key of digests, forgotten values, and rows that are left out now."""

from collections.abc import Sequence

from dixa_assets.errors import ConfigError, ErasedMeanwhile
from dixa_assets.model.privacy import FieldPolicy, Treatment
from dixa_assets.model.tables import (
    ERASURES,
    LOADS,
    METRIC_VALUES,
    OWNER,
    PERIOD_VALUES,
    Relation,
    Table,
)
from dixa_assets.staging import Staged
from dixa_assets.warehouse.sql import Connection, Query, literal, name_of, rows_of

# The statement that notes that no trace of removed values is left.
CLEAR = f"UPDATE {name_of(OWNER)} SET holds_removed = false"
# The form of a digest.
DIGEST = "[0-9a-f]{64}"


def verify(connection: Connection, relation: Relation, parts: Sequence[Staged]) -> bool:
    """Refuse rows that were hashed with another key, or that may hold a forgotten value.

    Returns:
        True if free blocks of the database may hold removed values.

    Raises:
        ConfigError: DIXA_HASH_KEY is missing, or it is not the key of the stored digests.
        ErasedMeanwhile: A value was forgotten after the rows were staged.
    """
    (owner,) = rows_of(
        connection, f"SELECT hash_key, erasures, holds_removed FROM {name_of(OWNER)}"
    )
    policy, own = relation.policy, relation.table.schema != LOADS.schema
    if own and (policy.hashed or owner.erasures):
        claim_key(connection, policy)
    if own and any(len(part.policy.forgotten) != (owner.erasures or 0) for part in parts):
        raise ErasedMeanwhile(
            f"{relation.key}: a value was forgotten while its rows were loaded. Nothing was "
            "written. Load the days again."
        )
    return bool(owner.holds_removed)


def claim_key(connection: Connection, policy: FieldPolicy) -> None:
    """Write the fingerprint of the key into the database, or refuse another key."""
    (owner,) = rows_of(connection, f"SELECT hash_key, erasures FROM {name_of(OWNER)}")
    if not policy.key:
        raise ConfigError(
            "DIXA_HASH_KEY",
            "is not set, but the database holds digests of this key. Set it as before.",
        )
    if owner.hash_key not in (None, policy.fingerprint):
        raise ConfigError(
            "DIXA_HASH_KEY",
            "is another key than that of the digests in the database, and equal values would get "
            "different digests. Set the former key, or load into another database.",
        )
    if owner.hash_key is None:
        connection.execute(f"UPDATE {name_of(OWNER)} SET hash_key = ?", [policy.fingerprint])


def note_removed(connection: Connection, *, days: bool = False) -> None:
    """Note that free blocks may hold removed values until they are overwritten.

    With `days`, whole days were removed. Otherwise values of any day were, so that every copy of
    the table must be made anew.
    """
    removals = "coalesce(removals, 0)" if days else "coalesce(removals, 0) + 1"
    connection.execute(f"UPDATE {name_of(OWNER)} SET holds_removed = true, removals = {removals}")


def holds_removed(query: Query) -> bool:
    """Whether free blocks may hold removed values."""
    return any(row.holds_removed for row in query(f"SELECT holds_removed FROM {name_of(OWNER)}"))


def digests(query: Query) -> frozenset[str]:
    """The digests of forgotten values."""
    return frozenset(row.digest for row in query(f"SELECT digest FROM {name_of(ERASURES)}"))


def remove_other_rows(
    connection: Connection, relation: Relation, *, dry_run: bool = False
) -> list[str]:
    """Remove breakdowns and filter values that are left out, or that are hashed from now on.

    Returns:
        The changes in words. With `dry_run`, none of them is made.
    """
    policy = relation.policy
    removed: list[str] = []
    if policy.is_plain:
        return removed
    if relation.row_filter:
        tables: Sequence[Table] = (METRIC_VALUES, PERIOD_VALUES)
        attribute, value = "breakdown_attribute", "breakdown_value"
        condition = " AND ".join(f"{name} = ?" for name in relation.row_filter)
    elif relation.table.schema == "dixa_filters":
        tables = (relation.table,)
        attribute, value = literal(relation.table.name), "value"
        condition = "true"
    else:
        return removed
    keys = [*relation.row_filter.values()]
    for table in tables:
        found = rows_of(
            connection,
            f"SELECT {attribute} AS attribute, count(*) FILTER "
            f"(NOT regexp_full_match({value}, '{DIGEST}')) AS plain FROM {name_of(table)} "
            f"WHERE {condition} AND {attribute} IS NOT NULL GROUP BY ALL",
            keys,
        )
        for row in found:
            treatment = policy.treatment(row.attribute)
            if not treatment.is_kept or (treatment is Treatment.HASHED and row.plain):
                removed.append(f"removed values of {row.attribute} ({treatment})")
                if not dry_run:
                    connection.execute(
                        f"DELETE FROM {name_of(table)} WHERE {condition} AND {attribute} = ?",
                        [*keys, row.attribute],
                    )
    if removed and not dry_run:
        note_removed(connection)
    return removed
