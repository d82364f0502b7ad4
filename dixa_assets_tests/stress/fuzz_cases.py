"""What the fuzzing makes up: an asset, in so many pages, and what becomes of them on the wire."""

from typing import Any

from hypothesis import strategies as st

TOKEN = "sEcReT-t0ken-of-fuzz"
ROWS = 12
# A field of each record whose every value is an integer.
TARGETS = {
    "ratings": "conversation_id",
    "closed_conversations": "csid",
    "messages_sent": "word_count",
    "first_response_time": None,
    "agent_presence_duration": None,
}


ODD = [
    TOKEN, "", " ", "\x00", "\ud800", "ﬀ\u202e\U0001f600", "İ", "ß", "K", '"; DROP TABLE x; --',
    "raw:NaN", "raw:Infinity", "raw:-Infinity", "raw:1e999", "raw:-1e400", "raw:-0", "raw:1E2",
    "raw:" + "9" * 400, "raw:" + "9" * 5000, "raw:tru", "raw:0." + "1" * 400,
    "deep:50", "deep:600", "deep:900", "deep:940", "deep:960", "deep:975", "deep:990", "deep:5000",
    2**53, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 10**30, 5e-324, 1.7976931348623157e308, 0.1,
    "2025-11-05T23:00:00.000Z", "2025-11-05T22:59:59.999Z", "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59.999999-14:00", "2025-11-05T09:00:00Z[GMT]", "2025-11-05", "20251105T09",
    "2025-W45-3", "2025-11-05T09:00:00.123456789Z", "-infinity", "24:00", "a" * 3000,
]  # fmt: skip
NAMES = [
    "conversation_id", "CSID", "csid", "csid_label", "value", "value_label", "label", "Value",
    "partition_date", "loaded_at", "run_id", "primary_timestamp", "metric", "_0", "", " ", "\x00",
    "\ud800", "İ", "i̇", "K", "k", 'a"b', "a.b", "a" * 300, "select", "fields", "_type", "names",
]  # fmt: skip
TYPES = [
    "LongField", "IntField", "DoubleField", "StringField", "UUIDField", "BooleanField",
    "InstantField", "ListField", "TimestampField", "HologramField", "", None, 5, [],
]  # fmt: skip
LINKS = [
    None, "", "?", "?pageKey=", "?pageKey=K1", "?pageKey=K1&pageKey=K2", "?pageKey=K%31",
    "?pageKey=never", "?pageLimit=1", "http://[", "//[::1", "http://h:port/?pageKey=K1",
    "https://elsewhere.example/?pageKey=K1", f"https://{TOKEN}.example/?pageKey=K1",
    "//a\u2100b?x", "?pageKey=\ud800", "?pageKey=%ff%fe", "?pageKey=" + "K" * 70_000,
    "?pageKey=K1&pageLimit=\ud800",
    "?pageKey=K1#x", "javascript:x", "?pageKey=\x00", "?pageKey=K1\r\nx: y", 5, [], {},
]  # fmt: skip
STATUSES = [
    100, 103, 200, 201, 202, 204, 206, 299, 301, 302, 304, 307, 400, 401, 403, 404, 405, 408, 409,
    410, 418, 422, 425, 429, 451, 499, 500, 501, 502, 503, 504, 520, 599, 600, 999,
]  # fmt: skip
HEADERS = [
    {"content-type": "text/html"}, {"content-type": "application/json; charset=utf-16"},
    {"content-type": "text/plain; charset=hex"}, {"content-type": "text/plain; charset=undefined"},
    {"content-type": "text/plain; charset=idna"}, {"content-type": "text/plain; charset=rot13"},
    {"content-type": "text/plain; charset=\"\""}, {"content-type": f"text/{TOKEN}"},
    {"content-encoding": "gzip"}, {"content-encoding": "br"}, {"content-encoding": TOKEN},
    {"retry-after": "0"}, {"retry-after": "-5"}, {"retry-after": "nan"}, {"retry-after": "inf"},
    {"retry-after": "1e400"}, {"retry-after": "soon"}, {"retry-after": "86400"},
    {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, {"retry-after": "9" * 400},
    {"retry-after": "Mon, 01 Jan 99999999999 00:00:00 GMT"},
    {"retry-after": "Mon, 01 Jan 0001 00:00:00 +2359"}, {"retry-after": "Mon, 01 Jan 9999 0:0:0"},
    {"location": f"https://elsewhere.example/{TOKEN}"}, {"connection": "close"},
]  # fmt: skip
BODIES = [
    "", "null", "[]", "5", '"text"', "{}", '{"data": null}', '{"data": []}', '{"data": {}}',
    "<html></html>", '{"data": [', "\x00", "\ufeff{}", f'{{"message": "no {TOKEN}"}}',
    f"token {TOKEN} " * 50, '{"message": "Invalid value for: query parameter pageLimit"}',
    '{"message": {"a": 1}}', "[" * 5000, '{"data": [1, null, "x", {}]}', '{"data": [], "data": 5}',
]  # fmt: skip

texts = st.text(st.characters(exclude_categories=()), max_size=8)
leaves = (
    st.sampled_from(ODD)
    | st.sampled_from(ODD)
    | st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | texts
)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(NAMES) | texts, inner, max_size=3)
        | st.fixed_dictionaries({"_type": st.sampled_from(TYPES), "value": inner})
    ),
    max_leaves=5,
)
paths = st.lists(st.integers(0, 15), max_size=7)
always_or_once = st.sampled_from([1, 2, 99, 99])


