"""A domain: do its zone's server and the system's resolver serve the same, and do the hosts exist that they name (D5)?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from volact.client import discovery
from volact.client.address import Address
from volact.doctor import checks, probing
from volact.doctor.checks import FAILED, HOST, OK, SKIPPED, WARNING, Check

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from volact.doctor.probing import Places, Served, Verdict

_NOT_PUBLISHED = (
    "On the KMS host: volact kmshost publish, or enter what `volact kmshost publish --show` prints."
)
_NOBODY_SAYS = f"Check the name servers and the domain. If they are right: {_NOT_PUBLISHED[0].lower()}{_NOT_PUBLISHED[1:]}"
_MOST_SHOWN = 4


def look(places: Places, role: str, domain: str, chosen: str = "") -> list[Check]:
    """The checks of a domain; `chosen` is the zone's server where it is set, ``HOST[:PORT]``."""
    served = probing.ask(places, places.label, domain, chosen)
    return [records(role, served), targets(role, served, places)]


def records(role: str, served: Served) -> Check:
    """Whether both serve records, and the same."""
    where = served.server or "not found"
    looked_at = f"SRV records of {served.owner}: the zone's own server ({where}) and the system's resolver"
    name = f"dns {served.domain}"

    def check(result: str, found: str, to_do: str = "") -> Check:
        return Check(role, name, result, looked_at, found, to_do)

    resolved = f"the resolver serves {_listed(served.resolver) or served.resolver_problem}"
    if served.own is None:
        if not served.resolver:
            return check(FAILED, f"{served.resolver_problem or served.problem}.", _NOBODY_SAYS)
        return check(WARNING, f"{served.problem} Yet {resolved}.", "Check the zone's server, if it is yours.")
    if not served.own and not served.resolver:
        return check(FAILED, f"No host is named there: {served.resolver_problem}.", _NOT_PUBLISHED)
    if set(map(probing.shown, served.own)) == set(map(probing.shown, served.resolver)):
        return check(OK, _listed(served.own))
    wait = (
        "A resolver keeps what it knows for the records' time to live, a minute or some; else check that it"
    )
    return check(
        WARNING,
        f"They differ: the zone's server serves {_listed(served.own) or 'none'}; {resolved}.",
        f"{wait} asks the zone's server.",
    )


def _listed(found: Iterable[discovery.Service]) -> str:
    shown = [probing.shown(one) for one in found]
    more = len(shown) - _MOST_SHOWN
    return ", ".join(shown[:_MOST_SHOWN]) + (f" and {more} more" if more > 0 else "")


def targets(role: str, served: Served, places: Places) -> Check:
    """Whether the hosts exist that the records name."""
    asked = [
        (Address(one.name, one.port), discovery.worth_trying(served.addresses.get(one.name, ()), _any_way))
        for one in served.all()
    ]
    looked_at = f"what answers where {served.owner} points"
    if not asked:
        nothing = "There is nothing to look at." if not served.own else "The records name no host."
        return Check(role, f"hosts {served.domain}", SKIPPED, looked_at, nothing)
    return judged(role, f"hosts {served.domain}", looked_at, probing.probe_all(asked, places.known))


def _any_way(_ip: str) -> bool:
    return True


def judged(role: str, name: str, looked_at: str, verdicts: Sequence[Verdict]) -> Check:
    """The check of what answered at several targets."""
    results = [result_of(one, role) for one in verdicts]
    bad = [one for one, result in zip(verdicts, results, strict=True) if result != OK]
    kinds = dict.fromkeys(one.verdict for one in bad)
    said = [f"{sum(one.verdict == kind for one in bad)} {kind}" for kind in kinds]
    found = f"{len(verdicts) - len(bad)} of {len(verdicts)} good" + "".join(f", {one}" for one in said)
    advice = " ".join(dict.fromkeys(_to_do(one) for one in bad))
    members = tuple(one.members() for one in verdicts)
    return Check(role, name, checks.worst(results), looked_at, f"{found}.", advice, members)


def result_of(one: Verdict, role: str) -> str:
    """How bad a verdict is.

    Another publisher's host in the same domain is its own publisher's business. A host that serves other networks
    need not serve the machine that is a KMS host itself: from there it cannot be looked at.
    """
    if one.verdict == probing.GOOD:
        return OK
    if one.elsewhere and role == HOST:
        return SKIPPED
    return WARNING if one.other or one.verdict == probing.UNREADY else FAILED


def _to_do(one: Verdict) -> str:
    return _OTHER if one.other else _ELSEWHERE if one.elsewhere else _TO_DO[one.verdict]


_ELSEWHERE = (
    "If it is to serve this machine: on that host, add this machine's network to networks (kmshost.toml)."
)
_OTHER = "Publish another publisher's host under a label or domain of its own, where that can be: clients pass it over."
_TO_DO = {
    probing.STALE: "Start the host there, or take the stale record out of DNS.",
    probing.FOREIGN: "Take a record that names no KMS host of this publisher out of DNS, or find out who put it there.",
    probing.UNREACHABLE: "Check the host, the network and the firewall between (on the host: volact kmshost firewall).",
    probing.UNREADY: "See to that host: volact doctor, on it.",
}
