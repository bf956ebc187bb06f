"""K8, hour by hour for 54 days, against a count of its own: who called last when, and nothing else."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from databases import Databases
from kmshost.site import Machine, Numbers, Site
from volact.protocol.problems import Refusal
from world import DAY, NOW

HOUR = 3600
DAYS = 54
LEAVE, JOIN = 8, 40
"""The days on which two machines leave, and two join."""


class Caller:
    """A machine that calls when its host has told it to, and what it holds."""

    def __init__(self, machine: Machine, first: int) -> None:
        self.machine = machine
        self.next = first
        self.last = 0
        self.lease_end = 0
        self.refusals: list[int] = []
        self.codes: set[str] = set()

    def take(self, answer: Any, now: int) -> None:
        self.last = now
        if isinstance(answer, Refusal):
            self.codes.add(answer.code)
            self.refusals.append(now)
            self.next = now + dict(answer.extra)["retry"]
        else:
            self.lease_end = answer["exp"]
            self.next = now + answer["ren"]


class Story:
    def __init__(self, site: Site, numbers: Numbers) -> None:
        self.site = site
        self.numbers = numbers
        self.callers = [Caller(site.machine(), NOW + n * HOUR) for n in range(numbers.machines)]
        self.present = list(self.callers)

    def counted(self, now: int) -> int:
        """K4 alone."""
        return sum(now - one.last < self.numbers.lifetime for one in self.callers)

    def hour(self, now: int) -> None:
        self.site.clock.time = now
        due = [one for one in self.present if one.next <= now]
        answers = self.site.ask(*[one.machine.checkin() for one in due])
        for one, answer in zip(due, answers, strict=True):
            one.last = now  # K2: counted before the answer
            count = self.counted(now)
            if count >= self.numbers.machines:
                assert isinstance(answer, dict), (now, count, answer)
                assert answer["exp"] == now + self.numbers.validity
            else:
                assert dict(answer.extra)["count"] == count
                assert dict(answer.extra)["required"] == self.numbers.machines
            one.take(answer, now)
        assert self.site.counts() == (self.counted(now), 0)
        if (now - NOW) % (6 * HOUR) == 0:
            self.site.host.expire()


@pytest.fixture
def site(databases: Databases, tmp_path: Path, numbers: Numbers) -> Iterator[Site]:
    made = Site(databases.sqlite(tmp_path / "kmshost.db"), **numbers.client)
    yield made
    made.close()


def test_k8_two_leave_the_rest_lives_on_two_join_and_all_is_well(site: Site, numbers: Numbers) -> None:
    story = Story(site, numbers)
    leavers = story.callers[:2]
    stay = story.callers[2:]
    joined: list[Caller] = []
    low: list[int] = []
    for now in range(NOW, NOW + DAYS * DAY, HOUR):
        if now == NOW + LEAVE * DAY:
            assert story.counted(now) == numbers.machines
            story.present = list(stay)
        if now == NOW + JOIN * DAY:
            joined = [Caller(site.machine(), now), Caller(site.machine(), now + HOUR)]
            story.callers += joined
            story.present += joined
        story.hour(now)
        if story.counted(now) < numbers.machines and now > NOW + LEAVE * DAY:
            low.append(now)
        if now > NOW + 2 * DAY:
            assert all(one.lease_end > now for one in stay)  # all stay activated, all the time
    # Within 30 days of their leaving (here: of their last call) the count has fallen by two.
    assert max(one.last for one in leavers) <= NOW + LEAVE * DAY
    assert low[0] <= NOW + LEAVE * DAY + numbers.lifetime
    # It is well again with the second one that joins, to the hour.
    assert low[-1] == NOW + JOIN * DAY
    failing = [[at for at in one.refusals if at > NOW + LEAVE * DAY] for one in stay]
    assert all(failing)
    for one in failing:
        gaps = {later - before for before, later in itertools.pairwise(one)}
        assert gaps == {numbers.retry}  # every 2 hours, and nobody sooner or later
        assert one[-1] <= NOW + JOIN * DAY + numbers.retry
    assert {code for one in stay + joined for code in one.codes} == {"count-insufficient"}
    end = NOW + DAYS * DAY
    assert all(one.lease_end > end and one.refusals[-1] < NOW + (JOIN + 1) * DAY for one in stay)
    assert all(one.lease_end > end for one in joined)
    # Each failure is an error event on the host; nothing else is one.
    failures = sum(len(one.refusals) for one in story.callers)
    assert failures == site.count("SELECT COUNT(*) FROM event WHERE result = 'count-insufficient'")
    assert failures == site.count("SELECT SUM(n) FROM tally WHERE outcome = 'count-insufficient'")
    assert site.count("SELECT COUNT(*) FROM event WHERE result NOT IN ('ok', 'count-insufficient')") == 0
    assert site.counts() == (numbers.machines, 0)
