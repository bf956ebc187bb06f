"""Looking at what DNS serves, and at what answers where it points (D4, D5).

- A host is asked for nothing but its proof, ``GET /v1/host``: nothing about this machine is said to anybody.
- Hosts are asked side by side, each for `TARGET_SECONDS` at most, so that eight dead ones take no longer than one.
- What is no name, port or address in DNS is dropped by `discovery`, as a client does it.
"""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import dns.resolver

from volact.calls import HOST_PROOF, HostCaller, Silent, problem_of
from volact.client import discovery, resolving
from volact.client.discovery import Service
from volact.kmshost import nameserver
from volact.kmshost.nameserver import Deadline
from volact.protocol import trust
from volact.protocol.policy import HOST_TARGETS
from volact.protocol.problems import DocumentRefused, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from volact.client.address import Address
    from volact.client.finding import Target
    from volact.client.resolving import Servers
    from volact.protocol.documents import Document
    from volact.protocol.trust import Roots

GOOD, STALE, FOREIGN, UNREACHABLE, UNREADY = "good", "stale", "foreign", "unreachable", "unready"
"""A host of a publisher that is known here; nobody listens there; what answers is no such host; no answer came, or not
in time; what answers says that it does not serve, or not us, which is not proved and never held against it."""
TARGET_SECONDS = HOST_PROOF
_DNS_SECONDS = 9.0


class Verdict(NamedTuple):
    """What was found at one target.

    Attributes:
        target: host:port.
        verdict: `GOOD`, `STALE`, `FOREIGN`, `UNREACHABLE` or `UNREADY`.
        detail: in words.
        host: the id of the host that proved itself; empty if none did.
        chain: its delegation's chain, the host's own delegation last; empty likewise.
        other: whether it is a proved host of another publisher.
        code: of the problem that it says instead of its proof; empty if it says none.
    """

    target: str
    verdict: str
    detail: str
    host: str = ""
    chain: tuple[Document, ...] = ()
    other: bool = False
    code: str = ""

    @property
    def elsewhere(self) -> bool:
        """Whether it says that it serves other networks than the one that it was asked from (PROTOCOL section 6)."""
        return self.code == "machine-not-entitled"

    def members(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "target": self.target,
            "verdict": self.verdict,
            "detail": self.detail,
            "host": self.host or None,
        }


class Places(NamedTuple):
    """Where name servers are, and whose hosts are ours.

    Attributes:
        servers: the system's name servers and domains.
        known: the publishers that are known here, by id; none where none is.
        label: under which label hosts are looked for.
    """

    servers: Servers
    known: Mapping[str, Roots]
    label: str

    def names(self) -> resolving.Names:
        """The system's name servers, for one question after the other."""
        return resolving.Names(self.servers)

    def resolver(self) -> dns.resolver.Resolver:
        """The same as dnspython has it."""
        found = dns.resolver.Resolver(configure=False)
        found.nameservers = list(self.servers.addresses)
        found.port = self.servers.port
        return found


def servers_for(environ: Mapping[str, str], *, lab: bool) -> Servers:
    """The name servers of a publisher's programs, as `resolving.names_for` takes them."""
    path = environ.get(resolving.RESOLVER_FILE)
    return resolving.of_file(path) if lab and path else resolving.of_system()


# --- what DNS serves --------------------------------------------------------------------------------------------


class Served(NamedTuple):
    """The SRV records of a domain.

    Attributes:
        domain: the domain.
        owner: the name of the records.
        server: the zone's own server, ``ADDRESS port PORT``; empty if it was not found.
        own: what that serves; None if it could not be asked.
        problem: why not, in words.
        resolver: what the system's resolver serves.
        resolver_problem: why it serves nothing, in words.
        addresses: of the targets, by name, as they are asked for.
    """

    domain: str
    owner: str
    server: str
    own: tuple[Service, ...] | None
    problem: str
    resolver: tuple[Service, ...]
    resolver_problem: str
    addresses: Mapping[str, tuple[str, ...]]

    def all(self) -> list[Service]:
        """The records of both that name a host, at most `HOST_TARGETS`."""
        return discovery.targets([*(self.own or ()), *self.resolver], None)[:HOST_TARGETS]


def ask(places: Places, label: str, domain: str, chosen: str) -> Served:
    """Ask the zone's own server (`chosen`, or its primary) and the system's resolver for a domain's records."""
    owner, deadline = f"{label}.{domain}", Deadline(_DNS_SECONDS)
    where, own, problem = "", None, ""
    try:
        server = nameserver.find(owner, chosen, places.resolver, deadline)
        where = f"{server.address} port {server.port}"
        own = tuple(_service(one) for one in sorted(nameserver.served(server, owner, "SRV", deadline)))
    except Unreachable as error:
        problem = error.refusal.detail
    names = places.names()
    found = names.services(label, domain)
    wanted = {one.name for one in discovery.targets([*(own or ()), *found.services], None)[:HOST_TARGETS]}
    addresses = {name: found.addresses.get(name, ()) or names.addresses(name) for name in sorted(wanted)}
    return Served(domain, owner, where, own, problem, found.services, found.problem, addresses)


