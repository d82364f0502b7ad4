"""The cases of the fuzzing: an asset, a number of pages, and their changes on the wire."""

import json
from pathlib import Path
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

SAMPLES = json.loads(
    Path(__file__).with_name("fuzz_samples.json").read_text().replace("$TOKEN", TOKEN)
)
LONG = ["raw:" + "9" * 400, "raw:" + "9" * 5000, "raw:0." + "1" * 400, "a" * 3000]
ODD = SAMPLES["odd"] + LONG
NAMES = [*SAMPLES["names"], "a" * 300]
LINKS = [*SAMPLES["links"], "?pageKey=" + "K" * 70_000]
HEADERS = [*SAMPLES["headers"], {"retry-after": "9" * 400}]
BODIES = [*SAMPLES["bodies"], f"token {TOKEN} " * 50, "[" * 5000]
STATUSES, TYPES = SAMPLES["statuses"], SAMPLES["types"]

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


# A page has the members data and meta, in this order; the link is inside meta.
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