def change(do: str, value: st.SearchStrategy[Any], path: st.SearchStrategy[Any]) -> Any:
    return st.fixed_dictionaries(
        {
            "page": st.integers(0, 5),
            "times": always_or_once,
            "do": st.just(do),
            "path": path,
            "value": value,
        }
    )


# Members of a page stand in the order data, meta; those of its link below it.
into_rows = st.tuples(st.just(0), st.integers(0, 15)).flatmap(
    lambda start: paths.map(lambda rest: [*start, *rest])
)
changes = st.one_of(
    change("replace", values, paths),
    change("replace", values, into_rows),
    change("replace", values, into_rows),
    change("replace", st.sampled_from(LINKS), st.just([1, 0])),
    change("drop", st.none(), paths | into_rows),
    change("duplicate", st.none(), into_rows),
    change("duplicate", st.none(), st.tuples(st.just(0), st.integers(0, 15)).map(list)),
    change("rename", st.sampled_from(NAMES) | texts, into_rows),
    change("wrap", st.none(), paths | into_rows),
    change("as text", st.none(), into_rows),
    change("type", st.sampled_from(TYPES), into_rows),
    change("name", st.sampled_from(NAMES) | values, into_rows),
)
wires = st.builds(
    lambda page, times, what: {"page": page, "times": times, **what},
    st.integers(0, 5),
    always_or_once,
    st.one_of(
        st.sampled_from(STATUSES).map(lambda status: {"status": status}),
        st.sampled_from(HEADERS).map(lambda headers: {"headers": headers}),
        st.floats(0, 0.999).map(lambda cut: {"cut": cut}),
        (st.sampled_from(BODIES) | texts).map(lambda body: {"body": body}),
        st.sampled_from(["utf-16", "utf-32", "utf-8-sig", "latin-1"]).map(
            lambda encoding: {"encoding": encoding}
        ),
        st.builds(
            lambda status, body, headers: {"status": status, "body": body, "headers": headers},
            st.sampled_from(STATUSES),
            st.sampled_from(BODIES),
            st.sampled_from(HEADERS),
        ),
    ),
)
cases = st.fixed_dictionaries(
    {
        "target": st.sampled_from([*TARGETS]),
        "pages": st.integers(1, 6) | st.just(ROWS),
        "changes": st.lists(changes, max_size=4),
        "wires": st.lists(wires, max_size=2) | st.just([]),
    }
)