def _service(text: str) -> Service:
    priority, weight, port, name = text.split()
    return Service(int(priority), int(weight), int(port), name.rstrip("."))


def shown(one: Service) -> str:
    """A record as a zone file has it."""
    return f"{one.priority} {one.weight} {one.port} {one.name}."


# --- what answers -----------------------------------------------------------------------------------------------


def probe_all(
    targets: Sequence[tuple[Address, tuple[str, ...] | None]], known: Mapping[str, Roots]
) -> list[Verdict]:
    """What answers at each target, side by side."""
    found: dict[int, Verdict] = {}

    def look(number: int) -> None:
        found[number] = probe(*targets[number], known)

    threads = [threading.Thread(target=look, args=(number,), daemon=True) for number in range(len(targets))]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 2 * TARGET_SECONDS + 1
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    silent = f"No answer within {TARGET_SECONDS:.0f} seconds."
    return [
        found.get(number) or Verdict(str(address), UNREACHABLE, silent)
        for number, (address, _) in enumerate(targets)
    ]


def targets_of(found: Sequence[Target]) -> list[tuple[Address, tuple[str, ...] | None]]:
    """Targets of a client's search as `probe_all` takes them."""
    return [(one.address, one.ips) for one in found]


def probe(address: Address, ips: tuple[str, ...] | None, known: Mapping[str, Roots]) -> Verdict:
    """What answers at one target, whose addresses are `ips`, or those that the system finds."""
    nobody = _nobody_there(address, ips)
    if nobody is not None:
        return nobody
    shown_as = str(address)
    until = time.monotonic() + TARGET_SECONDS
    try:
        with HostCaller(address.name, address.port, whole=TARGET_SECONDS, until=until, ips=ips) as caller:
            answer = caller.get("/v1/host")
            body = answer.bundle()
            refusal = problem_of(body)
            if refusal is not None:  # of whatever code: a newer host may know more of them
                return Verdict(shown_as, UNREADY, f"{refusal.code}: {refusal}", code=refusal.code)
            return _proved(shown_as, body, known, caller.take_only)
    except Silent as error:
        return Verdict(
            shown_as, UNREACHABLE, f"It takes a connection, and says nothing. {error.refusal.detail}"
        )
    except Unreachable as error:
        return Verdict(shown_as, FOREIGN, f"What answers is no KMS host. {error.refusal.detail}")
    except DocumentRefused as error:
        return Verdict(shown_as, FOREIGN, f"What answers does not prove itself: {error.refusal.detail}.")


def _nobody_there(address: Address, ips: tuple[str, ...] | None) -> Verdict | None:
    """The verdict if no connection comes about."""
    shown_as = str(address)
    if ips is not None and not ips:
        return Verdict(shown_as, STALE, "Its name has no address.")
    reason, refused = "", False
    places = ips or (address.name,)
    for ip in places:
        try:
            socket.create_connection((ip, address.port), TARGET_SECONDS / len(places)).close()
        except ConnectionRefusedError:
            refused = True
        except socket.gaierror:
            return Verdict(shown_as, STALE, "Its name has no address.")
        except (OSError, UnicodeError) as error:
            reason = (getattr(error, "strerror", None) or str(error) or "no answer").rstrip(".")
        else:
            return None
    where = ", ".join(places)
    if refused:
        return Verdict(shown_as, STALE, f"No service listens there ({where}).")
    return Verdict(shown_as, UNREACHABLE, f"It cannot be reached ({where}): {reason}.")


def _proved(
    shown_as: str,
    body: dict[str, Any],
    known: Mapping[str, Roots],
    take_only: Callable[[Sequence[str]], None],
) -> Verdict:
    """The verdict on what a host says of itself."""
    pub = str(trust.open_self_keyed(body.get("root"), "root").document["pub"])
    roots = known.get(pub) or trust.open_roots(body["root"], pub)
    granted = trust.take_up(trust.verify(body, "host", roots))
    take_only(granted.document["tls"])
    host = str(granted.document.kid)
    if known and pub not in known:
        return Verdict(shown_as, FOREIGN, f"A KMS host of another publisher, {pub}.", host, other=True)
    whose = "" if known else f" of publisher {pub}"
    return Verdict(shown_as, GOOD, f"KMS host {host}{whose}.", host, tuple(granted.chain))
