"""The marts, computed in pandas from the events of the simulator.

It knows the definitions of the marts and none of their SQL. Periods and parts are loops, figures
are pandas; speed does not matter here.
"""

import calendar
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd

from dixa_assets.simulator.people import AGENTS, QUEUES, TAGS
from dixa_assets.simulator.values import Choice, Moment, Named
from dixa_assets.simulator.world import World
from dixa_assets.warehouse.warehouse import Warehouse
from dixa_assets_tests.support.scenario import midnight
from dixa_assets_tests.support.truth import period_of

Cells = dict[str, Any]
Days = Sequence[date]
NAMES: Mapping[str | None, str] = {one.id: one.label for one in (*AGENTS, *QUEUES)}
HOUR = timedelta(hours=1)
# The fields of each record that the marts use. The first one names the conversation.
FIELDS = {
    "created_conversations": "csid initial_channel_label initial_direction_label queue_id "
    "requester_id language",
    "closed_conversations": "conversation_id agent_id queue_id closed_by initial_channel_label "
    "initial_direction_label tags_label",
    "ratings": "conversation_id agent_id queue_id value answered_at comment",
    "nps_ratings": "conversation_id agent_id queue_id value",
    "first_response_time": "csid agent_id queue_id value channel_label is_within_sla",
    "conversation_assignments": "csid agent_id queue_id value is_accepted",
    "handling_time": "csid agent_id queue_id value",
    "messages_sent": "csid agent_id channel_label author_type",
    "transferred_conversations": "csid agent_id from_queue_id to_queue_id",
    "tagged_conversations": "csid tag_id",
    "agent_presence": "agent_id started_at is_working value",
}
CREATED, CLOSED, RATINGS, NPS, REPLIES, OFFERS, HANDLING, MESSAGES, TRANSFERS, TAGGED, PRESENCE = (
    FIELDS
)
# The columns that identify a row of a mart.
KEYS = {
    "days": "day",
    "agents": "agent_id",
    "queues": "queue_id",
    "conversations": "conversation_id",
    "satisfaction": "conversation_id offered_at",
    "overview_daily": "day",
    "overview_weekly": "week",
    "overview_monthly": "month",
    "channels_weekly": "week channel",
    "queues_weekly": "week queue_id",
    "agents_weekly": "week agent_id",
    "hours": "hour_start channel",
    "staffing": "hour_start",
    "backlog_daily": "day",
    "tags_weekly": "week tag_id",
    "transfers_weekly": "week from_queue_id to_queue_id",
    "rating_delay": "days_late",
}


def differences(warehouse: Warehouse, oracle: "Oracle") -> tuple[list[Any], int]:
    """Every cell of every mart that differs from the oracle's, and the number of cells."""
    differing: list[Any] = []
    compared = 0
    with warehouse.reading() as query:
        found_marts = {
            row.view_name
            for row in query(
                "SELECT view_name FROM duckdb_views() WHERE schema_name = 'dixa_marts'"
            )
        }
        if found_marts != {*oracle.marts, "revisions"}:
            differing.append(("marts", found_marts ^ {*oracle.marts, "revisions"}))
        for mart in found_marts & oracle.marts.keys():
            rows = [row._asdict() for row in query(f"FROM dixa_marts.{mart}")]
            found = _by_key(mart, rows)
            expected = _by_key(mart, [*oracle.marts[mart]()])
            assert len(found) == len(rows), f"{mart}: two rows have one key"
            if missing := found.keys() ^ expected.keys():
                differing.append((mart, "rows", sorted(missing, key=str)[:5]))
            for key in found.keys() & expected.keys():
                for name in found[key].keys() | expected[key].keys():
                    pair = expected[key].get(name, "absent"), found[key].get(name, "absent")
                    compared += 1
                    if not is_equal(*pair):
                        differing.append((mart, key, name, *pair))
    return differing, compared


def _by_key(mart: str, rows: Sequence[Cells]) -> dict[tuple[Any, ...], Cells]:
    return {tuple(row[name] for name in KEYS[mart].split()): row for row in rows}


def is_equal(expected: Any, found: Any) -> bool:
    if expected is None or (isinstance(expected, float) and math.isnan(expected)):
        return found is None
    if isinstance(expected, float):
        return found is not None and math.isclose(expected, found, rel_tol=1e-9, abs_tol=1e-9)
    return bool(expected == found)


