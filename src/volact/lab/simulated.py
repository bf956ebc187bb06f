"""A KMS client without its home and its process: the client's own rules, with time as an argument.

When it asks, and what a refusal or lease means for its state, is decided by the very functions that the client
decides by (`client.planning`, `client.lifecycle`); only storage and waiting are left out. So thousands of machines
can live through months in a minute.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from volact.client import lifecycle, planning
from volact.client.planning import Asking, Intervals

if TYPE_CHECKING:
    import random

    from volact.client.lifecycle import Licence
    from volact.lab.machines import LabMachine
    from volact.protocol.problems import Refusal


class Simulated:
    """One machine from its first start on.

    Attributes:
        machine: what signs its check-ins.
        started: its first start, seconds UTC.
        intervals: in force; a host's override the product's (K6).
        failed: the code of the last try; empty after a success.
        refusals: how many tries were refused in all.
    """

    def __init__(self, machine: LabMachine, started: int, chance: random.Random) -> None:
        """Start first at `started`; `chance` spreads its tries."""
        self.machine = machine
        self.started = started
        self.intervals = Intervals(machine.product.policy.renewal, machine.product.policy.retry)
        self.failed = ""
        self.refusals = 0
        self._next_try: int | None = None
        self._heard: int | None = None
        self._chance = chance
        self._place = 0.0

    def licence(self, now: int) -> Licence:
        """Its state at `now`."""
        lease = self.machine.lease
        situation = lifecycle.Situation(
            self.started,
            granted=lease is not None,
            lease_from=lease.start if lease else None,
            lease_end=lease.end if lease else None,
        )
        return lifecycle.standing(situation, self.machine.product.policy, now)

    def next_look(self, now: int) -> int:
        """When its service does something next; `now` if it asks at once."""
        asking = Asking(planning.HOST, self.intervals, self._next_try, self.failed, self._heard)
        action = planning.next_action(
            self.licence(now), self.machine.product.policy, now, asking, list_checked=None
        )
        return now if action.until is None else action.until

    def granted(self, claims: dict[str, Any], now: int) -> None:
        """Take a verified lease in: the state is Licensed, and the next renewal is planned."""
        self.machine.take(claims)
        self.failed, self._heard = "", now
        self.intervals = planning.bounded(claims["ren"], claims["rty"])
        lease = self.machine.lease
        left = lease.end - now if lease else 0
        self._next_try = now + planning.renew_after(self.intervals, left, self._chance.random())

    def refused(self, refusal: Refusal, now: int) -> None:
        """Take a refusal in: nothing but the next try follows from it (rule E)."""
        if not self.failed:
            self._place = self._chance.random()  # as a client does, it stays there while its tries fail
        self.failed = refusal.code
        self.refusals += 1
        told = dict(refusal.extra)
        self.intervals = planning.bounded(
            _seconds(told.get("renewal"), self.intervals.renewal),
            _seconds(told.get("retry"), self.intervals.retry),
        )
        asked = _seconds(told.get("retry_after"), 0)
        self._next_try = now + planning.retry_after(self.intervals, asked, self._place)


def _seconds(value: object, otherwise: int) -> int:
    return value if type(value) is int and value > 0 else otherwise
