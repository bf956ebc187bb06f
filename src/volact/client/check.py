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

    from volact.client.state import Record, State
    from volact.client.timekeeping import Reading
    from volact.clock import Clock
    from volact.protocol.policy import Policy
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
    held = folder.held(home, pub, product, roots)
    if state is None or product not in state.products:
        return lifecycle.unlicensed("not-started")
    fold = timekeeping.observe(state.clock, reading)
    now = timekeeping.now(fold, reading.wall)
    seen = machine.fingerprint(pub, product, parts)
    doubtful = timekeeping.doubtful(fold, reading.wall)
    found = situation(state, product, held, policy, seen, now, doubtful=doubtful)
    return lifecycle.standing(found, policy, now)


def situation(
    state: State,
    product: str,
    held: Granted | None,
    policy: Policy,
    seen: Mapping[str, str],
    now: int,
    *,
    doubtful: bool,
) -> lifecycle.Situation:
    """What `lifecycle` needs to know of a product, from what is stored and what the machine shows."""
    record = state.products[product]
    base = lifecycle.Situation(
        record.started, record.key_removed, returned=is_given_back(record, held), doubtful=doubtful
    )
    if held is None:
        return base
    modes = marks_on(state, held)
    blocked = None
    if "all" in modes or not trust.still_stands(held):
        blocked = now if record.blocked is None else record.blocked
    is_lease = held.document.name == "lease"
    return base._replace(
        granted=True,
        returned=base.returned or "returned" in modes,
        blocked=blocked,
        hardware=machine.at_check(held.document["fp"], seen),
        changed=record.changed,
        lease_from=held.document.iat if is_lease else None,
        lease_end=lease_end(record, held, policy) if is_lease else None,
    )


def is_given_back(record: Record, held: Granted | None) -> bool:
    """Whether what is held is what this machine gave back, or nothing is held since (M6).

    The state is written before the file goes, and a new grant's file before the state: neither crash matters.
    """
    if not record.given_back or held is None:
        return record.given_back
    return bool(record.returned) and held.document.jti == record.returned[-1][1]


def lease_end(record: Record, lease: Granted, policy: Policy) -> int:
    """When a lease ends: as it was noted when it was stored, whatever the product's file says since.

    Never later than the host signed. Without such a note (a crash came between the two files) the present file counts (PROTOCOL section 3).
    """
    signed = int(lease.document["exp"])
    if record.lease_end is not None and record.lease == lease.document.jti:
        return min(record.lease_end, signed)
    return min(signed, lease.document.iat + policy.validity)


def marks_on(state: State, held: Granted) -> set[str]:
    """What the status list that was taken last says of a grant.

    Of its activation and its key, or of the host that granted it; and of the machine.
    """
    claims = held.document.claims
    concerned = {("machine", claims["sub"]), ("machine", state.cmid)}
    if held.document.name == "lease":
        concerned.add(("host", claims["iss"]))
    else:
        concerned |= {("act", claims["act"]), ("key", claims["key"])}
    return {mode for kind, identifier, mode in state.marks if (kind, identifier) in concerned}