@dataclass
class Oracle:
    """The marts of some loaded days.

    Args:
        world: The simulator's events.
        zone: The zone of the days.
        loaded: The loaded days of each record of the catalogue.
        has_lists: Whether the values of the filters are loaded.
        first_weekday: The first day of a week; 0 is Monday.
    """

    world: World
    zone: str
    loaded: Mapping[str, Days]
    has_lists: bool = True
    first_weekday: int = 0

    @cached_property
    def marts(self) -> dict[str, Callable[[], Iterator[Cells]]]:
        """The marts that the records suffice for."""
        has = self.loaded.keys()
        made: dict[str, Callable[[], Iterator[Cells]]] = {
            "days": self.loaded_days,
            "agents": lambda: self.people("agent", AGENTS),
            "queues": lambda: self.people("queue", QUEUES),
            "conversations": lambda: iter(self.conversations.values()),
            "overview_daily": lambda: self.overview("day"),
            "overview_weekly": lambda: self.overview("week"),
            "overview_monthly": lambda: self.overview("month"),
            "queues_weekly": self.queues_weekly,
            "agents_weekly": self.agents_weekly,
        }
        if RATINGS in has:
            made |= {"satisfaction": self.satisfaction, "rating_delay": self.rating_delay}
        if CREATED in has:
            made |= {"channels_weekly": self.channels_weekly, "hours": self.hours}
        if {CREATED, CLOSED} <= has:
            made["backlog_daily"] = self.backlog_daily
        if PRESENCE in has:
            made["staffing"] = self.staffing
        if TAGGED in has:
            made["tags_weekly"] = self.tags_weekly
        if TRANSFERS in has:
            made["transfers_weekly"] = self.transfers_weekly
        return made

    # Events.

    @cached_property
    def days(self) -> list[date]:
        """Every loaded day."""
        return sorted({day for days in self.loaded.values() for day in days})

    @cached_property
    def events(self) -> dict[str, pd.DataFrame]:
        """The loaded events of each record; none for a record outside of the catalogue."""
        frames = {}
        for record, fields in FIELDS.items():
            rows = [
                {"day": day, "at": row.at, "value": row.value} | _fields(row)
                for day in self.loaded.get(record, ())
                for row in self.world.rows(record, **period_of(day, self.zone))
            ]
            names = ["day", "at", *fields.split()]
            frame = pd.DataFrame(rows, columns=list(dict.fromkeys(names)), dtype=object)
            frame["conversation_id"] = frame.get("conversation_id", frame.get("csid"))
            frames[record] = frame.sort_values("at", kind="stable", ignore_index=True)
        return frames

    def of(self, record: str, days: Days, **equal: Any) -> pd.DataFrame:
        """The events of a record on some days whose columns have these values; None is NULL."""
        frame = self.events[record]
        frame = frame[frame.day.isin(days)]
        for name, value in equal.items():
            frame = frame[frame[name].isna() if value is None else frame[name] == value]
        return frame

    def zero(self, record: str, days: Days, count: float) -> float | None:
        """A count, or None if the record is loaded on none of the days."""
        return count if {*days} & {*self.loaded.get(record, ())} else None

    # Calendar.

    def first_of(self, period: str, day: date) -> date:
        """The first day of the day's period."""
        if period == "week":
            return day - timedelta(days=(day.weekday() - self.first_weekday) % 7)
        return day.replace(day=1) if period == "month" else day

    def periods(self, period: str) -> Iterator[tuple[date, list[date]]]:
        """Each period with its loaded days."""
        for first in sorted({self.first_of(period, day) for day in self.days}):
            yield first, [day for day in self.days if self.first_of(period, day) == first]

    def is_whole(self, period: str, first: date, *records: str) -> bool:
        """Whether all days of the period are loaded for the records that the catalogue has."""
        length = {"day": 1, "week": 7}.get(period, calendar.monthrange(first.year, first.month)[1])
        wanted = {first + timedelta(days=number) for number in range(length)}
        sets = [{*self.loaded[record]} for record in records if record in self.loaded]
        return all(wanted <= days for days in [{*self.days}, *sets])

    def local(self, at: datetime) -> datetime:
        """The local time of an instant, without a zone."""
        return at.astimezone(ZoneInfo(self.zone)).replace(tzinfo=None)

    def ends(self, day: date) -> tuple[datetime, datetime]:
        """The first instant of a day and the first one after it."""
        return midnight(day, self.zone), midnight(day + timedelta(days=1), self.zone)

    def loaded_days(self) -> Iterator[Cells]:
        for day in self.days:
            start, end = self.ends(day)
            week, month = self.first_of("week", day), self.first_of("month", day)
            yield {
                "day": day,
                "week": week,
                "month": month,
                "weekday": day.isoweekday(),
                "starts_at": start,
                "ends_at": end,
                "hours": (end - start) / HOUR,
                "is_whole_week": self.is_whole("week", week),
                "is_whole_month": self.is_whole("month", month),
                "records": sorted(name for name, days in self.loaded.items() if day in days),
            }

    # Agents and queues. Nobody is renamed in these events.

    def seen(self, kind: str) -> dict[str, list[date]]:
        """The days on which each agent or queue is in an event."""
        columns = {"agent": ["agent_id"], "queue": ["queue_id", "from_queue_id", "to_queue_id"]}
        found: dict[str, list[date]] = {}
        for record, frame in self.events.items():
            for name in columns[kind] if record != TAGGED else ():
                if name in frame:
                    for day, who in zip(frame.day, frame[name], strict=True):
                        if who is not None:
                            found.setdefault(who, []).append(day)
        return found

    def people(self, kind: str, everyone: Sequence[Named]) -> Iterator[Cells]:
        seen = self.seen(kind)
        for one in everyone:
            if one.id in seen or self.has_lists:
                yield {
                    f"{kind}_id": one.id,
                    kind: one.label,
                    "former_names": [],
                    "is_listed": True if self.has_lists else None,
                    "first_day": min(seen.get(one.id, []), default=None),
                    "last_day": max(seen.get(one.id, []), default=None),
                }

    # Conversations.

    @cached_property
    def conversations(self) -> dict[int, Cells]:
        by_id = {
            record: dict(iter(frame.groupby("conversation_id")))
            for record, frame in self.events.items()
            if record != PRESENCE
        }
        ids = by_id[CREATED].keys() | by_id[CLOSED].keys()
        return {csid: self.conversation(csid, by_id) for csid in ids}

    def conversation(self, csid: int, by_id: Mapping[str, Mapping[int, pd.DataFrame]]) -> Cells:
        def of(record: str) -> pd.DataFrame:
            return by_id[record].get(csid, self.events[record].iloc[:0])

        def count(record: str, frame: pd.DataFrame) -> int | None:
            return len(frame) if len(of(record)) or day in self.loaded.get(record, ()) else None

        created, closed = first(of(CREATED)), of(CLOSED)
        shut, last = first(closed), first(closed.iloc[::-1])
        reply, offers = first(of(REPLIES)), of(OFFERS)
        accepted, messages = offers[offers.is_accepted.eq(True)], of(MESSAGES)
        by_agent = messages.author_type == "AGENT"
        rated, handled = of(RATINGS), of(HANDLING)
        day = created.get("day") or shut["day"]
        begun = created.get("at")
        channels = (created, shut, reply, first(messages))
        labels = [each.get("initial_channel_label", each.get("channel_label")) for each in channels]
        counts = {
            "closings": count(CLOSED, closed),
            "transfers": count(TRANSFERS, of(TRANSFERS)),
            "agent_messages": count(MESSAGES, messages[by_agent]),
        }
        touches = [counts[name] for name in ("closings", "agent_messages", "transfers")]
        wrong = [n is not None and n != wish for n, wish in zip(touches, (1, 1, 0), strict=True)]
        return {
            "conversation_id": csid,
            "is_whole": begun is not None,
            "created_at": begun,
            "created_day": created.get("day"),
            "created_week": self.first_of("week", created["day"]) if created else None,
            "channel": next((label for label in labels if label), None),
            "direction": (created or shut)["initial_direction_label"],
            "language": created.get("language"),
            "customer_id": created.get("requester_id"),
            **named("first_queue", created),
            **named("last_queue", last),
            "first_response_at": reply.get("at"),
            "first_response_seconds": reply.get("value"),
            "is_within_sla": reply.get("is_within_sla"),
            **named("first_agent", reply),
            "wait_seconds": first(accepted).get("value"),
            "first_closed_at": shut.get("at"),
            "first_closed_day": shut.get("day"),
            "last_closed_at": last.get("at"),
            "last_closed_day": last.get("day"),
            "last_closed_week": self.first_of("week", last["day"]) if last else None,
            "first_resolution_seconds": seconds(begun, shut.get("at")),
            "resolution_seconds": seconds(begun, last.get("at")),
            "closed_by": last.get("closed_by"),
            **named("last_agent", last),
            "tags": last.get("tags_label"),
            "offers": count(OFFERS, offers),
            "acceptances": count(OFFERS, accepted),
            "agents": None if count(OFFERS, offers) is None else accepted.agent_id.nunique(),
            **counts,
            "handling_seconds": float(handled.value.sum()) if len(handled) else None,
            "customer_messages": count(MESSAGES, messages[~by_agent]),
            "answers": count(RATINGS, rated),
            "last_score": first(rated.iloc[::-1]).get("value"),
            "is_one_touch": False if any(wrong) else (None if None in touches else True),
        }

    def channel_of(self, record: str, days: Days) -> pd.DataFrame:
        """The events of some days, with the channel of their conversation."""
        frame = self.of(record, days)
        known = {csid: each["channel"] for csid, each in self.conversations.items()}
        return frame.assign(channel=[known.get(csid) or "none" for csid in frame.conversation_id])

    def satisfaction(self) -> Iterator[Cells]:
        for row in self.events[RATINGS].to_dict("records"):
            about = self.conversations.get(row["conversation_id"], {})
            answered_day = self.local(row["answered_at"]).date()
            yield {
                "conversation_id": row["conversation_id"],
                "day": row["day"],
                "week": self.first_of("week", row["day"]),
                "month": self.first_of("month", row["day"]),
                "score": row["value"],
                "is_satisfied": row["value"] in (4, 5),
                "offered_at": row["at"],
                "answered_at": row["answered_at"],
                "answered_day": answered_day,
                "days_late": (answered_day - row["day"]).days,
                "agent": NAMES.get(row["agent_id"]),
                "queue": NAMES.get(row["queue_id"]),
                **{name: row[name] for name in ("agent_id", "queue_id", "comment")},
                **{
                    name: about.get(name)
                    for name in ("channel", "first_response_seconds", "transfers", "tags")
                },
            }

    def rating_delay(self) -> Iterator[Cells]:
        late = [(row["day"], row["days_late"]) for row in self.satisfaction()]
        longest, last = max(n for _, n in late), max(self.loaded[RATINGS])
        ripe = [n for day, n in late if (last - day).days >= longest]
        for number in range(longest + 1):
            share = sum(n <= number for n in ripe) / len(ripe) if ripe else None
            arrived = None if share is None else 100 * share
            yield {"days_late": number, "answers": ripe.count(number), "arrived": arrived}

    # Periods.

    def overview(self, period: str) -> Iterator[Cells]:
        order = self.events[CLOSED].groupby("conversation_id").cumcount()
        records = [name for name in FIELDS if name != TAGGED]
        for start, days in self.periods(period):
            created, closed = self.of(CREATED, days), self.of(CLOSED, days)
            rated, nps, offers = (self.of(name, days) for name in (RATINGS, NPS, OFFERS))
            messages, presence = self.of(MESSAGES, days), self.of(PRESENCE, days)
            working = presence[presence.is_working.eq(True)]
            again = self.zero(CLOSED, days, int(order[closed.index].gt(0).sum()))
            new, shut = self.zero(CREATED, days, len(created)), self.zero(CLOSED, days, len(closed))
            answers, low, high = self.zero(RATINGS, days, len(rated)), *wilson(rated.value >= 4)
            accepted = offers[offers.is_accepted.eq(True)]
            yield {
                period: start,
                "days": len(days),
                "is_whole": self.is_whole(period, start, *records),
                "created": new,
                "closed": shut,
                "conversations_closed": self.zero(CLOSED, days, closed.conversation_id.nunique()),
                "closed_again": again,
                "net_new": None if None in (new, shut, again) else new - (shut - again),
                "answers": answers,
                "csat": percent(rated.value >= 4),
                "csat_low": low,
                "csat_high": high,
                "score": mean(rated.value),
                "answers_per_100_closings": 100 * answers / shut
                if answers is not None and shut
                else None,
                "nps": None if nps.empty else percent(nps.value >= 9) - percent(nps.value <= 6),
                "nps_answers": self.zero(NPS, days, len(nps)),
                **self.replies(self.of(REPLIES, days), days),
                "offers": self.zero(OFFERS, days, len(offers)),
                "acceptance": percent(offers.is_accepted.eq(True)),
                "wait_average": mean(accepted.value),
                "wait_p90": p90(accepted.value),
                **self.handling(self.of(HANDLING, days), days),
                "transfers": self.zero(TRANSFERS, days, len(self.of(TRANSFERS, days))),
                "messages": self.zero(MESSAGES, days, len(messages)),
                "agent_messages": self.zero(
                    MESSAGES, days, int((messages.author_type == "AGENT").sum())
                ),
                "customers": self.zero(CREATED, days, created.requester_id.nunique()),
                "agents": self.zero(PRESENCE, days, working.agent_id.nunique()),
                "working_hours": self.zero(PRESENCE, days, working.value.sum() / 3600),
            }

    def replies(self, frame: pd.DataFrame, days: Days) -> Cells:
        return {
            "first_responses": self.zero(REPLIES, days, len(frame)),
            "first_response_average": mean(frame.value),
            "first_response_median": median(frame.value),
            "first_response_p90": p90(frame.value),
            "within_sla": percent(frame.is_within_sla.eq(True)),
        }

    def handling(self, frame: pd.DataFrame, days: Days) -> Cells:
        return {
            "handling_average": mean(frame.value),
            "handling_median": median(frame.value),
            "handling_p90": p90(frame.value),
            "handling_hours": self.zero(HANDLING, days, frame.value.sum() / 3600),
        }

    def answers(self, frame: pd.DataFrame, days: Days) -> Cells:
        return {
            "answers": self.zero(RATINGS, days, len(frame)),
            "satisfied": self.zero(RATINGS, days, int((frame.value >= 4).sum())),
            "csat": percent(frame.value >= 4),
        }

    def channels_weekly(self) -> Iterator[Cells]:
        known = {each["channel"] for each in self.conversations.values()} - {None}
        records = (CREATED, CLOSED, RATINGS, REPLIES, HANDLING)
        for week, days in self.periods("week"):
            frames = {record: self.channel_of(record, days) for record in records}
            for channel in (*known, "none"):
                own = {name: each[each.channel == channel] for name, each in frames.items()}
                closed = own[CLOSED]
                yield {
                    "week": week,
                    "is_whole": self.is_whole("week", week, *records),
                    "channel": channel,
                    "created": self.zero(CREATED, days, len(own[CREATED])),
                    "closed": self.zero(CLOSED, days, len(closed)),
                    "conversations_closed": self.zero(
                        CLOSED, days, closed.conversation_id.nunique()
                    ),
                    **self.answers(own[RATINGS], days),
                    **self.replies(own[REPLIES], days),
                    "handled": self.zero(HANDLING, days, len(own[HANDLING])),
                    **self.handling(own[HANDLING], days),
                }

    def queues_weekly(self) -> Iterator[Cells]:
        records = (CREATED, CLOSED, RATINGS, REPLIES, HANDLING, OFFERS, TRANSFERS)
        queues = [(row["queue_id"], row["queue"]) for row in self.people("queue", QUEUES)]
        for week, days in self.periods("week"):
            moved = self.of(TRANSFERS, days)
            moved = moved[moved.from_queue_id.fillna("") != moved.to_queue_id.fillna("")]
            for queue_id, queue in (*queues, (None, "none")):
                own = {
                    record: self.of(record, days, queue_id=queue_id)
                    for record in records
                    if record != TRANSFERS
                }
                offers = own[OFFERS]
                handling = self.handling(own[HANDLING], days)
                del handling["handling_p90"]
                source, target = (
                    moved[name].isna() if queue_id is None else moved[name] == queue_id
                    for name in ("from_queue_id", "to_queue_id")
                )
                yield {
                    "week": week,
                    "is_whole": self.is_whole("week", week, *records),
                    "queue_id": queue_id,
                    "queue": queue,
                    "created": self.zero(CREATED, days, len(own[CREATED])),
                    "closed": self.zero(CLOSED, days, len(own[CLOSED])),
                    **self.answers(own[RATINGS], days),
                    **self.replies(own[REPLIES], days),
                    **handling,
                    "offers": self.zero(OFFERS, days, len(offers)),
                    "acceptance": percent(offers.is_accepted.eq(True)),
                    "wait_average": mean(offers[offers.is_accepted.eq(True)].value),
                    "passed_on": self.zero(TRANSFERS, days, int(source.sum())),
                    "received": self.zero(TRANSFERS, days, int(target.sum())),
                }

    def agents_weekly(self) -> Iterator[Cells]:
        agents = [*self.people("agent", AGENTS)]
        records = [name for name in FIELDS if name not in (CREATED, NPS, TAGGED)]
        for week, days in self.periods("week"):
            known = [each for each in agents if (each["first_day"] or days[0]) <= days[-1]]
            for agent in (*known, {"agent_id": None, "agent": "none"}):
                own = {name: self.of(name, days, agent_id=agent["agent_id"]) for name in records}
                closed, offers, presence = own[CLOSED], own[OFFERS], own[PRESENCE]
                written = own[MESSAGES][own[MESSAGES].author_type == "AGENT"]
                working = presence[presence.is_working.eq(True)]
                accepted = int(offers.is_accepted.eq(True).sum())
                handling = self.handling(own[HANDLING], days)
                del handling["handling_p90"]
                yield {
                    "week": week,
                    "is_whole": self.is_whole("week", week, *records),
                    "agent_id": agent["agent_id"],
                    "agent": agent["agent"],
                    "closed": self.zero(CLOSED, days, len(closed)),
                    "closed_by_agent": self.zero(
                        CLOSED, days, int((closed.closed_by == "Agent").sum())
                    ),
                    **self.answers(own[RATINGS], days),
                    "first_responses": self.zero(REPLIES, days, len(own[REPLIES])),
                    "first_response_median": median(own[REPLIES].value),
                    "offers": self.zero(OFFERS, days, len(offers)),
                    "accepted": self.zero(OFFERS, days, accepted),
                    "acceptance": percent(offers.is_accepted.eq(True)),
                    "handled": self.zero(HANDLING, days, len(own[HANDLING])),
                    **handling,
                    "messages": self.zero(MESSAGES, days, len(written)),
                    "transfers": self.zero(TRANSFERS, days, len(own[TRANSFERS])),
                    "working_hours": self.zero(PRESENCE, days, working.value.sum() / 3600),
                    "present_hours": self.zero(PRESENCE, days, presence.value.sum() / 3600),
                    "days_worked": self.zero(PRESENCE, days, working.day.nunique()),
                }

    def tags_weekly(self) -> Iterator[Cells]:
        used = {*self.events[TAGGED].tag_id}
        for week, days in self.periods("week"):
            tagged = self.of(TAGGED, days)
            total = tagged.conversation_id.nunique()
            for tag in TAGS:
                if tag.id in used or self.has_lists:
                    number = tagged[tagged.tag_id == tag.id].conversation_id.nunique()
                    yield {
                        "week": week,
                        "is_whole": self.is_whole("week", week, TAGGED),
                        "tag_id": tag.id,
                        "tag": tag.label,
                        "conversations": self.zero(TAGGED, days, number),
                        "share_of_tagged": 100 * number / total if total else None,
                    }

    def transfers_weekly(self) -> Iterator[Cells]:
        names = {one.id: one.label for one in QUEUES} | {None: "none"}
        for week, days in self.periods("week"):
            moved = self.of(TRANSFERS, days)
            for source, target in {*zip(moved.from_queue_id, moved.to_queue_id, strict=True)}:
                own = self.of(TRANSFERS, days, from_queue_id=source, to_queue_id=target)
                yield {
                    "week": week,
                    "is_whole": self.is_whole("week", week, TRANSFERS),
                    "from_queue_id": source,
                    "from_queue": names[source],
                    "to_queue_id": target,
                    "to_queue": names[target],
                    "is_same_queue": source == target,
                    "transfers": len(own),
                    "conversations": own.conversation_id.nunique(),
                }

    def backlog_daily(self) -> Iterator[Cells]:
        firsts = self.events[CLOSED].groupby("conversation_id")["at"].min()
        closings = dict(iter(self.events[CLOSED].groupby("conversation_id")["at"]))
        messages = dict(iter(self.events[MESSAGES].groupby("conversation_id")["at"]))
        for day in self.days:
            end = self.ends(day)[1]
            ages = [
                end - row.at
                for row in self.events[CREATED].itertuples()
                if row.at < end and not firsts.get(row.conversation_id, end) < end
            ]
            again = 0
            for csid, instants in closings.items():
                before = [at for at in instants if at < end]
                later = [at for at in messages.get(csid, ()) if before and before[-1] < at < end]
                again += bool(later)
            has = {name: day in self.loaded.get(name, ()) for name in (CREATED, CLOSED, MESSAGES)}
            both = has[CREATED] and has[CLOSED]
            oldest = max(ages) / HOUR if ages else None
            yield {
                "day": day,
                "not_yet_closed": len(ages) if both else None,
                "older_than_a_day": sum(age > 24 * HOUR for age in ages) if both else None,
                "oldest_hours": oldest if both else None,
                "open_again": again if has[CLOSED] and has[MESSAGES] else None,
                "still_open": len(ages) + again if all(has.values()) else None,
            }

    # Hours.

    def hours_of(self, record: str) -> Iterator[tuple[Cells, datetime, datetime]]:
        """Each hour of each day on which a record is loaded: cells, first and next instant."""
        for day in sorted(self.loaded[record]):
            start, end = self.ends(day)
            while start < end:
                local = self.local(start)
                week = self.first_of("week", day)
                yield (
                    {
                        "hour_start": start,
                        "local_start": local,
                        "hour": local.hour,
                        "weekday": day.isoweekday(),
                        "day": day,
                        "week": week,
                        "month": self.first_of("month", day),
                        "is_whole_week": self.is_whole("week", week),
                    },
                    start,
                    min(start + HOUR, end),
                )
                start += HOUR

    def hours(self) -> Iterator[Cells]:
        created = self.events[CREATED]
        for cells, start, end in self.hours_of(CREATED):
            came = created[(created["at"] >= start) & (created["at"] < end)].initial_channel_label
            for channel in created.initial_channel_label.unique():
                yield cells | {"channel": channel, "created": int((came == channel).sum())}

    def staffing(self) -> Iterator[Cells]:
        presence = self.events[PRESENCE]
        for cells, start, end in self.hours_of(PRESENCE):
            there = presence[(presence["at"] > start) & (presence.started_at < end)]
            cut = [
                (min(row.at, end) - max(row.started_at, start)) / HOUR for row in there.itertuples()
            ]
            is_working = there.is_working.astype(bool).to_numpy()
            hours = pd.Series(cut, dtype=float)
            yield cells | {
                "agents": there[is_working].agent_id.nunique(),
                "working_hours": float(hours[is_working].sum()),
                "other_hours": float(hours[~is_working].sum()),
            }


