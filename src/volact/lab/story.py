"""``volact lab story kms``: rule K8, played with a real authority, a real KMS host, and machines that call it by HTTPS.

Enough machines are counted and all get a lease; two leave; within a record's lifetime the count is two lower; the
others are refused at each of their tries, and stay Licensed; two new machines join; everything is granted again,
and nobody had to do anything. The machines follow the client's own rules (`lab.simulated`); the host is the program
itself, whose clock is moved from one moment at which something is due to the next, so the story is true to the second.
"""

from __future__ import annotations

import heapq
import itertools
import random
from typing import TYPE_CHECKING, Any, NamedTuple

from volact.commands import when
from volact.lab import machines
from volact.lab.narrating import COUNT_INSUFFICIENT, GRANTED, Narrator, Try
from volact.lab.simulated import Simulated
from volact.lab.wire import HostConnection
from volact.protocol import trust
from volact.protocol.policy import DAY, HOST_DELEGATION_ONLINE, HOUR, MINUTE
from volact.protocol.problems import DocumentRefused, Refusal, Refused, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from volact.lab.handclock import HandClock
    from volact.lab.machines import Checkin
    from volact.lab.narrating import Line
    from volact.lab.site import Site
    from volact.protocol.policy import Policy
    from volact.protocol.trust import Roots

CHANGING = 2
"""How many leave, and how many join."""
FIRST_CALLS_APART = MINUTE
JOINS_APART = 10 * MINUTE
_RETRIES_SEEN = 12
"""For how many retry intervals, at least, every machine is refused before two new ones join."""
_MOST_TRIES = 30_000
_LONGEST_SPREAD = (11, 10)
"""No wait is longer than this many times its interval (K6: +/- 10 %)."""
HOST_HANDLED = 12290
_START, _LOOK, _LEAVE, _SAMPLE = "start", "look", "leave", "sample"


class Plan(NamedTuple):
    """When what is made to happen, in seconds from the first call.

    Attributes:
        fleet: how many machines there are at first: as many as the product requires.
        leave: two of them stop calling.
        join: two new ones call for the first time.
        end: the last look.
    """

    fleet: int
    leave: int
    join: int
    end: int


