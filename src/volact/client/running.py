"""The client's service: what is due is done, on a short tick of the wall clock (DESIGN section 4).

A tick looks at the clock anew instead of sleeping towards a moment, so a suspended laptop or a moved clock is
noticed within seconds. Between ticks nothing is held open, so that other commands get at the store. What another
command writes is noticed within a second, by a look at the files' times.
"""

from __future__ import annotations

import signal
import threading
import time
from typing import TYPE_CHECKING

from volact.client import contact, planning
from volact.clock import ClockInvalid
from volact.protocol.problems import VolactError

if TYPE_CHECKING:
    from collections.abc import Callable

    from volact.client.client import Client
    from volact.client.installation import Installation

TICK = 5.0
LOOK = 0.5
"""Seconds between two looks at what may wake a tick early: files, suspend, network."""
_NETWORK = ("/proc/net/route", "/proc/net/if_inet6")


def tick(
    client: Client,
    report: Callable[[str, Exception], None],
    *,
    at_start: bool = False,
    woken: bool = False,
) -> None:
    """Do what is due now for every product; what fails is reported and does not stop the others.

    At a start what is not licensed is tried even if the last try was a moment ago; `woken` (resumed, another
    network) what did not reach its server.
    """
    with client.store.writing():
        for pub in client.store.publishers():
            try:
                here = client.open(pub)
            except (VolactError, OSError) as error:
                report(pub, error)
                continue
            for product in list(here.state.products):
                try:
                    _do_next(client, here, product, at_start=at_start, woken=woken)
                except (VolactError, OSError) as error:
                    report(product, error)
            try:
                here.save_if_due()
            except OSError as error:
                report(pub, error)


def _do_next(client: Client, here: Installation, product: str, *, at_start: bool, woken: bool) -> None:
    action = planning.next_action(
        here.standing(product),
        here.product(product).policy,
        here.now,
        asking(here, product),
        list_checked=here.state.list_checked,
        at_start=at_start,
        woken=woken,
    )
    if action.name == planning.ACTIVATE:
        client.activate_in(here, product)
    elif action.name == planning.FETCH_STATUS:
        contact.fetch_status(here, product)


def asking(here: Installation, product: str) -> planning.Asking:
    """Whom a product asks, and how the last try went."""
    way, record = here.way(product), here.record(product)
    if way == planning.HOST and here.store.settings(here.pub, product).host is None:
        way = planning.NOBODY  # `host-not-found` is a fact for `status`, not an event every two hours
    return planning.Asking(
        way, here.intervals(product), record.next_try, record.failed, record.heard, here.newly_doubtful()
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
        self._woke: float | None = None

    def changed(self) -> bool:
        """Whether a file changed since the last time."""
        before, self._files = self._files, self._client.store.fingerprints()
        return before != self._files

    def woken(self) -> bool:
        """Whether the machine resumed or is in another network since the last time; at most once a minute."""
        before, self._surface = self._surface, self._look()
        if not planning.is_another(before, self._surface) or not planning.may_wake(
            self._woke, self._surface.running
        ):
            return False
        self._woke = self._surface.running
        return True


def run(client: Client, report: Callable[[str, Exception], None], *, wait: float = LOOK) -> None:
    """Tick until SIGTERM or SIGINT; a tick that is at work is finished first."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    watch = Watch(client)
    at_start, woken, ticked = True, False, -TICK
    while not stopping.is_set():
        woken = watch.woken() or woken
        if watch.changed() or woken or not 0 <= time.monotonic() - ticked < TICK:
            try:
                tick(client, report, at_start=at_start, woken=woken)
                at_start = woken = False
            except (VolactError, OSError, ClockInvalid) as error:
                # Another command is at work for long, or the folder cannot be written: the next tick may fare better.
                report(client.store.home, error)
            ticked = time.monotonic()
        stopping.wait(wait)