def _fields(row: Any) -> Cells:
    """The fields of an event, with `<field>_label` for display names."""
    cells: Cells = {}
    for name, value in zip(row.names, row.values, strict=True):
        match value:
            case Named():
                cells |= {name: value.id, f"{name}_label": value.label}
            case Choice():
                cells |= {name: value.value, f"{name}_label": value.label}
            case Moment():
                cells[name] = value.at
            case list() if all(isinstance(each, Named) for each in value):
                cells[f"{name}_label"] = [each.label for each in value]
            case _:
                cells[name] = (
                    value
                    if isinstance(value, bool | int | str | datetime)
                    else (None if value is None else str(value))
                )
    return cells


def named(name: str, row: Cells) -> Cells:
    """The id of an agent or queue in an event, and its name."""
    found = row.get(f"{name.partition('_')[2]}_id")
    return {f"{name}_id": found, name: NAMES.get(found)}


def first(frame: pd.DataFrame) -> Cells:
    """The first row; empty if there is none. NaN becomes None."""
    if frame.empty:
        return {}
    return {
        name: None if value is None or (isinstance(value, float) and math.isnan(value)) else value
        for name, value in frame.iloc[0].items()
    }


def seconds(start: datetime | None, end: datetime | None) -> float | None:
    return (end - start).total_seconds() if start and end else None


def mean(values: "pd.Series[Any]") -> float | None:
    return float(values.dropna().astype(float).mean()) if values.notna().any() else None


def median(values: "pd.Series[Any]") -> float | None:
    return float(values.dropna().astype(float).median()) if values.notna().any() else None


def p90(values: "pd.Series[Any]") -> float | None:
    return float(values.dropna().astype(float).quantile(0.9)) if values.notna().any() else None


def percent(satisfied: "pd.Series[Any]") -> float | None:
    return 100 * float(satisfied.astype(bool).mean()) if len(satisfied) else None


def wilson(satisfied: "pd.Series[Any]") -> tuple[float | None, float | None]:
    """The ends of the 95 % interval of a percentage, after Wilson (1927)."""
    n = len(satisfied)
    if not n:
        return None, None
    z, share = 1.959963984540054, float(satisfied.astype(bool).mean())
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return 100 * (middle - half), 100 * (middle + half)
