"""How customers' data are treated: fields that are left out or hashed, and forgotten values."""

import hmac
import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property, lru_cache
from typing import Any

from dixa_assets.model.values import FIELD_TYPES, read_value

# The name of a row's own value in settings. The value has no name in the API.
OWN_VALUE = "value"
# The keys of a typed value whose type is documented. They are no fields. The label of a
# TimestampField is its `name`.
_TYPED_KEYS = frozenset({"value", "values", "label", "timestamp"})
_CONTENT_KEYS = frozenset({"value", "values", "timestamp"})
# The suffix of a label's column, and of the second field of a name in a row.
_SUFFIX = re.compile(r"(_label)?(_\d+)?$")
_PERSONAL_NAME = re.compile("contactpoint|name|email|phone|comment")
_PERSONAL_TEXT = re.compile(
    r"\b(contact points?|e-?mail address(?:es)?|phone numbers?|names?|comments?)\b", re.IGNORECASE
)


class Treatment(StrEnum):
    """The treatment of a field's values."""

    STORED = "stored"
    HASHED = "hashed"
    EXCLUDED = "excluded"
    NOT_ALLOWED = "not allowed"

    @property
    def is_kept(self) -> bool:
        """True if the database has a column for the field."""
        return self in (Treatment.STORED, Treatment.HASHED)


