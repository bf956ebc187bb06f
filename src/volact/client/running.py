"""The client's service: what is due is done, on a short tick of the wall clock (DESIGN section 4).

A tick looks at the clock anew instead of sleeping towards a moment, and comes at once if the machine was suspended
or its clock was moved, which is noticed within a second. Between ticks nothing is held open, so that other commands
get at the store. What another command writes is noticed within a second, by a look at the files' times.

A tick holds the client's lock for one try at most, and lets it go before the next product's: a host that does not
answer keeps no command waiting for longer than that, and no other product's try.

A try that became due while the machine was off or suspended, and that nothing hurts by waiting, is put off by a chance
part of the retry interval, in memory: machines that were off together do not call together (K6, T21).

A try whose end cannot be written down (a full or read-only disk) has no plan of the next one: its product rests in
memory for its retry interval, so that no client's disk becomes its host's load.
"""

from __future__ import annotations

import signal
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from volact.client import contact, planning, returning
from volact.client.store import LOCK_TICK
from volact.client.timekeeping import Reading
from volact.clock import ClockInvalid
from volact.protocol.problems import VolactError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from volact.client.client import Client
    from volact.client.installation import Installation

TICK = 5.0
LOOK = 0.5
"""Seconds between two looks at what may wake a tick early: files, suspend, clock, network."""
_TURN = 3 * LOCK_TICK
"""Seconds for which the lock is left to others between two tries: who waits looks in that time."""
_NETWORK = ("/proc/net/route", "/proc/net/if_inet6")


def tick(
    client: Client,
    report: Callable[[str, Exception], None],
    *,
    at_start: bool = False,
    woken: bool = False,
    told: set[tuple[str, str]] | None = None,
    may_hold_back: bool = False,
) -> None:
    """Do what is due now for every product; what fails is reported and does not stop the others.

    At a start what is not licensed is tried even if the last try was a moment ago; `woken` (resumed, another
    network) what did not reach its server. `told` are the products, (publisher, product), that were told of that by a
    tick that did not get through; this one adds to them. `may_hold_back` says that further ticks follow: then what
    became due before a start or a wake is put off a little.

    Raises:
        Refused: ``in-use`` if another command does not end.
        OSError: if the folder cannot be written.
    """
    wake, tried = _Wake(at_start, woken, set() if told is None else told, may_hold_back), False
    for pub in client.store.publishers():
        done: set[str] = set()
        left = True
        while left:
            if tried:
                time.sleep(_TURN)
            tried, left = _step(client, pub, report, done, wake)


class _Wake(NamedTuple):
    """What makes a tick try at once, and which products were told already."""

    at_start: bool
    woken: bool
    told: set[tuple[str, str]]
    may_hold_back: bool


def _step(
    client: Client, pub: str, report: Callable[[str, Exception], None], done: set[str], wake: _Wake
) -> tuple[bool, bool]:
    """Under the lock, see to a publisher's products that are not `done`, up to the first try.

    Says whether there was one, and whether products are left.
    """
    with client.store.writing():
        try:
            here = client.open(pub)
        except (VolactError, OSError, ClockInvalid) as error:
            report(pub, error)
            return False, False
        tried: dict[str, int] = {}  # product -> its retry interval
        for product in [one for one in here.state.products if one not in done]:
            done.add(product)
            if not _rests(client, here, product):
                _see_to(client, here, product, report, tried, wake)
            wake.told.add((pub, product))
            if tried:
                break
        try:
            here.save_if_due()
        except OSError as error:
            report(here.pub, error)
            for product in tried:
                _let_rest(client, here, product, tried)
        return bool(tried), not done >= {*here.state.products}


def _see_to(
    client: Client,
    here: Installation,
    product: str,
    report: Callable[[str, Exception], None],
    tried: dict[str, int],
    wake: _Wake,
) -> None:
    fresh = (here.pub, product) not in wake.told
    try:
        asks = asking(here, product)
        at_start, woken = wake.at_start and fresh, wake.woken and fresh
        if (at_start or woken) and wake.may_hold_back and _hold_back(client, here, product, asks):
            return
        action = _next(here, product, asks, at_start=at_start, woken=woken)
        if action.name in (planning.ACTIVATE, planning.RETURN, planning.FETCH_STATUS):
            tried[product] = asks.intervals.retry
            _do(client, here, product, action)
    except VolactError as error:
        report(product, error)
    except OSError as error:
        report(product, error)
        _let_rest(client, here, product, tried)


def _rests(client: Client, here: Installation, product: str) -> bool:
    rest = client.rests.get((here.pub, product))
    if rest is None or rest.is_over(here.reading.running):
        return False
    return rest.plan is None or rest.plan == here.record(product).next_try


