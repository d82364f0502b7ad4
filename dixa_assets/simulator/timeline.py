"""Creates the rows of everything that begins on one UTC day, as a pure function of seed and date.

Random events follow the working hours of a Danish support centre. Edge events happen exactly on
full and half hours and one millisecond earlier, where time zones have their midnights. The events
of one conversation belong in `lifecycle`, the differences between weeks and queues in `story`.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from random import Random

from dixa_assets.simulator import people, story
from dixa_assets.simulator.lifecycle import EDGE_MINUTES, MILLISECOND, Lifecycle
from dixa_assets.simulator.records import make_row
from dixa_assets.simulator.values import NO_VALUES, Choice, Conversation, Int32, Named, Row, Value

FIRST_DAY = date(2010, 1, 1)
# Every event of a conversation happens within this many days after the day it was created.
LIFETIME_DAYS = 8
CSIDS_PER_DAY = 10_000
MAX_CONVERSATIONS_PER_DAY = 5_000

HOUR_WEIGHTS = (
    *(1, 1, 1, 1, 1, 2, 6, 20, 60, 90, 100, 95, 75, 85, 90, 80, 60, 35, 22, 18, 14, 8, 4, 2),
)
WEEKDAY_FACTORS = (1.2, 1.05, 1.0, 1.0, 0.95, 0.4, 0.3)


def rows_of_day(
    day: date, *, seed: int, conversations_per_day: int, edge_share: float | None = None
) -> list[Row]:
    """Every row of everything that begins on a UTC day, in no particular order.

    `edge_share` limits edge conversations to a share of the others; None: one on every edge.
    """
    rng = Random(f"{seed}:{conversations_per_day}:{day.isoformat()}")  # noqa: S311
    midnight = datetime.combine(day, time(), UTC)
    edges = [
        midnight + timedelta(minutes=minute) - before
        for minute in EDGE_MINUTES
        for before in (timedelta(), MILLISECOND)
    ]
    # One millisecond before midnight belongs to the day before. Use the end of this day instead.
    edges = [edge if edge >= midnight else edge + timedelta(days=1) for edge in edges]
    creations = _random_instants(midnight, conversations_per_day * story.volume(day), rng)
    if edge_share is not None:
        edges = rng.sample(edges, k=min(round(edge_share * len(creations)), len(edges)))
    first_csid = (day - FIRST_DAY).days * CSIDS_PER_DAY + 1
    rows: list[Row] = []
    for csid, created_at in enumerate([*creations, *edges], start=first_csid):
        conversation = _conversation(csid, created_at, rng)
        is_edge = csid >= first_csid + len(creations)
        Lifecycle(rows, rng, conversation, edge=is_edge).add_rows()
    _add_presence(rows, rng, day, edges)
    article_uses = _random_instants(midnight, conversations_per_day // 3, rng)
    _add_article_uses(rows, rng, story.on_duty(day), [*article_uses, *edges])
    return rows


def _random_instants(midnight: datetime, typical: float, rng: Random) -> list[datetime]:
    weights = []
    for hour in range(24):
        local = (midnight + timedelta(hours=hour)).astimezone(people.HOME)
        weight = HOUR_WEIGHTS[local.hour]
        weights.append(weight * WEEKDAY_FACTORS[local.weekday()])
    count = max(1, round(typical * WEEKDAY_FACTORS[midnight.weekday()] * rng.uniform(0.85, 1.15)))
    hours = rng.choices(range(24), weights, k=count)
    return sorted(
        midnight + timedelta(hours=hour, milliseconds=rng.randrange(3_600_000)) for hour in hours
    )


def _conversation(csid: int, created_at: datetime, rng: Random) -> Conversation:
    (channel,) = rng.choices(people.CHANNELS, people.CHANNEL_WEIGHTS)
    by_phone = channel in (people.PHONE, people.CALLBACK)
    return Conversation(
        csid=csid,
        created_at=created_at,
        channel=channel,
        direction=people.INBOUND if rng.random() < 0.85 else people.OUTBOUND,
        contact_point=rng.choice(people.NUMBERS if by_phone else people.ADDRESSES),
        queue=story.queue(rng, created_at.date()),
    )


def _add_presence(rows: list[Row], rng: Random, day: date, edges: list[datetime]) -> None:
    def add(agent: Named, status: Choice, started: datetime, ended: datetime) -> None:
        is_working = status == people.WORKING
        channels: Value = sorted({rng.choice(people.CHANNELS).value for _ in range(3)})
        values = (agent, status, started, channels if is_working else [], is_working)
        seconds = (ended - started).total_seconds()
        rows.append(make_row("agent_presence", ended, values, value=seconds, agent=agent))

    for agent in story.on_duty(day):
        start = datetime.combine(day, time(rng.choice((7, 8, 8, 9, 13))), people.HOME)
        moments = [start.astimezone(UTC) + timedelta(milliseconds=rng.randrange(1_800_000))]
        for hours in (2.5, 0.5, 2.0, 0.25, 2.5):
            factor = rng.uniform(0.8, 1.2)
            moments.append(moments[-1] + timedelta(milliseconds=int(hours * factor * 3_600_000)))
        statuses = (people.WORKING, people.BREAK, people.WORKING, people.AWAY, people.WORKING)
        for status, (started, ended) in zip(statuses, pairwise(moments), strict=True):
            add(agent, status, started, ended)
    agents = story.agents(day)
    for turn, edge in enumerate(edges):
        agent = agents[turn % len(agents)]
        add(agent, people.PRESENCES[turn % 3], edge - timedelta(minutes=30), edge)


def _add_article_uses(
    rows: list[Row], rng: Random, agents: Sequence[Named], instants: list[datetime]
) -> None:
    actions = (Choice("VIEWED", "Viewed"), Choice("SHARED", "Shared with the customer"))
    for at in instants:
        agent = None if rng.random() < 0.3 else rng.choice(agents)
        words = rng.sample(
            ("parcel", "invoice", "størrelse", "refund", "login"), k=rng.randint(0, 2)
        )
        values = (
            rng.choice(people.ARTICLES),
            Int32(rng.randint(1, 9)),
            rng.choice(actions),
            agent,
            None if rng.random() < 0.4 else round(rng.random(), 6),
            words if words or rng.random() < 0.5 else NO_VALUES,
        )
        rows.append(make_row("knowledge_article_usage", at, values, agent=agent))