def plan(policy: Policy, edition: str, days: int) -> Plan:
    """The story's plan under a policy.

    Everybody has renewed once when two leave, and everybody has been refused for a while when two join.

    Raises:
        UsageError: if the story cannot be played with this policy, or not in so many days.
    """
    fleet = _required(policy, edition)
    if fleet <= CHANGING:
        raise UsageError(f"The threshold is {fleet}: when two leave nobody is left.", "Take a higher one.")
    if policy.threshold_applies_to != "both":
        raise UsageError("Renewals are not refused under this policy.", 'Set threshold_applies_to = "both".')
    if policy.strong_count:
        raise UsageError("Under a strong count made-up machines do not count.", "Set strong_count = false.")
    leave = _whole(policy.renewal * 3 // 2)
    join = _whole(
        leave + policy.record_lifetime + _longest(policy.renewal) + _RETRIES_SEEN * policy.retry, up=True
    )
    recovered = join + CHANGING * JOINS_APART + _longest(policy.retry) + _longest(policy.renewal)
    least = -(-recovered // DAY)
    most = (HOST_DELEGATION_ONLINE - DAY) // DAY
    if not least <= days <= most:
        raise UsageError(
            f"Under this policy the story takes {least} days at least; a host's delegation allows {most}.",
            "Give --days between the two, or another policy.",
        )
    tries = fleet * (join - leave - policy.record_lifetime) // policy.retry
    if tries > _MOST_TRIES:
        raise UsageError(f"Under this policy there would be {tries} tries.", "Take a longer retry interval.")
    return Plan(fleet, leave, join, days * DAY)


def _required(policy: Policy, edition: str) -> int:
    """How many machines of the product's own edition reach a threshold (K1: a server is a machine too)."""
    counted = ("machines", "servers") if edition == "server" else ("machines",)
    minima = [threshold.minimum for threshold in policy.thresholds if threshold.counted in counted]
    if not minima:
        raise UsageError("Machines of this product never reach its threshold.", "Take one of machines.")
    return min(minima)


def _longest(interval: int) -> int:
    return interval * _LONGEST_SPREAD[0] // _LONGEST_SPREAD[1]


def _whole(seconds: int, *, up: bool = False) -> int:
    """The nearest whole day below (or hour above), which reads better; unchanged if that is nothing."""
    if up:
        return -(-seconds // HOUR) * HOUR
    return seconds - seconds % DAY if seconds >= DAY else seconds


class Kms:
    """The story while it is played.

    Attributes:
        plan: what is made to happen when.
        tries: every check-in and its answer.
        sampled: what the host itself said that it counts, by seconds from the first call.
        host_events: how many events 12290 the host logged of each result, read at the end.
        lines: what was told so far.
    """

    def __init__(
        self, site: Site, clock: HandClock, plan_: Plan, say: Callable[[Line], None], seed: int
    ) -> None:
        """Play at `site`, beginning now by its `clock`; the spread of the tries follows from `seed`."""
        self.plan = plan_
        self.tries: list[Try] = []
        self.sampled: dict[int, int] = {}
        self.host_events: dict[str, int] = {}
        self.start = clock.now
        self._site, self._clock = site, clock
        self._chance = random.Random(seed)
        self._facts_seed = machines.new_seed()
        self._present: dict[int, Simulated] = {}
        self._last_contact: dict[int, int] = {}
        self._due: list[tuple[int, int, int, str, int]] = []
        self._order = itertools.count()
        self._connection: HostConnection
        policy = site.product.policy
        self._narrator = Narrator(say, self._present, policy, fleet=plan_.fleet, start=self.start)

    @property
    def lines(self) -> list[Line]:
        """What was told so far."""
        return self._narrator.lines

    def play(self) -> None:
        """Live through all of it.

        Raises:
            Refused: a refusal that has no place in the story.
            Unreachable: if the host cannot be reached, or proves nothing.
        """
        for number in range(1, self.plan.fleet + 1):
            self._at((number - 1) * FIRST_CALLS_APART, _START, number)
        self._at(self.plan.leave, _LEAVE)
        for number in range(CHANGING):
            self._at(self.plan.join + number * JOINS_APART, _START, self.plan.fleet + 1 + number)
        for at in range(HOUR, self.plan.end + 1, HOUR):
            self._at(at, _SAMPLE)
        with HostConnection(self._site.address, self._site.pub) as self._connection:
            while self._due and self._due[0][0] <= self.plan.end:
                at, _, _, what, number = heapq.heappop(self._due)
                self._clock.move(self.start + at)
                self._happen(at, what, number)
        self.host_events = self._host_events()
        logged = self.host_events.get(COUNT_INSUFFICIENT, 0)
        self._narrator.end(self.plan.end, self.sampled[self.plan.end], logged)

    def _at(self, at: int, what: str, number: int = 0) -> None:
        """Have something happen at a moment; of all that happens then, samples are taken last."""
        heapq.heappush(self._due, (at, what == _SAMPLE, next(self._order), what, number))

    def _happen(self, at: int, what: str, number: int) -> None:
        if what == _START:
            machine = machines.make(number, self._facts_seed, self._site.product)
            self._present[number] = Simulated(machine, self.start + at, self._chance)
            self._look(at, number)
        elif what == _LOOK:
            self._look(at, number)
        elif what == _LEAVE:
            self._leave(at)
        else:
            self.sampled[at] = self._site.count()
            self._narrator.sampled(at, self.sampled[at])

    def _leave(self, at: int) -> None:
        """The first and the last machine call no more; the host is asked for its count when their records go."""
        for number in (min(self._present), max(self._present)):
            gone = self._last_contact[number] + self._site.product.policy.record_lifetime
            self._at(gone - 1, _SAMPLE)
            self._at(gone, _SAMPLE)
            self._narrator.leaves(at, number, gone)
            del self._present[number]

    def _look(self, at: int, number: int) -> None:
        """What the machine's service does when it looks: ask the host, or go on waiting."""
        one = self._present.get(number)
        if one is None:
            return  # it has left
        now = self.start + at
        if one.next_look(now) <= now:
            self._ask(at, number, one)
        self._at(one.next_look(now) - self.start, _LOOK, number)

    def _ask(self, at: int, number: int, one: Simulated) -> None:
        now = self.start + at
        host = self._connection.prove()
        before = one.licence(now)
        minutes = max(0, before.end - now) // MINUTE if before.end is not None else 0
        checkin = one.machine.checkin(host.nonce, host.host_id, now, state=before.state, minutes=minutes)
        answer = self._connection.lease(checkin.body)
        self._last_contact[number] = at
        if isinstance(answer, Refusal):
            if answer.code != COUNT_INSUFFICIENT:
                raise Refused(answer)
            one.refused(answer, now)
            told = Try(at, number, answer.code, dict(answer.extra)["count"], one.licence(now).state)
        else:
            claims = verified(answer, checkin, host.roots)
            one.granted(claims, now)
            told = Try(at, number, GRANTED, claims["cnt"], one.licence(now).state)
        self.tries.append(told)
        self._narrator.asked(told, one)

    def document(self) -> dict[str, Any]:
        """Everything that happened, as JSON-ready members; times in seconds from the first call."""
        return {
            "start": when(self.start),
            "publisher": self._site.pub,
            "product": self._site.product.name,
            "host": str(self._site.address),
            "plan": self.plan._asdict(),
            "policy": self._site.product.policy._asdict()
            | {"thresholds": [one._asdict() for one in self._site.product.policy.thresholds]},
            "timeline": [line.document() for line in self.lines],
            "tries": [one.document() for one in self.tries],
            "hourly": [self.sampled[at] for at in range(HOUR, self.plan.end + 1, HOUR)],
            "samples": [{"at": at, "count": count} for at, count in sorted(self.sampled.items())],
            "host_events": self.host_events,
        }

    def _host_events(self) -> dict[str, int]:
        """How many of the host's events 12290 there are of each result: one for each request (rule E, K8)."""
        found: dict[str, int] = {}
        for event in self._site.events(self.start):
            if event["event"] == HOST_HANDLED:
                found[event["result"]] = found.get(event["result"], 0) + 1
        return found


def verified(bundle: dict[str, Any], checkin: Checkin, roots: Roots) -> dict[str, Any]:
    """The claims of a lease that answers `checkin`, verified to the root.

    Raises:
        DocumentRefused: if it is none.
    """
    claims = trust.take_up(trust.verify(bundle, "lease", roots)).document.claims
    if not checkin.is_answered_by(claims):
        raise DocumentRefused("lease: not the answer to its check-in")
    return claims
