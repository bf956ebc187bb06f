"""`volact.check()`: may this product run here? Offline, without rights, in milliseconds.

- Reads the files at each call, and the machine's facts and clocks; never writes, never opens a connection.
- Never raises for a licence that is missing, damaged or forged: that is state 0 and a reason.
- Loads the standard library and ``cryptography`` and nothing else: a product pays for it at each start.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from volact import config
from volact.client import folder, lifecycle, timekeeping
from volact.client.lifecycle import Licence  # noqa: TC001 - `volact.Licence` is found here
from volact.clock import clock_for
from volact.facts import parts_for
from volact.protocol import ids, machine, trust
from volact.protocol.problems import UsageError, VolactError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from volact.client.state import State
    from volact.client.timekeeping import Reading
    from volact.clock import Clock
    from volact.protocol.trust import Granted, Roots


def check(product: str, *, root: str, allow_lab: bool = False) -> Licence:
    """Whether `product` of the publisher with id `root` may run on this machine.

    A laboratory publisher's licence counts only with `allow_lab`, which a shipped product never sets.

    Raises:
        UsageError: if `product` is no product id or `root` no publisher id; for nothing else.
    """
    if not ids.is_product_id(product):
        raise UsageError(
            f"{str(product)[:80]!r} is no product id.", 'Call check("com.example.cad", root="...").'
        )
    if not ids.is_thumbprint(root):
        raise UsageError(
            "root is no publisher id.", "Give the 43 characters that `volact authority init` prints."
        )
    try:
        return _licence(product, root, allow_lab=allow_lab, environ=os.environ)
    except VolactError as error:
        return lifecycle.unlicensed(error.refusal.code)
    except (OSError, ValueError):
        # A file that cannot be looked at, a clock file of a laboratory that holds no time.
        return lifecycle.unlicensed("data-broken")


def _licence(product: str, pub: str, *, allow_lab: bool, environ: Mapping[str, str]) -> Licence:
    for home in config.reading_homes(environ):
        if folder.has_product(home, pub, product):
            break
    else:
        return lifecycle.unlicensed("product-not-installed")
    roots = folder.roots(home, pub)
    lab = roots.lab
    if lab and not allow_lab:
        return lifecycle.unlicensed("lab-publisher")
    return standing_in(home, roots, product, parts_for(environ, lab=lab), look(clock_for(environ, lab=lab)))


def look(clock: Clock) -> Reading:
    """One look at a machine's clocks."""
    return timekeeping.Reading(clock.now(), clock.running(), clock.boot())


def standing_in(home: str, roots: Roots, product: str, parts: Mapping[str, str], reading: Reading) -> Licence:
    """In which state a product is by the files in `home`, the machine's parts and its clocks.

    Raises:
        BrokenData: if a file is missing, damaged, another's or newer.
    """
    pub = roots.pub
    policy = folder.product(home, pub, product, roots).policy
    state = folder.state(home, pub)
    grant = folder.grant(home, pub, product, roots)
    if state is None or product not in state.products:
        return lifecycle.unlicensed("not-started")
    fold = timekeeping.observe(state.clock, reading)
    now = timekeeping.now(fold, reading.wall)
    seen = machine.fingerprint(pub, product, parts)
    doubtful = timekeeping.doubtful(fold, reading.wall)
    return lifecycle.standing(situation(state, product, grant, seen, now, doubtful=doubtful), policy, now)


def situation(
    state: State, product: str, grant: Granted | None, seen: Mapping[str, str], now: int, *, doubtful: bool
) -> lifecycle.Situation:
    """What `lifecycle` needs to know of a product, from what is stored and what the machine shows."""
    record = state.products[product]
    base = lifecycle.Situation(record.started, record.key_removed, doubtful=doubtful)
    if grant is None:
        return base
    modes = marks_on(state, grant)
    blocked = None
    if "all" in modes or not trust.still_stands(grant):
        blocked = now if record.blocked is None else record.blocked
    return base._replace(
        granted=True,
        returned="returned" in modes,
        blocked=blocked,
        hardware=machine.at_check(grant.document["fp"], seen),
        changed=record.changed,
    )


def marks_on(state: State, grant: Granted) -> set[str]:
    """What the status list that was taken last says of a grant: of its activation, its key, or the machine."""
    claims = grant.document.claims
    concerned = {
        ("act", claims["act"]),
        ("key", claims["key"]),
        ("machine", claims["sub"]),
        ("machine", state.cmid),
    }
    return {mode for kind, identifier, mode in state.marks if (kind, identifier) in concerned}
