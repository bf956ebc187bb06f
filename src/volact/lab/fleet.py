"""Machines by the thousand against one KMS host of a laboratory: the load generator of bench and tests.

A fleet asks in rounds; in a round each machine asks once. Check-ins are signed before the clock starts, so that what
is timed is the host; a nonce is good for five minutes, so a round of many machines is sent in legs, each under its
own nonce.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from volact.calls import problem_of
from volact.lab import load, machines
from volact.lab.machines import Checkin, LabMachine, Product, claims_of
from volact.lab.wire import HostConnection
from volact.protocol import trust
from volact.protocol.problems import DocumentRefused, Refusal, Refused, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import Self

    from volact.client.address import Address
    from volact.clock import Clock
    from volact.lab.load import Answered, Drive, Leg
    from volact.lab.wire import ProvedHost

SIGNING_LIMIT = 90.0
"""Seconds for which check-ins of one leg are signed."""
SENDING_LIMIT = 180.0
"""Seconds for which they are sent; with the signing inside the five minutes of a nonce."""
FOR_EVER = math.inf
_OK = 200
_NO_HOSTS = ("not-found", "method-not-allowed")
"""What a host never says of the address of its proof."""
_PERCENTILES = (("p50_ms", 50), ("p95_ms", 95), ("p99_ms", 99))


class Effort(NamedTuple):
    """How long a fleet asks: a number of rounds, and no longer than so many seconds of sending."""

    rounds: int | None = 1
    seconds: float = FOR_EVER


class Tally:
    """What came of all check-ins.

    Attributes:
        granted, failed, invalid: how many got a lease; got no answer; got one that is no answer to their ask.
        refused: how many were refused, by code.
        verified: how many leases were verified to the root; 0 unless that was asked for.
        count, required: what the host said last; it counts no further than twice what is required.
        seconds: of sending, signing not included.
        reasons: why some failed or were invalid; the first few.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self.granted = self.failed = self.invalid = self.verified = self.rounds = 0
        self.refused: dict[str, int] = {}
        self.count: int | None = None
        self.required: int | None = None
        self.seconds = self.cpu = 0.0
        self.reasons: list[str] = []
        self.latencies: list[float] = []

    @property
    def answered(self) -> int:
        """How many check-ins were answered, by a lease or a refusal."""
        return self.granted + sum(self.refused.values())

    def document(self) -> dict[str, Any]:
        """The figures, as JSON-ready members."""
        seconds = self.seconds or 1.0
        ordered = sorted(self.latencies)
        return {
            "rounds": self.rounds,
            "requests": self.answered + self.failed + self.invalid,
            "granted": self.granted,
            "refused": dict(sorted(self.refused.items())),
            "failed": self.failed,
            "invalid": self.invalid,
            "verified": self.verified,
            "reasons": self.reasons,
            "count": self.count,
            "required": self.required,
            "seconds": round(self.seconds, 3),
            "per_second": round(self.answered / seconds, 1),
            "granted_per_second": round(self.granted / seconds, 1),
            **{name: _milliseconds(percentile(ordered, part)) for name, part in _PERCENTILES},
            "max_ms": _milliseconds(ordered[-1] if ordered else 0.0),
            "generator_cpu": round(self.cpu / seconds, 2),
        }


def percentile(ordered: Sequence[float], part: int) -> float:
    """The least value that `part` per cent of the ordered values do not exceed (nearest rank); 0 of nothing."""
    return ordered[max(0, math.ceil(part * len(ordered) / 100) - 1)] if ordered else 0.0


def _milliseconds(seconds: float) -> float:
    return round(1000 * seconds, 2)


