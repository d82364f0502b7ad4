"""The story of the simulated support centre: how its agents, queues and weeks differ.

Chapters of four weeks follow each other, so any five weeks have all of it. In the first week of a
chapter a new agent begins, who is slow and leaves customers unhappy, but less so every week, and
Ane changes her surname. In the third week damaged goods reach the customers: "Returns & refunds"
gets three times as many conversations, most of them with the tag "damaged", and falls behind. This
queue is the weakest in other weeks too. At weekends few agents work.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from functools import lru_cache
from random import Random

from dixa_assets.simulator.people import AGENTS, QUEUES, TAGS
from dixa_assets.simulator.values import Named

ANE = AGENTS[1]
REGULARS, BEGINNERS = AGENTS[:9], AGENTS[9:]
ORDERS, RETURNS, BILLING, TECHNICAL, VIP, OVERFLOW = QUEUES
LATE, DAMAGED, REFUND, INVOICE, LOGIN, PRAISE, COMPLAINT, B2B, SIZE, BUG = TAGS
QUEUE_WEIGHTS: Mapping[Named | None, int] = {
    **{ORDERS: 32, RETURNS: 20, BILLING: 15, TECHNICAL: 15, VIP: 5, OVERFLOW: 5},
    None: 8,
}
TOPICS: Mapping[Named | None, Sequence[Named]] = {
    ORDERS: (LATE, SIZE, DAMAGED),
    RETURNS: (REFUND, SIZE),
    BILLING: (INVOICE, REFUND),
    TECHNICAL: (LOGIN, BUG),
    VIP: (B2B, INVOICE, LATE),
}


def _chapter(day: date) -> tuple[int, int]:
    """The number of the chapter, and the week in it from 0 to 3. A week begins on Monday."""
    return divmod((day.toordinal() + 6) // 7, 4)


def is_bad_week(day: date) -> bool:
    """Whether damaged goods reach the customers."""
    return _chapter(day)[1] == 2


@lru_cache(1000)
def agents(day: date) -> tuple[Named, ...]:
    """Every agent who has ever worked here, under the names that they have on a day."""
    renamed = replace(ANE, label="Ane Berg") if _chapter(day)[0] % 2 else ANE
    return tuple(renamed if agent == ANE else agent for agent in AGENTS)


@lru_cache(1000)
def on_duty(day: date) -> tuple[Named, ...]:
    """The agents who work on a day: the regular ones and one beginner, in turns."""
    beginner = len(REGULARS) + _chapter(day)[0] % len(BEGINNERS)
    numbers = (*range(len(REGULARS)), beginner)
    is_weekend = day.weekday() > 4
    return tuple(
        agents(day)[number]
        for turn, number in enumerate(numbers)
        if ((turn + day.weekday()) % 5 == 0) == is_weekend
    )


def volume(day: date) -> float:
    """The number of new conversations, as a multiple of the usual one."""
    return 1.3 if is_bad_week(day) else 1.0


def queue(rng: Random, day: date) -> Named | None:
    """The queue of a new conversation; a few have none."""
    weights = dict(QUEUE_WEIGHTS)
    if is_bad_week(day):
        weights[RETURNS] *= 4
    return rng.choices([*weights], [*weights.values()])[0]


def tags(rng: Random, queue: Named | None, day: date) -> list[Named]:
    """The tags of a conversation, which tell what it is about."""
    topics = (*TOPICS.get(queue, ()), PRAISE, COMPLAINT)
    found = rng.sample(topics, k=rng.choice((0, 0, 1, 1, 2)))
    if queue == RETURNS and is_bad_week(day) and rng.random() < 0.8:
        found.append(DAMAGED)
    return found


def delay(queue: Named | None, day: date) -> float:
    """The wait for an agent, as a multiple of the usual one."""
    if queue != RETURNS:
        return 1.0
    return 8.0 if is_bad_week(day) else 1.5


def slowness(agent: Named, day: date) -> float:
    """The time that an agent takes, as a multiple of the usual one."""
    return 2.2 - _chapter(day)[1] * 0.3 if _is_beginner(agent) else 1.0


def satisfaction(agent: Named | None, queue: Named | None, day: date) -> float:
    """The probability that a customer is satisfied."""
    share = 0.9
    if agent and _is_beginner(agent):
        share -= 0.2 - _chapter(day)[1] * 0.04
    elif agent:
        # Every agent is a little different.
        share += 0.06 - 0.015 * _number(agent)
    if queue == RETURNS:
        share -= 0.4 if is_bad_week(day) else 0.08
    return share


def _is_beginner(agent: Named) -> bool:
    return _number(agent) >= len(REGULARS)


@lru_cache(100)
def _number(agent: Named) -> int:
    return [other.id for other in AGENTS].index(agent.id)
