"""Makes the marts: views that answer the questions of a support team.

The file of a mart reads roles and other marts. The builder finds the table behind each role and
puts the roles, as CTEs, in front of the file's SELECT. A field that the table lacks is NULL, and a
role without a table is an empty relation. The builder adds these CTEs:

    account   one row: `timezone`, and `week_starts_on` as an ISO weekday
    loaded    a row per loaded day: `names`, the loaded roles and their fields (`role.field`);
              `is_complete`, whether all records of the mart are loaded
    calendar  a row per loaded day: `day`, and `period`, the first day of its week or month
    periods   a row per period: `days`, how many are loaded; `names`; `is_whole`
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from graphlib import TopologicalSorter
from hashlib import sha256
from typing import Self

from dixa_assets.marts.files import Mart, read_marts
from dixa_assets.marts.roles import RECORD_ROLES, ROLES, Role, Source, find_sources
from dixa_assets.model.catalogue import Catalogue, Entry
from dixa_assets.model.days import WEEKDAYS
from dixa_assets.model.tables import COLUMNS, MARTS, Column, Table
from dixa_assets.model.values import VARCHAR
from dixa_assets.warehouse.sql import literal, name_of, quote
from dixa_assets.warehouse.views import View
from dixa_assets.warehouse.warehouse import Warehouse

MISSING = Table(
    MARTS,
    "missing",
    "What the marts lack in this account, and the consequence.",
    (
        Column("kind", VARCHAR, "mart, record, field or filter."),
        Column("name", VARCHAR, "The mart, record, field or filter attribute."),
        Column("consequence", VARCHAR, "The consequence for the marts."),
    ),
)
# The relations that the CTEs `calendar` and `periods` read.
READ_BY = {"calendar": {"days"}, "periods": {"days", "loaded"}}
IS_WHOLE = {"day": "true", "week": "bool_and(is_whole_week)", "month": "bool_and(is_whole_month)"}
# The names of roles and fields that a mart looks for in `loaded.names`.
LOOKED_FOR = re.compile(r"'((\w+)(?:\.(\w+))?)' IN names")
# The columns of each table that have had a value. Dixa may declare a field and never send it.
Columns = Mapping[Source, Collection[str]]


@dataclass(frozen=True)
class Marts:
    """The marts of an account.

    Args:
        sources: The table behind each role that has one.
        week_starts_on: The first day of a week, such as `monday`.
    """

    sources: Mapping[str, Source]
    week_starts_on: str = "monday"

    @classmethod
    def of(
        cls,
        catalogue: Catalogue,
        wants: Callable[[Entry], bool],
        setting: bool | Mapping[str, str] = True,
        week_starts_on: str = "monday",
    ) -> Self:
        """Find the tables of the marts.

        Args:
            catalogue: All entries.
            wants: Whether an entry is loaded.
            setting: The setting `marts`; a mapping has the record of some roles.
            week_starts_on: The first day of a week.
        """
        records = {
            each.id: each.name
            for each in catalogue.entries
            if each.kind == "record" and wants(each)
        }
        chosen = setting if isinstance(setting, Mapping) else {}
        return cls(find_sources(records, catalogue.filter_names, chosen), week_starts_on)

    @cached_property
    def possible(self) -> tuple[Mart, ...]:
        """The marts whose required roles have tables, each after the marts that it reads."""
        marts = {mart.name: mart for mart in read_marts() if not self._lacks(mart)}
        graph = {name: _needs(mart) & marts.keys() for name, mart in marts.items()}
        return tuple(marts[name] for name in TopologicalSorter(graph).static_order())

    def upstream(self, mart: Mart) -> list[tuple[str, str]]:
        """The tables and marts that a mart reads, by schema and name."""
        needed = _needs(mart)
        read = [(MARTS, each.name) for each in self.possible if each.name in needed]
        return [*(source for name, source in self.sources.items() if name in needed), *read]

    def version(self, mart: Mart) -> str:
        """A digest of the mart's statement for a database that has every field."""
        return sha256(self.statement(mart).encode()).hexdigest()[:16]

    def make(self, warehouse: Warehouse) -> dict[str, str]:
        """Make the views, and the table of what is missing.

        Returns:
            The relations that could not be made, by name, with the reason.
        """
        with warehouse.reading() as query:
            columns: dict[Source, set[str]] = {}
            for row in query(
                f"SELECT table_schema, table_name, column_name FROM {name_of(COLUMNS)} "
                "WHERE type IS NOT NULL"
            ):
                columns.setdefault(Source(row.table_schema, row.table_name), set()).add(
                    row.column_name
                )
        names = {mart.name for mart in self.possible}
        views = [
            View(mart.table, self.statement(mart, columns), frozenset(_needs(mart) & names))
            for mart in self.possible
        ]
        problems = warehouse.replace_views(MARTS, views)
        gaps = [("mart", name, f"is not made: {why}") for name, why in problems.items()]
        gaps += self.gaps(columns)
        rows = [dict(zip(("kind", "name", "consequence"), gap, strict=True)) for gap in gaps]
        if not warehouse.replace_rows(MISSING, rows):
            problems[MISSING.name] = "another program made a table with this name"
        return problems

    def gaps(self, columns: Columns | None = None) -> Iterator[tuple[str, str, str]]:
        """Yield what the marts lack: kind, name, consequence. Fields only if `columns` is given."""
        for mart in read_marts():
            if lacks := self._lacks(mart):
                yield "mart", mart.name, f"is not made: no record for {' and for '.join(lacks)}"
        for role in ROLES:
            readers = sorted(mart.name for mart in self.possible if role.name in mart.reads)
            follows = f"NULL in {', '.join(readers)}" if readers else "no mart reads it"
            source = self.sources.get(role.name)
            if source is None:
                yield role.kind, role.ids[0], follows
            elif columns is not None and source not in columns:
                yield role.kind, source.name, f"is not loaded yet: {follows}"
            elif columns is not None:
                for field in role.fields.values():
                    if not {*field.columns} & {*columns[source]}:
                        yield "field", f"{source.name}.{field.columns[0]}", follows

    def statement(self, mart: Mart, columns: Columns | None = None) -> str:
        """The SELECT of a mart's view. Without columns, every table has every field."""
        needed, period = _needs(mart), mart.period
        weekday = WEEKDAYS.index(self.week_starts_on) + 1
        ctes = {
            **{role.name: self._role(role, columns) for role in ROLES if role.name in needed},
            **{each.name: self._mart(each) for each in read_marts() if each.name in needed},
            "account": f"SELECT timezone, {weekday} AS week_starts_on "
            "FROM dixa_catalogue.warehouse",
            "loaded": self._loaded(mart, columns),
            "calendar": f"SELECT day, {period} AS period FROM days",
            "periods": f"SELECT {period} AS period, count(*) AS days, "
            "list_distinct(flatten(list(names))) AS names, "
            f"bool_and(is_complete) AND {IS_WHOLE.get(period)} AS is_whole "
            f"FROM days JOIN loaded USING (day) GROUP BY {period}",
        }
        before = ",\n".join(
            # Otherwise DuckDB materializes a role that is read twice.
            f"{name} AS NOT MATERIALIZED ({select})"
            for name, select in ctes.items()
            if name in needed
        )
        renamed = f" RENAME (period AS {period})" if period else ""
        return f"WITH {before}\nSELECT *{renamed} FROM (\n{mart.body}\n)"

    def _lacks(self, mart: Mart) -> list[str]:
        """The groups of roles that a mart requires and that have no table."""
        return [
            " or ".join(sorted(group)) for group in mart.requires if not group & self.sources.keys()
        ]

    def _role(self, role: Role, columns: Columns | None) -> str:
        """The SELECT of a role. A missing field is NULL."""
        source = self.sources.get(role.name)
        held = columns.get(source, ()) if source and columns is not None else None
        cells = []
        for name, field in role.fields.items():
            found = [each for each in field.columns if source and (held is None or each in held)]
            # A cast keeps the type of the view when a column of the table is widened.
            values = [f"TRY_CAST({quote(each)} AS {field.type})" for each in found]
            cells.append(f"coalesce({', '.join([*values, f'NULL::{field.type}'])}) AS {name}")
        rows = "WHERE false"
        if source and (held is None or held):
            rows = f"FROM {quote(source.schema)}.{quote(source.name)}"
        return f"SELECT {', '.join(cells)} {rows}"

    def _mart(self, mart: Mart) -> str:
        if mart in self.possible:
            return f"FROM {name_of(mart.table)}"
        cells = (f"NULL::{column.type} AS {column.name}" for column in mart.table.columns)
        return f"SELECT {', '.join(cells)} WHERE false"

    def _loaded(self, mart: Mart, columns: Columns | None) -> str:
        """The SELECT of the CTE `loaded`."""
        keys = {name: source.key for name, source in self.sources.items()}
        fields = {role.name: role.fields for role in ROLES}
        found = []
        for name, role, field in sorted({*LOOKED_FOR.findall(mart.body)}):
            if role in keys and (
                not field
                or columns is None
                or {*fields[role][field].columns} & {*columns.get(self.sources[role], ())}
            ):
                found.append(f"({literal(keys[role])}, {literal(name)})")
        known = ", ".join(found or ["(NULL, NULL)"])
        records = sorted(keys[name] for name in _needs(mart) & keys.keys() & RECORD_ROLES)
        needed = ", ".join(map(literal, records))
        return (
            "SELECT partition_date AS day, "
            "coalesce(list(name) FILTER (name IS NOT NULL), []) AS names, "
            f"list_has_all(list(asset_key), [{needed}]::VARCHAR[]) AS is_complete "
            "FROM dixa_catalogue.loads "
            f"LEFT JOIN (VALUES {known}) AS known(asset_key, name) USING (asset_key) "
            "WHERE partition_date IS NOT NULL GROUP BY partition_date"
        )


def _needs(mart: Mart) -> frozenset[str]:
    """Every relation that a mart's statement reads."""
    return mart.reads.union(*(READ_BY.get(name, ()) for name in mart.reads))