class Fleet:
    """Made-up machines of one publisher.

    Attributes:
        pub: the publisher's id.
        members: the machines.
    """

    def __init__(self, pub: str, seed: int, members: Sequence[LabMachine]) -> None:
        """Be these machines, whose facts come from `seed`."""
        self.pub = pub
        self.seed = seed
        self.members = list(members)

    @classmethod
    def make(cls, number: int, product: Product, *, server: Product | None = None, servers: int = 0) -> Self:
        """A fleet of `number` new machines; the first `servers` ask for the product `server`, the rest for `product`."""
        fleet = cls(product.pub, machines.new_seed(), [])
        fleet.grow(number, product, server=server, servers=servers)
        return fleet

    @classmethod
    def load(cls, path: Path, products: dict[str, Product]) -> Self:
        """The fleet that `save` wrote.

        Raises:
            BrokenData: as `machines.load` says.
        """
        seed, members = machines.load(path, products)
        return cls(next(iter(products.values())).pub, seed, members)

    def save(self, path: Path) -> None:
        """Write keys and last leases to a file of mode 0600."""
        machines.save(path, self.pub, self.seed, self.members)

    def grow(self, number: int, product: Product, *, server: Product | None = None, servers: int = 0) -> None:
        """Have at least `number` machines: new ones are added, numbered on; of all, `servers` ask for `server`."""
        have = sum(1 for one in self.members if server and one.product.name == server.name)
        for at in range(len(self.members), number):
            wanted = server if server and have < servers else product
            have += wanted is server
            self.members.append(machines.make(at, self.seed, wanted))

    def check_in_all(
        self,
        drive: Drive,
        clock: Clock,
        effort: Effort = Effort(),  # noqa: B008 - a value that never changes
        *,
        verify: bool = False,
        progress: Callable[[int, int], None] = lambda _done, _of: None,
    ) -> Tally:
        """Let every machine ask the host, round after round.

        `drive.tls` is filled from the host's proof. `progress` is told how many check-ins are answered, and how
        many there will be (0 if time decides).

        Raises:
            Refused: `product-not-served`, `not-a-laboratory`, or the host's own problem.
            Unreachable: if the host cannot be reached, or proves nothing.
        """
        tally = Tally()
        total = len(self.members) * effort.rounds if effort.rounds else 0
        with HostConnection(drive.address, self.pub) as connection:
            while (effort.rounds is None or tally.rounds < effort.rounds) and tally.seconds < effort.seconds:
                waiting = deque(self.members)
                while waiting and tally.seconds < effort.seconds:
                    host = _proved(connection, drive.address)
                    self._check_served(host)
                    checkins = _signed(waiting, host, clock)
                    limit = min(SENDING_LIMIT, effort.seconds - tally.seconds)
                    done = tally.answered
                    leg, cpu = _run(
                        checkins,
                        drive._replace(tls=host.tls),
                        limit,
                        lambda answered, done=done: progress(done + answered, total),  # type: ignore[misc]
                    )
                    tally.cpu += cpu
                    _take_up(leg, tally, host if verify else None)
                    # With nothing amiss and the time over, nothing had been sent yet.
                    if not leg.answers and (leg.reasons or leg.seconds < limit):
                        raise _nobody(drive.address, leg)
                    waiting.extendleft(one.machine for one in reversed(leg.unsent()))
                tally.rounds += 1
        return tally

    def _check_served(self, host: ProvedHost) -> None:
        for name in sorted({one.product.name for one in self.members}):
            if name not in host.products:
                raise Refused(Refusal("product-not-served", f"The host serves {', '.join(host.products)}."))


def _proved(connection: HostConnection, address: Address) -> ProvedHost:
    """The host's proof; who answers what no host does, an authority say, is none (D4).

    Raises:
        Refused, Unreachable: as `HostConnection.prove` says.
    """
    try:
        return connection.prove()
    except Refused as error:
        if error.refusal.code not in _NO_HOSTS:
            raise
        detail = f"{address} answers as no KMS host does: {error.refusal.code}."
        raise Unreachable(Refusal("host-untrusted", detail)) from None


def _nobody(address: Address, leg: Leg) -> Unreachable:
    reasons = "; ".join(dict.fromkeys(leg.reasons)) or "no answer"
    return Unreachable(Refusal("host-unreachable", f"{address}: {reasons}."))


def _signed(waiting: deque[LabMachine], host: ProvedHost, clock: Clock) -> list[Checkin]:
    """Check-ins of as many of the waiting as can be signed in the time; they wait no longer."""
    deadline = time.perf_counter() + SIGNING_LIMIT
    checkins = []
    now = clock.now()
    while waiting and time.perf_counter() < deadline:
        checkins.append(waiting.popleft().checkin(host.nonce, host.host_id, now))
    return checkins


def _run(
    checkins: list[Checkin], drive: Drive, limit: float, progress: Callable[[int], None]
) -> tuple[Leg, float]:
    """Send a leg; also answers the processor time that it took."""
    cpu = time.process_time()
    leg = asyncio.run(load.send(checkins, drive, time.perf_counter() + limit, progress))
    return leg, time.process_time() - cpu


def _take_up(leg: Leg, tally: Tally, verify_for: ProvedHost | None) -> None:
    """Read every answer, keep the leases, and add it all up."""
    tally.seconds += leg.seconds
    tally.failed += len(leg.failed)
    tally.reasons = (tally.reasons + leg.reasons)[:5]
    for answer in leg.answers:
        tally.latencies.append(answer.seconds)
        try:
            refusal = _read(answer, tally, verify_for)
        except DocumentRefused as error:
            tally.invalid += 1
            tally.reasons = [*tally.reasons, f"{answer.status}: {error.refusal.detail}"][:5]
            continue
        if refusal:
            tally.refused[refusal.code] = tally.refused.get(refusal.code, 0) + 1
            told = dict(refusal.extra)
            tally.count = told.get("count", tally.count)
            tally.required = told.get("required", tally.required)


def _read(answer: Answered, tally: Tally, verify_for: ProvedHost | None) -> Refusal | None:
    """Take a lease in, or answer the refusal.

    Raises:
        DocumentRefused: if it is neither, or no answer to its ask.
    """
    bundle = trust.read_bundle(answer.body)
    refusal = problem_of(bundle)
    if refusal:
        return refusal
    if answer.status != _OK:
        raise DocumentRefused("neither a lease nor a problem")
    if verify_for:
        trust.take_up(trust.verify(bundle, "lease", verify_for.roots))
        tally.verified += 1
    claims = claims_of(bundle)
    if not answer.checkin.is_answered_by(claims):
        raise DocumentRefused("lease: not the answer to its check-in")
    answer.checkin.machine.take(claims)
    tally.granted += 1
    tally.count = claims["cnt"]
    return None