def _hold_back(client: Client, here: Installation, product: str, asks: planning.Asking) -> bool:
    """Put a product's try off that became due while the machine was off; whether there was one."""
    held = planning.held_back(here.standing(product), here.now, asks, here.around.chance())
    if held:
        client.rests[here.pub, product] = planning.Rest(here.reading.running, held, asks.next_try)
    return held > 0


def _let_rest(client: Client, here: Installation, product: str, tried: Mapping[str, int]) -> None:
    """Let a product rest whose try could not be written down; one that tried nothing asked nobody."""
    if product in tried:
        client.rests[here.pub, product] = planning.Rest(here.reading.running, tried[product])


def _next(
    here: Installation, product: str, asks: planning.Asking, *, at_start: bool, woken: bool
) -> planning.Action:
    return planning.next_action(
        here.standing(product),
        here.product(product).policy,
        here.now,
        asks,
        list_checked=here.state.list_checked,
        at_start=at_start,
        woken=woken,
    )


def _do(client: Client, here: Installation, product: str, action: planning.Action) -> None:
    if action.name == planning.ACTIVATE:
        client.activate_in(here, product)
    elif action.name == planning.RETURN:
        returning.give_back(here, product)
    else:
        contact.fetch_status(here, product)


def asking(here: Installation, product: str) -> planning.Asking:
    """Whom a product asks, and how the last try went."""
    way, record = here.way(product), here.record(product)
    return planning.Asking(
        way,
        here.intervals(product),
        record.next_try,
        record.failed,
        record.heard,
        here.newly_doubtful(),
        returning.is_waiting(here, product),
    )


def surface() -> planning.Surface:
    """A look at what a suspend or another network changes."""
    return planning.Surface(
        time.clock_gettime(time.CLOCK_BOOTTIME), time.monotonic(), b"".join(_bytes(path) for path in _NETWORK)
    )


def _bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:  # no IPv6, or no /proc
        return b""


class Watch:
    """Notices between two ticks what makes the next one early."""

    def __init__(self, client: Client, look: Callable[[], planning.Surface] = surface) -> None:
        """Watch the files of a client, and the machine by `look`."""
        self._client, self._look = client, look
        self._files = client.store.fingerprints()
        self._surface = look()
        self._reading = self._read_clocks()
        self._woke: float | None = None

    def changed(self) -> bool:
        """Whether a file changed since the last time."""
        before, self._files = self._files, self._client.store.fingerprints()
        return before != self._files

    def clock_moved(self) -> bool:
        """Whether the wall clock, or a laboratory's moved one, jumped since the last time."""
        before, self._reading = self._reading, self._read_clocks() or self._reading
        return before is not None and self._reading is not None and planning.is_jump(before, self._reading)

    def _read_clocks(self) -> Reading | None:
        try:
            clock = self._client.around.clock(True)
            return Reading(clock.now(), clock.running(), "")
        except ClockInvalid:
            return None  # a laboratory's clock that says no time did not move

    def woken(self) -> bool:
        """Whether the machine resumed or is in another network since the last time; at most once a minute."""
        before, self._surface = self._surface, self._look()
        if not planning.is_another(before, self._surface) or not planning.may_wake(
            self._woke, self._surface.running
        ):
            return False
        self._woke = self._surface.running
        return True


class Service:
    """The service between two looks: when it ticked last, and what a tick has yet to be told."""

    def __init__(
        self,
        client: Client,
        report: Callable[[str, Exception], None],
        watch: Watch,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Tick for `client`, woken by `watch`; what fails is told to `report`. `clock` is monotonic, seconds."""
        self._client, self._report, self._watch, self._clock = client, report, watch, clock
        self._at_start, self._woken = True, False
        self._told: set[tuple[str, str]] = set()
        self._ticked: float | None = None

    def look(self) -> None:
        """Tick if the last one ended long enough ago, or something makes the next one early.

        A start and a wake are told to the first tick that gets through; they bring only one forward.
        """
        woken = self._watch.woken()
        if woken:
            self._woken = True
            self._told.clear()
        moved, changed = self._watch.clock_moved(), self._watch.changed()
        early = woken or moved or changed
        if not early and self._ticked is not None and 0 <= self._clock() - self._ticked < TICK:
            return
        try:
            tick(
                self._client,
                self._report,
                at_start=self._at_start,
                woken=self._woken,
                told=self._told,
                may_hold_back=True,
            )
            self._at_start = self._woken = False
            self._told.clear()
        except (VolactError, OSError, ClockInvalid) as error:
            # Another command is at work for long, or the folder cannot be written: the next tick may fare better.
            self._report(self._client.store.home, error)
        self._ticked = self._clock()  # at its end: a tick that waited long is not followed by another at once


def run(client: Client, report: Callable[[str, Exception], None], *, wait: float = LOOK) -> None:
    """Tick until SIGTERM or SIGINT; a tick that is at work is finished first."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    service = Service(client, report, Watch(client))
    while not stopping.is_set():
        service.look()
        stopping.wait(wait)
