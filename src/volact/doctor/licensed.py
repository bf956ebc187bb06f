"""The checks of the products that are installed on this machine (D3, D5, K6, rule E): read only, nothing is tried."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple

from volact.client import cli, folder, reporting, resolving, timekeeping
from volact.client.check import look as look_at
from volact.client.discovery import CACHE, DNS, HAND, Known
from volact.client.finding import Search, Wanted
from volact.clock import clock_for
from volact.doctor import checks, domains, probing
from volact.doctor.checks import CLIENT, FAILED, OK, SKIPPED, WARNING, Check
from volact.protocol.problems import VolactError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from volact.client.finding import Target
    from volact.client.reporting import Row
    from volact.client.store import Store
    from volact.doctor.probing import Places, Verdict
    from volact.protocol.trust import Roots

_WAYS = {
    HAND: "it is set by hand (slmgr /skms)",
    CACHE: "it answered last (slmgr /skhc)",
    DNS: "DNS names it",
}
_LICENSED, _GRACE = 1, (2, 3, 4)


class Installed(NamedTuple):
    """A product that is installed: where, and what is told of it."""

    store: Store
    row: Row

    @property
    def pub(self) -> str:
        """The publisher's id."""
        return str(self.row.members["publisher"])

    @property
    def product(self) -> str:
        """The product's id."""
        return str(self.row.members["product"])


def installed() -> list[Installed]:
    """Every product on this machine, and the store that counts for it."""
    stores = cli.reading_stores()
    return [
        Installed(next(one for one in stores if _stands(one, row)), row)
        for row in cli.rows()
        if any(_stands(one, row) for one in stores)
    ]


def _stands(store: Store, row: Row) -> bool:
    return folder.has_product(store.home, row.members["publisher"], row.members["product"])


def publishers(found: list[Installed]) -> dict[str, Roots]:
    """The publishers of products, by id; those whose root documents are damaged are left out."""
    known = {}
    for one in found:
        try:
            known[one.pub] = folder.roots(one.store.home, one.pub)
        except VolactError:
            continue
    return known


def look(
    found: list[Installed], places: Places, environ: Mapping[str, str]
) -> Iterator[tuple[str, Callable[[], list[Check]]]]:
    """The checks of the client, each with what is being done meanwhile."""
    yield "clock", lambda: _clocks(found, places, environ)
    for one in found:
        yield f"{one.product}", lambda one=one: [_state(one)]  # type: ignore[misc]
    seen: dict[Wanted, Check] = {}
    asking = [one for one in found if one.row.kms is not None and one.row.members["channel"] == reporting.KMS]
    for one in asking:
        yield f"the KMS host of {one.product}", lambda one=one: [_host(one, places, seen)]  # type: ignore[misc]
    for domain in _domains(asking, places):
        yield f"DNS of {domain}", lambda domain=domain: domains.look(places, CLIENT, domain)  # type: ignore[misc]
    if not asking:
        said = "No product here asks a KMS host."
        yield "KMS hosts", lambda: [Check(CLIENT, "kms host", SKIPPED, "the products' channels", said)]


# --- clock and state --------------------------------------------------------------------------------------------


def _clocks(found: list[Installed], places: Places, environ: Mapping[str, str]) -> list[Check]:
    return [_clock(pub, home, places.known[pub], environ) for pub, home in _homes(found, places).items()]


def _homes(found: list[Installed], places: Places) -> dict[str, str]:
    return {one.pub: one.store.home for one in found if one.pub in places.known}


def _clock(pub: str, home: str, roots: Roots, environ: Mapping[str, str]) -> Check:
    """This machine's clock against the times that the publisher signed, and the highest that was seen."""
    looked_at = "this machine's clock, the last signed time, and the latest time that was seen"
    reading = look_at(clock_for(environ, lab=roots.lab))
    state = folder.state(home, pub)
    if state is None:
        said = f"{reporting.moment(reading.wall)}; nothing to compare it with yet."
        return Check(CLIENT, "clock", SKIPPED, looked_at, said)
    fold = timekeeping.observe(state.clock, reading)
    if timekeeping.doubtful(fold, reading.wall):
        said = f"It says {reporting.moment(reading.wall)}, more than an hour before {reporting.moment(timekeeping.now(fold, reading.wall))}."
        advice = "Set the clock; the next answer of a host or of the authority sets all right again."
        return Check(CLIENT, "clock", FAILED, looked_at, said, advice)
    ahead = timekeeping.ahead(fold, reading.wall)
    if ahead:
        said = f"It says {reporting.moment(reading.wall)}, {reporting.span(ahead)} ahead of the time that was signed."
        advice = "Set the clock; what was granted then holds by itself. If it is right, the clock of who granted is not."
        return Check(CLIENT, "clock", FAILED, looked_at, said, advice)
    return Check(
        CLIENT,
        "clock",
        OK,
        looked_at,
        f"{reporting.moment(reading.wall)}, after all that was signed and seen.",
    )


