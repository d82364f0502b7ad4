"""Rows on their way from the API to the database: lines of JSON in a file, and their types.

A file holds the rows of one day, of a part of a day, or of a whole table.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from io import BufferedWriter
from pathlib import Path
from typing import Any, Self

from pydantic_core import PydanticSerializationError, to_json

from dixa_assets.errors import ApiContractBroken, WarehouseError, printable
from dixa_assets.files import open_private
from dixa_assets.model.counts import Counts, Types, Usage
from dixa_assets.model.privacy import OWN_VALUE, STORE_ALL, FieldPolicy, Treatment
from dixa_assets.model.tables import Table
from dixa_assets.model.values import (
    BIGINT,
    EXACT_IN_DOUBLE,
    FIELD_TYPES,
    PLAIN,
    VARCHAR,
    Value,
    instant_text,
    read_value,
    type_name,
)

_BUFFER_BYTES = 2**16  # Python may run another thread during each write.
# The latest plain value of a field: its `_type`, the Python type of its content in the row, and
# the keys of its value and its label. The last key is empty if there was no label.
_Shortcut = tuple[str, Any, str, str]


class Staged:
    """Rows as lines of JSON in a file, and the types of their values.

    Fields have short keys in the file; the warehouse maps them to columns. Rows stay on disk, so a
    day can be larger than the memory.

    Args:
        path: The file, which is created.
        table: The table that the rows are for.
        policy: How fields are treated.
        key: The asset whose rows they are, for errors; empty: the table.
    """

    def __init__(
        self, path: Path, table: Table, policy: FieldPolicy = STORE_ALL, key: str = ""
    ) -> None:
        self.path = path
        self.key = key or table.key
        self.table = table
        self.policy = policy
        self.usage = Usage()
        try:
            self._file = BufferedWriter(open_private(path), _BUFFER_BYTES)
        except OSError as error:
            raise self._unwritable(error) from None
        self.clear()

    def clear(self) -> None:
        """Remove all rows. `usage` keeps their cost."""
        try:
            self._file.seek(0)
            self._file.truncate()
        except OSError as error:
            raise self._unwritable(error) from None
        self.counts = Counts()
        # The size of the file, set when it is closed.
        self.bytes = 0
        self.longest_line = 0
        self.keys: dict[tuple[str, str], str] = {}
        self.types = Types()
        # The latest undocumented `_type`, by field; `not allowed` for a field that is left out.
        self.unknown: dict[str, str] = {}
        # A metric's total, by measure. The load's metadata show it.
        self.totals: dict[str, float] = {}
        self._shortcuts: dict[str, _Shortcut] = {}

    @property
    def rows(self) -> int:
        """Rows in the file."""
        return self.counts.rows

    def add_row(self, line: Mapping[str, Any]) -> None:
        """Write a row: the project's own columns by name, and the keys that `put_field` added.

        Raises:
            ApiContractBroken: No column can hold a value of the row.
            WarehouseError: The file cannot be written.
        """
        try:
            text = _encode(line)
        except ValueError:
            raise ApiContractBroken(self.key, "no column can hold a number of the row.") from None
        except RecursionError:
            raise ApiContractBroken(self.key, "a value is nested too deeply.") from None
        try:
            self._file.write(text + b"\n")
        except OSError as error:
            raise self._unwritable(error) from None
        self.counts.rows += 1
        self.longest_line = max(self.longest_line, len(text))

    def put_field(self, line: dict[str, Any], name: str, typed: Any) -> None:
        """Put a typed value of the API into a row under construction.

        If the row already has a field with this name, the new one gets a number as suffix.
        """
        # Nearly all values have the same plain type as the latest value of the field, or are null.
        shortcut = self._shortcuts.get(name)
        if shortcut is not None and type(typed) is dict:
            kind, expected, key, label_key = shortcut
            # Without the key `value`, `given` is the dict itself, which has no expected type.
            given: Any = typed.get("value", typed)
            content = instant_text(given) if kind == "InstantField" else given
            label = typed.get("label")
            if (
                (type(content) is expected or given is None)
                and typed.get("_type") == kind
                and (type(content) is not int or -EXACT_IN_DOUBLE <= content <= EXACT_IN_DOUBLE)
                and (label is None or (label_key and type(label) is str))
                and key not in line
            ):
                line[key] = content
                if label is not None:
                    line[label_key] = label
                return
        found, number = _name_of(name), 2
        while self.keys.get((found, "value")) in line:
            found, number = f"{_name_of(name)}_{number}", number + 1
        self.put_value(line, found, read_value(typed))
        declared = typed.get("_type") if isinstance(typed, dict) else None
        if not isinstance(declared, str):
            return
        if declared not in FIELD_TYPES:
            self.unknown[found] = type_name(declared)
        elif found == name and type(line[self.keys[name, "value"]]) is PLAIN.get(declared):
            # A column of texts that are no instants holds instants too.
            # A text does not fit a column that has had lists of labels alone.
            has_texts = self.types.of.get((name, "label")) != f"{VARCHAR}[]"
            label = self.keys.get((name, "label"), "") * has_texts
            self._shortcuts[name] = declared, PLAIN[declared], self.keys[name, "value"], label

    def put_treated(self, line: dict[str, Any], name: str, typed: Any) -> bool:
        """Put a value into a row as its policy treats it; nothing if its field is left out.

        Returns:
            True if a part of the value is forgotten.
        """
        policy, shown = self.policy, name or OWN_VALUE
        treatment = policy.treatment(shown)
        if treatment is Treatment.NOT_ALLOWED:
            self.unknown[_name_of(name)] = treatment
        try:
            kept = policy.forget(typed, numbers=policy.is_personal(shown))
            if treatment.is_kept:
                self.put_field(line, name, policy.apply(shown, kept))
            return bool(policy.forgotten) and kept != typed
        except RecursionError:
            raise ApiContractBroken(self.key, "a value is nested too deeply.") from None

    def blank_personal(self, line: dict[str, Any], descriptions: Mapping[str, str]) -> None:
        """Remove the values of personal fields from a row of a forgotten person."""
        for (name, _), key in self.keys.items():
            if key in line and self.policy.is_personal(name, descriptions.get(name, "")):
                line[key] = None

    def put_value(self, line: dict[str, Any], name: str, value: Value) -> None:
        """Put a value into a row under construction, under a name that the row does not have."""
        parts: list[tuple[str, str | None, Any]] = [("value", value.type, value.content)]
        if value.label is not None:
            label_type = "VARCHAR[]" if isinstance(value.label, list) else VARCHAR
            parts.append(("label", label_type, value.label))
        for part, type_, content in parts:
            line[self.key_of(name, part)] = content
            if type_ == BIGINT and abs(content) > EXACT_IN_DOUBLE:
                self.types.inexact.add((name, part))
            self.types.see((name, part), type_)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def close(self) -> None:
        """Close the file. It must be closed before it is read."""
        try:
            if not self._file.closed:
                self.bytes = self._file.tell()
            self._file.close()
        except OSError as error:
            raise self._unwritable(error) from None

    def discard(self) -> None:
        """Remove the file."""
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self.path.unlink()

    def _unwritable(self, error: OSError) -> WarehouseError:
        return WarehouseError(
            f"{self.key}: its rows cannot be written to {self.path} ({error.strerror}). The "
            "folder is beside the file in DIXA_DUCKDB_PATH; for a lake, it is in TMPDIR."
        )

    def key_of(self, field: str, part: str = "value") -> str:
        """The key of a field's value or label in rows."""
        return self.keys.setdefault((field, part), f"_{len(self.keys)}")


# A field has one name in thousands of rows.
_name_of = lru_cache(10_000)(printable)


def _encode(line: Mapping[str, Any]) -> bytes:
    """A row as JSON. `json` encodes the few rows that the fast encoder cannot."""
    try:
        text = to_json(line)
    except PydanticSerializationError:
        text = b"Infinity"
    if b"Infinity" not in text:
        return text
    # A lone surrogate is valid JSON and invalid UTF-8: it becomes '?', the rest of the text stays.
    return json.dumps(line, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode(
        errors="replace"
    )
