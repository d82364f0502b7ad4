"""The data of the demo tell the story that README promises, in any five weeks."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from statistics import median, quantiles

import pytest

from dixa_assets.simulator import story
from dixa_assets.simulator.people import CHAT, EMAIL, HOME, PHONE
from dixa_assets.simulator.values import Row
from dixa_assets.simulator.world import World
from dixa_assets_tests.support.simulator import MILLISECOND

# A Monday on which a chapter begins. The damaged goods arrive two weeks later.
FIRST = date(2025, 10, 6)
BAD = 2
WEEKS = range(5)
Rows = Callable[[str], list[Row]]


@pytest.fixture(scope="module")
def rows() -> Rows:
    """The rows of a record in five weeks of the demo."""
    start = datetime(FIRST.year, FIRST.month, FIRST.day, tzinfo=UTC)
    end = start + timedelta(weeks=len(WEEKS))
    world = World(edge_share=0.02)
    return lambda record: world.rows(record, start=start, end=end, now=end + timedelta(days=9))


def by_week(rows: Sequence[Row]) -> list[list[Row]]:
    weeks: list[list[Row]] = [[] for _ in WEEKS]
    for row in rows:
        weeks[(row.at.date() - FIRST).days // 7].append(row)
    return weeks


def satisfied(ratings: Sequence[Row]) -> float:
    return sum(row.value in (4, 5) for row in ratings) / len(ratings)


def numbers(rows: Sequence[Row]) -> list[float]:
    return [row.value for row in rows if isinstance(row.value, float)]


def test_customers_are_mostly_satisfied(rows: Rows) -> None:
    assert 0.8 <= satisfied(rows("ratings")) < 0.9
    scores = [row.value for row in rows("nps_ratings") if isinstance(row.value, int)]
    promoters, detractors = sum(each >= 9 for each in scores), sum(each <= 6 for each in scores)
    assert 20 < 100 * (promoters - detractors) / len(scores) < 60


def test_phone_and_chat_are_answered_in_minutes_and_mail_in_an_hour(rows: Rows) -> None:
    seconds = defaultdict(list)
    for row in rows("first_response_time"):
        if row.conversation and isinstance(row.value, float):
            seconds[row.conversation.channel].append(row.value)
    phone, chat, mail = (quantiles(seconds[channel], n=10) for channel in (PHONE, CHAT, EMAIL))
    assert 60 < phone[-1] < 600
    assert 60 < chat[-1] < 1200
    assert 1200 < mail[4] < 5400


def test_in_one_week_returns_fall_behind_because_of_damaged_goods(rows: Rows) -> None:
    def of_returns(record: str) -> list[list[Row]]:
        return by_week([row for row in rows(record) if row.queue == story.RETURNS])

    created = [len(week) for week in of_returns("created_conversations")]
    waits = [median(numbers(week)) for week in of_returns("first_response_time")]
    shares = [satisfied(week) for week in of_returns("ratings")]
    damaged = [
        sum(row.field("tag_id") == story.DAMAGED for row in week) / len(week)
        for week in of_returns("tagged_conversations")
    ]
    for week in {*WEEKS} - {BAD}:
        assert created[BAD] > 2 * created[week]
        assert waits[BAD] > 2 * waits[week]
        assert shares[BAD] < shares[week] - 0.1
        assert damaged[BAD] > 0.4 > 0.1 > damaged[week]


def test_returns_are_the_weakest_queue_in_other_weeks_too(rows: Rows) -> None:
    ratings = [
        row for number, week in enumerate(by_week(rows("ratings"))) for row in week if number != BAD
    ]
    returns = [row for row in ratings if row.queue == story.RETURNS]
    assert satisfied(returns) < satisfied([row for row in ratings if row.queue != story.RETURNS])


def test_a_new_agent_begins_and_is_slow_and_another_one_has_a_new_name(rows: Rows) -> None:
    weeks = [{row.agent for row in week if row.agent} for week in by_week(rows("agent_presence"))]
    before, after = ({agent.id for agent in weeks[week]} for week in (3, 4))
    (new,) = after - before
    assert len({agent.label for week in weeks for agent in week if agent.id == story.ANE.id}) == 2
    replies = by_week(rows("handling_time"))[4]
    of_new = [row for row in replies if row.agent and row.agent.id == new]
    others = [row for row in replies if row.agent and row.agent.id != new]
    assert median(numbers(of_new)) > median(numbers(others))


def test_nights_and_weekends_are_quiet(rows: Rows) -> None:
    created = [row.at.astimezone(HOME) for row in rows("created_conversations")]
    assert sum(at.hour < 6 for at in created) < 0.05 * len(created)
    weekends = sum(at.weekday() > 4 for at in created)
    assert weekends / 2 < 0.6 * (len(created) - weekends) / 5
    agents = [len(story.on_duty(FIRST + timedelta(days=number))) for number in range(7)]
    assert max(agents[5:]) <= 3 < 7 <= min(agents[:5])


def test_one_conversation_in_fifty_is_on_an_edge(rows: Rows) -> None:
    created = rows("created_conversations")
    edges = [
        row
        for row in created
        for at in (row.at, row.at + MILLISECOND)
        if (at.minute % 30, at.second, at.microsecond) == (0, 0, 0)
    ]
    assert 0.015 < len(edges) / len(created) < 0.025


def test_any_five_weeks_have_a_whole_bad_week_and_a_new_agent() -> None:
    for start in range(28):
        days = [FIRST + timedelta(days=start + number) for number in range(35)]
        assert sum(story.is_bad_week(day) for day in days) >= 7
        bad = [day for day in days if story.is_bad_week(day)]
        assert any(day.weekday() == 0 and day + timedelta(days=6) in bad for day in bad)
        present = {agent.id for day in days for agent in story.on_duty(day)}
        assert len(present) > len(story.REGULARS) + 1
