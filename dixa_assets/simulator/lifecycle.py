"""The rows of one conversation, from its creation to its last closing.

Which conversations exist belongs in `timeline`.
"""

from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from random import Random
from uuid import NAMESPACE_URL, UUID, uuid5

from dixa_assets.simulator import people, story
from dixa_assets.simulator.records import make_row
from dixa_assets.simulator.values import (
    NO_VALUES,
    Choice,
    Conversation,
    Int32,
    Moment,
    Named,
    Row,
    Value,
)

MILLISECOND = timedelta(milliseconds=1)
# Minutes of the UTC day: midnight in Copenhagen (22, 23), Santiago (3, 4), Cairo (21, 22),
# Kolkata (18:30) and Apia (10, 11), in summer and winter, and the hours of the European night.
EDGE_MINUTES = (0, 60, 120, 180, 240, 300, 600, 660, 1110, 1260, 1320, 1380)
SLA_SECONDS = 3600.0

# (after, typical seconds): the instant of the next event.
NextInstant = Callable[[datetime, float], datetime]


class Lifecycle:
    """Creates the rows of one conversation.

    An edge conversation has every kind of event, one on each edge, so that every edge has rows of
    every record.
    """

    def __init__(
        self, rows: list[Row], rng: Random, conversation: Conversation, *, edge: bool
    ) -> None:
        self._rows = rows
        self._rng = rng
        self._conversation = conversation
        self._edge = edge
        self._day = conversation.created_at.date()
        self._agents = story.on_duty(self._day)
        self._queue = conversation.queue
        self._agent: Named | None = None
        self._tags: tuple[Named, ...] = ()
        self._next_instant: NextInstant = next_edge if edge else self._random_instant_after

    def add_rows(self) -> None:
        """Append every row of the conversation to the list."""
        rng, conversation = self._rng, self._conversation
        self._create()
        if self._happens(0.05, edge=False):
            return self._close(
                self._next_instant(conversation.created_at, 1800.0), closed_by="Enduser"
            )
        usual, agent = people.TYPICAL_WAIT[conversation.channel], rng.choice(self._agents)
        wait, work = (
            usual * factor
            for factor in (story.delay(self._queue, self._day), story.slowness(agent, self._day))
        )
        at = conversation.created_at
        if self._happens(0.2, edge=False):
            at = self._next_instant(at, wait / 2)
            self._assign(at, rng.choice(self._agents), accepted=False)
        at = self._next_instant(at, wait)
        self._assign(at, agent, accepted=True)
        picked_up = at
        at = self._next_instant(at, work / 3)
        self._first_reply(at)
        if self._happens(0.14, edge=True):
            if not self._edge:
                at = self._next_instant(at, 600.0)
            self._transfer(at)
        tags = [rng.choice(people.TAGS)] if self._edge else story.tags(rng, self._queue, self._day)
        for tag in tags:
            self._tag(at, tag)
        for turn in range(0 if self._edge else rng.choice((0, 0, 1, 2, 3, 5))):
            at = self._next_instant(at, work / 4)
            self._message(at, self._agent if turn % 2 else None)
        at = self._next_instant(at, 600.0)
        self._close(at, closed_by=rng.choice(("Agent", "Agent", "Agent", "Enduser", "Unknown")))
        self._handle(at, picked_up)
        if self._happens(0.12, edge=True):
            self._reopen(at)
        return None

    def _random_instant_after(self, after: datetime, typical: float) -> datetime:
        factor = min(self._rng.lognormvariate(0.0, 0.7), 6.0)
        return after + timedelta(milliseconds=int(typical * factor * 1000) + 1)

    def _happens(self, chance: float, *, edge: bool) -> bool:
        return edge if self._edge else self._rng.random() < chance

    def _add(
        self,
        record_id: str,
        at: datetime,
        *values: Value | None,
        value: Value | None = None,
        visible_at: datetime | None = None,
    ) -> None:
        """Append a row. The first field of every row is the number of the conversation."""
        row = make_row(
            record_id,
            at,
            (self._conversation.csid, *values),
            visible_at=visible_at or at,
            value=value,
            conversation=self._conversation,
            agent=self._agent,
            queue=self._queue,
            tags=self._tags,
        )
        self._rows.append(row)

    def _create(self) -> None:
        conversation, rng = self._conversation, self._rng
        self._add(
            "created_conversations",
            conversation.created_at,
            conversation.direction,
            conversation.channel,
            Choice(conversation.contact_point, conversation.contact_point),
            self._queue,
            # Customers come back.
            uuid5(NAMESPACE_URL, f"customer/{rng.randrange(3000)}"),
            # Above 2**53, so that a conversion to a float would change it.
            None if rng.random() < 0.3 else 2**53 + 2 * rng.getrandbits(61) + 1,
            rng.choice(("da", "en", "de", "sv")),
            rng.random() < 0.1,
        )
        if conversation.direction == people.INBOUND:
            self._message(conversation.created_at, None)

    def _assign(self, at: datetime, agent: Named, *, accepted: bool) -> None:
        born = self._conversation.created_at
        self._agent = agent
        kinds = (Choice("OFFERED", "Offered"), Choice("CLAIMED", "Claimed by agent"))
        self._add(
            "conversation_assignments",
            at,
            agent,
            self._queue,
            Moment("created_at", born),
            self._rng.choice(kinds) if accepted else kinds[0],
            accepted,
            value=(at - born).total_seconds() if accepted else None,
        )

    def _first_reply(self, at: datetime) -> None:
        conversation = self._conversation
        seconds = (at - conversation.created_at).total_seconds()
        message_id = self._message(at, self._agent)
        values = (
            self._agent,
            self._queue,
            conversation.channel,
            message_id,
            seconds <= SLA_SECONDS,
        )
        self._add("first_response_time", at, *values, value=seconds)

    def _message(self, at: datetime, author: Named | None) -> UUID:
        rng, message_id = self._rng, _uuid(self._rng)
        count = rng.choice((0, 0, 0, 1, 2))
        files: Value = [f"file-{rng.randrange(1000)}.pdf" for _ in range(count)]
        if not files and rng.random() < 0.3:
            files = NO_VALUES
        self._add(
            "messages_sent",
            at,
            message_id,
            Choice("AGENT", "Agent") if author else Choice("END_USER", "End user"),
            author,
            self._conversation.channel,
            Int32(rng.randint(3, 220)),
            Int32(count),
            files,
        )
        return message_id

    def _transfer(self, at: datetime) -> None:
        before, self._queue = self._queue, self._rng.choice(people.QUEUES)
        self._add("transferred_conversations", at, self._agent, before, self._queue)
        self._assign(self._next_instant(at, 120.0), self._rng.choice(self._agents), accepted=True)

    def _tag(self, at: datetime, tag: Named) -> None:
        self._tags = (*self._tags, tag)
        agent = None if self._rng.random() < 0.2 else self._agent
        self._add("tagged_conversations", at, tag, agent, list(self._tags))

    def _close(self, at: datetime, *, closed_by: str) -> None:
        conversation = self._conversation
        self._add(
            "closed_conversations",
            at,
            conversation.csid,
            at,
            self._agent,
            self._queue,
            closed_by,
            conversation.direction,
            conversation.channel,
            Choice(conversation.contact_point, conversation.contact_point),
            list(self._tags),
        )
        self._survey(at)

    def _handle(self, at: datetime, since: datetime) -> None:
        share = None if self._rng.random() < 0.25 else round(self._rng.random(), 4)
        seconds = round((at - since).total_seconds() * self._rng.uniform(0.1, 0.9), 3)
        self._add("handling_time", at, self._agent, self._queue, share, value=seconds)

    def _survey(self, at: datetime) -> None:
        rng = self._rng
        kinds: tuple[str, ...] = ("ratings", "nps_ratings", "thumbs_ratings")
        if not self._edge:
            kinds = tuple(rng.choices(kinds, (70, 15, 15))) if rng.random() < 0.45 else ()
        survey_id = _uuid(rng)
        share = story.satisfaction(self._agent, self._queue, self._day)
        minutes = min(max(2.0, rng.expovariate(1 / 600)), 6 * 24 * 60.0)
        answered = at + timedelta(milliseconds=int(minutes * 60_000))
        for kind in kinds:
            score: int | None = None
            rest: tuple[Value | None, ...] = (survey_id, answered)
            is_satisfied = rng.random() < share
            if kind == "ratings":
                comment = "Tak for hjælpen!" if is_satisfied else 'She said "wait".\nTwice.'
                rest = (*rest, rng.choice((None, None, comment)))
                score = rng.choice((4, 5, 5) if is_satisfied else (1, 2, 3, 3))
            elif kind == "nps_ratings":
                score = Int32(rng.randint(8, 10) if is_satisfied else rng.randint(0, 7))
            else:
                rest = (answered, is_satisfied)
            values = (self._agent, self._queue, *rest)
            self._add(kind, at, *values, value=score, visible_at=answered)

    def _reopen(self, closed: datetime) -> None:
        rng = self._rng
        at = closed + timedelta(milliseconds=rng.randrange(2 * 3_600_000, 96 * 3_600_000))
        at = next_edge(closed, 0.0) if self._edge else at
        self._add("reopened_conversations", at, self._queue, self._agent)
        self._message(at, None)
        replied = self._next_instant(at, 1800.0)
        self._message(replied, self._agent)
        again = self._next_instant(replied, 900.0)
        self._close(again, closed_by="Agent")
        self._handle(again, at)


def next_edge(after: datetime, _typical: float) -> datetime:
    """The next edge on the same side of the full minute; the typical duration has no effect."""
    offset = MILLISECOND if after.microsecond else timedelta()
    whole = after + offset
    midnight = datetime.combine(whole.date(), time(), UTC)
    minute = (whole - midnight) // timedelta(minutes=1)
    following = next((edge for edge in EDGE_MINUTES if edge > minute), 24 * 60)
    return midnight + timedelta(minutes=following) - offset


def _uuid(rng: Random) -> UUID:
    return UUID(int=rng.getrandbits(128), version=4)
