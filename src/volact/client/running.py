"""The client's service: what is due is done, on a short tick of the wall clock (DESIGN section 4).

A tick looks at the clock anew instead of sleeping towards a moment, so a suspended laptop or a moved clock is
noticed within seconds. Between ticks nothing is held open, so that other commands get at the store.
"""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

from volact.client import contact, planning
from volact.clock import ClockInvalid
from volact.protocol.problems import VolactError

if TYPE_CHECKING:
    from collections.abc import Callable

    from volact.client.client import Client
    from volact.client.installation import Installation

TICK = 5.0


def tick(client: Client, report: Callable[[str, Exception], None], *, at_start: bool = False) -> None:
    """Do what is due now for every product; what fails is reported and does not stop the others.

    At a start an activation is tried even if the last try was a moment ago.
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
                    _do_next(client, here, product, at_start=at_start)
                except (VolactError, OSError) as error:
                    report(product, error)
            try:
                here.save_if_due()
            except OSError as error:
                report(pub, error)


def _do_next(client: Client, here: Installation, product: str, *, at_start: bool) -> None:
    policy = here.product(product).policy
    action = planning.next_action(
        here.standing(product),
        policy,
        here.now,
        has_key=client.store.key(here.pub, product) is not None,
        next_try=None if at_start else here.record(product).next_try,
        list_checked=here.state.list_checked,
    )
    if action.name == planning.ACTIVATE:
        client.activate_in(here, product)
    elif action.name == planning.FETCH_STATUS:
        contact.fetch_status(here, product)


def run(client: Client, report: Callable[[str, Exception], None], *, wait: float = TICK) -> None:
    """Tick until SIGTERM or SIGINT; a tick that is at work is finished first."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    at_start = True
    while not stopping.is_set():
        try:
            tick(client, report, at_start=at_start)
            at_start = False
        except (VolactError, OSError, ClockInvalid) as error:
            # Another command is at work for long, or the folder cannot be written: the next tick may fare better.
            report(client.store.home, error)
        stopping.wait(wait)