@lru_cache(10_000)
def normalised(name: str) -> str:
    """A name without case and separators: `contactpoint` for `Contact_Point`."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return re.sub(r"[\W_]+", "", folded) or folded


def looks_personal(name: str, description: str = "") -> bool:
    """Whether the name or the description of a field says that it identifies a person."""
    return bool(_PERSONAL_NAME.search(normalised(name)) or _PERSONAL_TEXT.search(description))


def folded(text: str) -> str:
    """The form in which a value is compared with a forgotten one."""
    return unicodedata.normalize("NFC", text.strip().casefold())


def blanked(value: Any, is_forgotten: Callable[[str], bool], *, numbers: bool = False) -> Any:
    """Remove forgotten texts and keys from a value; with `numbers`, forgotten numbers too."""

    def blank(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: each for key, each in node.items() if not is_forgotten(key)}
        is_compared = isinstance(node, str) or (numbers and type(node) in (int, float))
        return None if is_compared and is_forgotten(_text(node)) else node

    return _rewritten(value, blank)


@dataclass(frozen=True)
class FieldPolicy:
    """How the fields of a record, or filter attributes and their values, are treated.

    Names are normalised.

    Args:
        excluded: The fields that are left out, at every depth of a value.
        allowed: The only fields that are stored; None for all.
        hashed: The fields whose values are replaced by their HMAC-SHA-256.
        personal: The fields that are blanked in a forgotten person's rows; empty: fields that look
            personal.
        key: The key of the digests; empty if there is none.
        forgotten: The digests of forgotten values.
    """

    excluded: frozenset[str] = frozenset()
    allowed: frozenset[str] | None = None
    hashed: frozenset[str] = frozenset()
    personal: frozenset[str] = frozenset()
    key: str = field(default="", repr=False)
    forgotten: frozenset[str] = field(default=frozenset(), repr=False)
    _known: dict[str, Treatment] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    @cached_property
    def is_plain(self) -> bool:
        """True if every value is stored as it is."""
        named = self.excluded or self.hashed or self.forgotten
        return not named and self.allowed is None

    @property
    def fingerprint(self) -> str:
        """A short digest that identifies the key."""
        return self._hmac("fingerprint", "")[:16] if self.key else ""

    def treatment(self, name: str) -> Treatment:
        """The treatment of a field. `x_label` is treated as `x`, and so is `x_2`."""
        known = self._known.get(name)
        if known is None:
            names = {normalised(name), normalised(_SUFFIX.sub("", name))}
            if names & self.excluded:
                known = Treatment.EXCLUDED
            elif names & self.hashed:
                known = Treatment.HASHED
            elif self.allowed is not None and not names & {*self.allowed, OWN_VALUE}:
                known = Treatment.NOT_ALLOWED
            else:
                known = Treatment.STORED
            self._known[name] = known
        return known

    def is_personal(self, name: str, description: str = "") -> bool:
        """Whether a field is blanked in the rows of a forgotten person."""
        if self.personal:
            return normalised(name) in self.personal
        return looks_personal(name, description)

    def apply(self, name: str, typed: Any) -> Any:
        """Return a kept field's value as it is stored."""
        if self.treatment(name) is Treatment.HASHED:
            content = read_value(typed).content
            if isinstance(content, list):
                return {"_type": "ListField", "values": [self.digest(each) for each in content]}
            return {"_type": "StringField", "value": self.digest(content)}
        return _rewritten(typed, self._nested) if self.excluded or self.hashed else typed

    def forget(self, value: Any, *, numbers: bool = False) -> Any:
        """A value without its forgotten parts."""
        return blanked(value, self._is_forgotten, numbers=numbers) if self.forgotten else value

    def filter_value(
        self, attribute: str, value: str, label: str | None = None
    ) -> tuple[str | None, str | None]:
        """The value and label of a filter attribute as they are stored."""
        value, label = self.forget(value), self.forget(label)
        if self.treatment(attribute) is Treatment.HASHED:
            return self.digest(value), None
        return value, label

    def noted_filters(self, filters: Mapping[str, Sequence[str]]) -> dict[str, list[str | None]]:
        """The filters of a request, for the load log. A field that is left out has only a count."""
        return {
            name: [self.filter_value(name, value)[0] for value in values]
            if self.treatment(name).is_kept
            else [f"{len(values)} values"]
            for name, values in filters.items()
        }

    def digest(self, content: Any) -> str | None:
        """The HMAC-SHA-256 of a value; None for None. A number has the digest of its text."""
        return None if content is None else self._hmac("", _text(content))

    def erasure_digest(self, text: str) -> str:
        """The digest by which a forgotten value is recognised."""
        return self._hmac("forget", folded(text))

    def _is_forgotten(self, text: str) -> bool:
        return self.erasure_digest(text) in self.forgotten

    def _hmac(self, purpose: str, text: str) -> str:
        # The prefix separates digests of different uses. JSON texts contain no zero byte.
        message = f"\0{purpose}\0{text}" if purpose else text
        return hmac.digest(
            self.key.encode(), message.encode(errors="backslashreplace"), "sha256"
        ).hex()

    def _nested(self, node: Any) -> Any:
        """Drop or hash the fields of a JSON object: its keys, or one given as name and value."""
        if not isinstance(node, dict):
            return node
        kind, name = node.get("_type"), node.get("name")
        is_typed = kind in FIELD_TYPES if isinstance(kind, str) else node.keys() & _CONTENT_KEYS
        typed_keys = _TYPED_KEYS | {"name"} if "timestamp" in node else _TYPED_KEYS
        is_pair = isinstance(name, str) and node.keys() & {"field", "value"}
        kept = {}
        for key, content in node.items():
            is_own = key == "_type" or (is_typed and key in typed_keys)
            sources = ([] if is_own else [key]) + ([name] if is_pair and key != "name" else [])
            treatments = {self.treatment(source) for source in sources}
            if Treatment.EXCLUDED in treatments:
                continue
            is_hashed = Treatment.HASHED in treatments
            kept[key] = self.digest(read_value(content).content) if is_hashed else content
        return kept


STORE_ALL = FieldPolicy()


def _rewritten(value: Any, change: Callable[[Any], Any]) -> Any:
    """A copy of a JSON value in which `change` has replaced each part, from the outside inwards.

    JSON can be nested too deeply for recursion, so this uses a list.
    """
    root = [value]
    pending: list[tuple[Any, Any]] = [(root, 0)]
    while pending:
        container, at = pending.pop()
        part = change(container[at])
        if isinstance(part, dict):
            part = dict(part)
            pending += [(part, key) for key in part]
        elif isinstance(part, list):
            part = list(part)
            pending += [(part, number) for number in range(len(part))]
        container[at] = part
    return root[0]


def _text(content: Any) -> str:
    """The text of a value, equal for equal values of different types."""
    if isinstance(content, str):
        return content
    if isinstance(content, float) and content.is_integer():
        return str(int(content))
    return json.dumps(content, sort_keys=True)
