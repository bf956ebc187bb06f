"""One publisher on this machine, open for a command that writes.

Opening is what a start is: the clocks are looked at, an identity is made where there is none, and a machine
that finds itself on foreign hardware becomes a new one (PROTOCOL section 5, row 3; M4).
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

from volact import signing
from volact.calls import end_of_try, for_one_try
from volact.client import check, folder, lifecycle, planning, resolving, timekeeping
from volact.client.planning import Intervals
from volact.client.state import Record, State
from volact.protocol import machine, trust
from volact.protocol.policy import HOST_LABEL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from volact.calls import Caller, HostCaller
    from volact.client.events import Event
    from volact.client.folder import Product
    from volact.client.lifecycle import Licence
    from volact.client.resolving import Names
    from volact.client.store import Settings, Store
    from volact.clock import Clock
    from volact.facts import Facts
    from volact.protocol.policy import Policy
    from volact.protocol.trust import Granted, Roots


class Surroundings(NamedTuple):
    """What the client reaches outside its folder by; a test gives its own.

    Attributes:
        clock: the clock under a laboratory publisher (True) or another.
        facts: the machine's facts, likewise.
        call: opens a connection to a server at an address, whose key is one of these, until a moment on the monotonic
            clock.
        chance: a number from 0 to 1, for spreading tries.
        entropy: random bytes.
        call_host: opens a connection to a KMS host at a name and port, until such a moment; where DNS named it, at
            these addresses of it.
        names: the name servers under a laboratory publisher (True) or another, for one try.
        has_route: whether the machine knows a way to an address.
        label: under which label of a domain KMS hosts are looked for.
        tell: is told each event as it is logged.
    """

    clock: Callable[[bool], Clock]
    facts: Callable[[bool], Facts]
    call: Callable[[str, Sequence[str], float], Caller]
    chance: Callable[[], float]
    entropy: Callable[[int], bytes] = os.urandom
    call_host: Callable[[str, int, float, Sequence[str] | None], HostCaller] = for_one_try
    names: Callable[[bool], Names] = lambda lab: resolving.names_for({}, lab=lab)
    has_route: Callable[[str], bool] = resolving.has_route
    label: str = HOST_LABEL
    tell: Callable[[Event], None] = lambda _event: None


def in_force(record: Record | None, own: Settings, policy: Policy) -> Intervals:
    """Renewal and retry interval in force: a host's, else own ones, else the product's (K6)."""
    renewal = (record.renewal if record else None) or own.renewal or policy.renewal
    retry = (record.retry if record else None) or own.retry or policy.retry
    return Intervals(renewal, min(retry, renewal))


class Installation:
    """One publisher's roots, products, identity and state on this machine.

    Attributes:
        store: where they are kept.
        around: clocks, facts, callers.
        roots: the publisher's root documents.
        facts: what this machine is.
        reading: the clocks as they were looked at.
        signer: the machine's identity.
        state: what is remembered; `save` writes it.
    """

    def __init__(self, store: Store, pub: str, around: Surroundings) -> None:
        """Open a publisher whose roots are stored; the caller is the store's only writer."""
        self.store = store
        self.around = around
        self._until: float | None = None
        self.roots: Roots = folder.roots(store.home, pub)
        self.facts = around.facts(self.lab)
        self.reading = check.look(around.clock(self.lab))
        found = store.state(pub)
        self._saved = found[1] if found else None
        if found is None:
            self.signer = signing.generate()
            self.state = State(self.signer.kid, pub, timekeeping.first(self.reading), {})
            store.change_identity(self.signer, self.state)
        else:
            self.signer, self.state = found
            self.state = self.state._replace(clock=timekeeping.observe(self.state.clock, self.reading))
        self._look_at_hardware()

    @property
    def pub(self) -> str:
        """The publisher's id."""
        return self.roots.pub

    @property
    def lab(self) -> bool:
        """Whether it is a laboratory's."""
        return self.roots.lab

    @property
    def now(self) -> int:
        """The time that counts (PROTOCOL section 8)."""
        return timekeeping.now(self.state.clock, self.reading.wall)

    @property
    def until(self) -> float:
        """When all that is asked here must be over, on the monotonic clock: one try's time from the first question on.

        The store's lock is held meanwhile, also where a try asks a second time as a new machine.
        """
        if self._until is None:
            self._until = end_of_try()
        return self._until

    @property
    def is_over(self) -> bool:
        """Whether the time of a try is over."""
        return time.monotonic() >= self.until

    def product(self, product: str) -> Product:
        """An installed product."""
        return folder.product(self.store.home, self.pub, product, self.roots)

    def grant(self, product: str) -> Granted | None:
        """Its stored confirmation."""
        return folder.grant(self.store.home, self.pub, product, self.roots)

    def held(self, product: str) -> Granted | None:
        """Its stored confirmation, else its lease."""
        return folder.held(self.store.home, self.pub, product, self.roots)

    def newly_doubtful(self) -> bool:
        """Whether the machine's clock came in doubt since the last signed answer."""
        return timekeeping.newly_doubtful(self.state.clock, self.reading.wall)

    def moment(self) -> tuple[int, int]:
        """The time that counts, and what the wall clock says, at this moment: a try may take half a minute."""
        wall = check.look(self.around.clock(self.lab)).wall
        return max(self.now, timekeeping.now(self.state.clock, wall)), wall

    @property
    def clock_ahead(self) -> int:
        """How far the machine's clock lies ahead of signed time, seconds, as far as that is known."""
        return timekeeping.ahead(self.state.clock, self.reading.wall)

    def answered_at(self, iat: int) -> timekeeping.Fold:
        """What is kept of the clocks after a fresh signed time."""
        return timekeeping.answered(self.state.clock, iat, self.reading.wall)

    def way(self, product: str) -> str:
        """Whom the product is activated by (K22): its key, or a KMS host, or nobody here."""
        if self.store.label(self.pub, product) is not None:
            return planning.KEY if self.store.key(self.pub, product) is not None else planning.NOBODY
        return planning.NOBODY if self.grant(product) is not None else planning.HOST

    def intervals(self, product: str) -> Intervals:
        """Renewal and retry interval in force: a host's, else own ones, else the product's (K6)."""
        record = self.state.products[product]
        return in_force(record, self.store.settings(self.pub, product), self.product(product).policy)

    def fingerprint(self, product: str) -> dict[str, str]:
        """What this machine shows for a product."""
        return machine.fingerprint(self.pub, product, self.facts.values)

    def standing(self, product: str) -> Licence:
        """The product's state."""
        seen, policy = self.fingerprint(product), self.product(product).policy
        doubtful = timekeeping.doubtful(self.state.clock, self.reading.wall)
        held = self.held(product)
        found = check.situation(self.state, product, held, policy, seen, self.now, doubtful=doubtful)
        return lifecycle.standing(found, policy, self.now)

    def record(self, product: str) -> Record:
        """What is remembered of a product."""
        return self.state.products[product]

    def remember(self, product: str, record: Record) -> None:
        """Change what is remembered of a product."""
        self.state = self.state._replace(products={**self.state.products, product: record})

    def learn(self, granted: Granted) -> None:
        """Take from a verified document what it says besides: its time, and later root documents.

        A KMS host's own dates say nothing; those of the keys above it do (PROTOCOL section 8).
        """
        signed = (*granted.chain, *granted.roots.documents)
        by_host = granted.document.name in ("host", "lease")
        times = [document.iat for document in (signed if by_host else (granted.document, *signed))]
        self.state = self.state._replace(clock=timekeeping.signed(self.state.clock, max(times)))
        if len(granted.roots.documents) > len(self.roots.documents):
            self.roots = granted.roots
            self.store.write_roots(self.roots)

    def save(self) -> None:
        """Note what follows from what is known, and write it all down."""
        for product in self.state.products:
            self._note(product)
        self.store.write_state(self.signer, self.state)
        self._saved = self.state

    def save_if_due(self) -> None:
        """Save what changed; if only time passed, no more often than every 10 minutes of it."""
        for product in self.state.products:
            self._note(product)
        saved = self._saved
        if (
            saved is None
            or saved != self.state._replace(clock=saved.clock)
            or timekeeping.due_for_saving(saved.clock, self.state.clock)
        ):
            self.save()

    def renew_identity(self, *, because_told: bool = False) -> None:
        """Become a new machine for this publisher: new key, new CMID; requests under the old one are dropped."""
        self.signer = signing.generate()
        at = self.now if because_told else self.state.identity_at
        self.state = self.state._replace(cmid=self.signer.kid, identity_at=at)
        for product in self.store.products(self.pub):
            self.store.remove(self.pub, product, folder.PENDING, folder.RETURN)
        for product, record in self.state.products.items():
            self.remember(product, record._replace(checkin=None))
        self.store.change_identity(self.signer, self.state)

    def start_again(self, product: str, *, rearms: int) -> None:
        """Begin a product's initial grace anew on this very machine; what was granted is set aside."""
        self.store.set_grant_aside(self.pub, product)
        self.store.remove(self.pub, product, folder.LEASE)
        returned = self.record(product).returned
        self.remember(product, Record(self.now, self.fingerprint(product), rearms, returned=returned))

    def _look_at_hardware(self) -> None:
        for product in self.store.products(self.pub):
            if product not in self.state.products:
                # Its signature's date first: a clock that stands at 1970 must not use up the grace.
                self.learn(self.product(product).granted)
                self.remember(product, Record(self.now, self.fingerprint(product)))
        foreign = [product for product in self.state.products if self._is_foreign(product)]
        for product in foreign:
            self.start_again(product, rearms=self.record(product).rearms)
        if foreign:
            self.renew_identity()

    def _is_foreign(self, product: str) -> bool:
        held = self.held(product)
        baseline = held.document["fp"] if held else self.record(product).fp
        return machine.own_key(baseline, self.fingerprint(product)) == machine.FOREIGN

    def _note(self, product: str) -> None:
        """Note when a change of hardware or a block was first seen; what is over is forgotten.

        A moment that lies ahead was noted by a clock that was wrong, so it counts from now on (F17).
        """
        held, record = self.held(product), self.record(product)
        changed = blocked = None
        if held is not None:
            if machine.at_check(held.document["fp"], self.fingerprint(product)) == machine.CHANGED:
                changed = self._not_ahead(record.changed)
            if "all" in check.marks_on(self.state, held) or not trust.still_stands(held):
                blocked = self._not_ahead(record.blocked)
        started = min(record.started, self.now)
        self.remember(product, record._replace(started=started, changed=changed, blocked=blocked))

    def _not_ahead(self, since: int | None) -> int:
        return self.now if since is None else min(since, self.now)