def _state(one: Installed) -> Check:
    """The product's state, its next try and what its last one came to."""
    members, kms = one.row.members, one.row.kms
    name, looked_at = f"state {one.product}", "the product's files: its state, next try, last error"
    if one.row.problem:
        return Check(CLIENT, name, FAILED, looked_at, one.row.problem, "Install the product's file again.")
    said = (
        reporting.expiry(one.row)
        if members["expires"] or one.row.standing.licensed
        else members["state_name"]
    )
    if members["next_try"]:
        said += f"; next try {members['next_try']}"
    failed = kms.failed if kms else None
    advice = one.row.standing.warn or ""
    if failed:
        what, advice = checks.meaning(failed)
        said += f"; the last try failed: {what}"
    state = members["state"]
    if state == _LICENSED:
        result = WARNING if failed or one.row.standing.warn else OK
    elif state in _GRACE:
        result, advice = WARNING, advice or "Activate it: slmgr /ato."
    else:
        result, advice = FAILED, advice or "Activate it: slmgr /ato."
    return Check(CLIENT, name, result, looked_at, f"{said.rstrip('.')}.", advice)


# --- whom it asks -----------------------------------------------------------------------------------------------


def _wanted(one: Installed, places: Places) -> Wanted:
    """What the client would look for at its next try."""
    own = one.store.settings(one.pub, one.product)
    state = folder.state(one.store.home, one.pub)
    record = state.products.get(one.product) if state else None
    known = Known(*record.known) if record and record.known and own.caching else None
    return Wanted(own.host, own.port, own.domain, places.label, known)


def _host(one: Installed, places: Places, seen: dict[Wanted, Check]) -> Check:
    """Which host would be asked at the next try, why, and what is to be said of each that could be."""
    wanted, name = _wanted(one, places), f"kms host {one.product}"
    if wanted not in seen:
        seen[wanted] = _searched(wanted, places, one.product)
    return seen[wanted]._replace(name=name)


def _searched(wanted: Wanted, places: Places, product: str) -> Check:
    looked_at = "each KMS host that the next try would ask, in its order, as far as it had to"
    search = Search(wanted, places.names, resolving.has_route, random.random)
    targets = list(search.targets())
    if not targets:
        refusal = search.nothing_found()
        return Check(CLIENT, "", FAILED, looked_at, str(refusal), refusal.problem.next_step)
    verdicts = [
        _serving(one, product) for one in probing.probe_all(probing.targets_of(targets), places.known)
    ]
    found = domains.judged(CLIENT, "", looked_at, verdicts)
    good = [
        (target, one) for target, one in zip(targets, verdicts, strict=True) if one.verdict == probing.GOOD
    ]
    if not good:
        return found._replace(result=FAILED, found=f"No host would answer: {found.found}")
    return found._replace(
        result=OK if good[0][0] is targets[0] else WARNING, found=_said(good[0][0], len(targets), found.found)
    )


def _said(target: Target, many: int, others: str) -> str:
    rest = f" Of all that could be asked: {others}" if many > 1 else ""
    return f"{target.address} would be used: {_WAYS[target.way]}, and it proves itself.{rest}"


def _serving(one: Verdict, product: str) -> Verdict:
    """The verdict, if a host that is good serves this product at all."""
    if one.verdict != probing.GOOD or not one.chain or product in one.chain[-1]["prd"]:
        return one
    return one._replace(verdict=probing.UNREADY, detail=f"{one.detail} It does not serve {product}.")


def _domains(asking: list[Installed], places: Places) -> list[str]:
    """The domains in which hosts are looked for, unless a host is set by hand."""
    found: list[str] = []
    for one in asking:
        own = one.store.settings(one.pub, one.product)
        if own.host is None:
            found += [own.domain] if own.domain else places.servers.domains
    return list(dict.fromkeys(found))
