"""Talking to the DNS server that publishes for a host: find it, read what it serves, send it a signed update.

- An update is always signed (RFC 8945); there is no way to send one that is not (T18).
- What a server answers to an update is not believed but read back; `Reply` says what it seemed to be.
- One question takes at most PATIENCE seconds, and all of them no longer than the `Deadline` leaves. An answer that
  was cut short is asked for again by TCP.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.resolver
import dns.tsig
import dns.update

from volact.kmshost import dnsrecords
from volact.protocol.problems import Refusal, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dns.update import UpdateMessage

    from volact.tsig import Key

PATIENCE = 3.0
"""Seconds that one question or update may take."""
_MOST_ADDRESSES = 3
"""So many addresses of a server are tried."""
_CHANGED = (dns.rcode.YXDOMAIN, dns.rcode.YXRRSET, dns.rcode.NXRRSET)


class Deadline:
    """Until when something must be over; it can be brought forward from another thread."""

    def __init__(self, seconds: float) -> None:
        """Be over `seconds` from now."""
        self._end = time.monotonic() + seconds
        self._passed = threading.Event()

    def end(self) -> None:
        """Be over now: what is under way finishes, and nothing new begins."""
        self._passed.set()

    def wait(self, seconds: float) -> None:
        """Wait, but not beyond the deadline."""
        self._passed.wait(min(seconds, self.left()))

    def left(self) -> float:
        """Seconds until it is over."""
        return 0.0 if self._passed.is_set() else max(0.0, self._end - time.monotonic())

    def patience(self) -> float:
        """Seconds that the next question may take.

        Raises:
            Unreachable: if there is no time left.
        """
        patience = min(PATIENCE, self.left())
        if patience <= 0:
            raise _unreachable("There was no time left to ask it.")
        return patience


class Server(NamedTuple):
    """A server of a zone that takes updates."""

    address: str
    port: int
    zone: str


class Reply(NamedTuple):
    """What a server seemed to say to an update.

    Attributes:
        refusal: why not; None if it said yes.
        doubtful: whether the answer is missing, or not signed as it should be.
        changed: whether what the update rested on has changed meanwhile.
    """

    refusal: Refusal | None = None
    doubtful: bool = False
    changed: bool = False


class Resolving(Protocol):
    """Makes a resolver as the system has it."""

    def __call__(self) -> dns.resolver.Resolver:
        """A resolver; its `port` is also that of the servers that it finds."""


def find(owner: str, chosen: str, resolver: Resolving, deadline: Deadline) -> Server:
    """The server to update for the name `owner`: the chosen ``HOST[:PORT]``, or with "" the zone's primary.

    Raises:
        Unreachable: `dns-server-unreachable`.
    """
    if chosen:
        host, port = dnsrecords.server_of(chosen)
        addresses = _resolved(host)
    else:
        addresses, port = _primary(owner, resolver(), deadline)
    problem = _unreachable(f"{chosen or owner} has no server with an address.")
    for address in addresses[:_MOST_ADDRESSES]:
        try:
            return Server(address, port, zone_of(address, port, owner, deadline))
        except Unreachable as error:
            problem = error
    raise problem


def _resolved(host: str) -> list[str]:
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(one[4][0]) for one in found))


def _primary(owner: str, resolver: dns.resolver.Resolver, deadline: Deadline) -> tuple[list[str], int]:
    """The addresses of the zone's primary as its SOA record names it, and the port."""
    try:
        zone = dns.resolver.zone_for_name(owner, resolver=resolver, lifetime=deadline.patience())
        soa = resolver.resolve(zone, "SOA", lifetime=deadline.patience())[0]
        found = resolver.resolve_name(soa.mname, lifetime=deadline.patience())
        return [str(one) for one in found.addresses()], resolver.port
    except (dns.exception.DNSException, OSError) as error:
        raise _unreachable(f"The primary server of {owner} was not found: {_said(error)}") from None


def zone_of(address: str, port: int, name: str, deadline: Deadline) -> str:
    """The zone of a name, as the server has it; empty if the name is below a zone that it has given away.

    Raises:
        Unreachable: if it does not answer, or has no such zone.
    """
    answer = _ask(address, port, name, "SOA", deadline)
    for rrset in (*answer.answer, *answer.authority):
        if rrset.rdtype == dns.rdatatype.SOA:
            return rrset.name.to_text(omit_final_dot=True).lower()
    if answer.authority:
        return ""
    raise _unreachable(f"{address} port {port} has no zone for {name}.")


def served(server: Server, name: str, rdtype: str, deadline: Deadline) -> frozenset[str]:
    """The values of a name and type that the server serves now, in small letters.

    Raises:
        Unreachable: if it does not answer.
    """
    answer = _ask(server.address, server.port, name, rdtype, deadline)
    wanted = dns.rdatatype.from_text(rdtype)
    owner = dns.name.from_text(name)
    return frozenset(
        record.to_text().lower()
        for rrset in answer.answer
        if rrset.rdtype == wanted and rrset.name == owner
        for record in rrset
    )


def addresses(server: Server, name: str, deadline: Deadline) -> frozenset[str]:
    """The addresses of a name that the server serves now.

    Raises:
        Unreachable: if it does not answer.
    """
    found = served(server, name, "A", deadline) | served(server, name, "AAAA", deadline)
    return frozenset(str(ipaddress.ip_address(one)) for one in found)


def _ask(address: str, port: int, name: str, rdtype: str, deadline: Deadline) -> dns.message.Message:
    query = dns.message.make_query(name, rdtype, flags=0)  # it is to say what it has itself
    where = f"{address} port {port}"
    try:
        answer, _ = dns.query.udp_with_fallback(
            query, address, timeout=deadline.patience(), port=port, ignore_unexpected=True
        )
    except (dns.exception.DNSException, OSError, ValueError) as error:
        raise _unreachable(f"{where} does not answer: {_said(error)}") from None
    if answer.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        raise _unreachable(f"{where} answers {dns.rcode.to_text(answer.rcode())} for {name}.")
    return answer


def signed_update(server: Server, key: Key) -> UpdateMessage:
    """An empty update of the server's zone, to be signed with the key."""
    name = dns.name.from_text(key.name)
    ring = {name: dns.tsig.Key(name, key.secret, key.algorithm)}
    return dns.update.UpdateMessage(
        dns.name.from_text(server.zone), keyring=ring, keyname=name, keyalgorithm=key.algorithm
    )


def require(update: UpdateMessage, name: str, there: Sequence[str]) -> None:
    """Let the update hold only while the name has exactly these addresses."""
    for rdtype in ("A", "AAAA"):
        require_set(update, name, rdtype, [one for one in there if dnsrecords.type_of(one) == rdtype])


def require_set(update: UpdateMessage, name: str, rdtype: str, there: Sequence[str]) -> None:
    """Let the update hold only while the name has exactly these values of a type."""
    owner = dns.name.from_text(name)
    if there:
        update.present(owner, rdtype, *there)
    else:
        update.absent(owner, rdtype)


def add(update: UpdateMessage, name: str, rdtype: str, value: str) -> None:
    """Let the update add one value."""
    update.add(dns.name.from_text(name), dnsrecords.TTL, rdtype, value)


def delete(update: UpdateMessage, name: str, rdtype: str, value: str) -> None:
    """Let the update take away exactly one value, if it is there."""
    update.delete(dns.name.from_text(name), rdtype, value)


def send(server: Server, update: UpdateMessage, deadline: Deadline) -> Reply:
    """Send a signed update, and say what the server seemed to answer."""
    try:
        patience = deadline.patience()
    except Unreachable as error:
        return Reply(error.refusal)
    return _reply(lambda: _send(server, update, patience), f"{server.address} port {server.port}")


def _send(server: Server, update: UpdateMessage, patience: float) -> dns.message.Message:
    answer, _ = dns.query.udp_with_fallback(
        update, server.address, timeout=patience, port=server.port, ignore_unexpected=True
    )
    return answer


def _reply(ask: Callable[[], dns.message.Message], where: str) -> Reply:
    try:
        answer = ask()
    except dns.tsig.PeerBadTime:
        return Reply(Refusal("dns-refused", f"{where}: its clock and this machine's differ too much."))
    except dns.tsig.PeerBadKey:
        return Reply(Refusal("dns-refused", f"{where} does not know the key, or grants it nothing here."))
    except dns.tsig.PeerBadSignature:
        return Reply(Refusal("dns-refused", f"{where} has another secret for the key."))
    except dns.exception.Timeout:
        return Reply(Refusal("dns-server-unreachable", f"{where} does not answer."), doubtful=True)
    except (dns.exception.DNSException, ValueError) as error:  # no signature, or a wrong one
        return Reply(Refusal("dns-answer-unsigned", f"{where}: {_said(error)}"), doubtful=True)
    except OSError as error:
        return Reply(Refusal("dns-server-unreachable", f"{where}: {_said(error)}"), doubtful=True)
    rcode = answer.rcode()
    if rcode == dns.rcode.NOERROR:
        return Reply()
    said = Refusal("dns-refused", f"{where} answers {dns.rcode.to_text(rcode)}.")
    return Reply(said, changed=rcode in _CHANGED)


def _said(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (text or type(error).__name__).rstrip(".")[:200] + "."


def _unreachable(detail: str) -> Unreachable:
    return Unreachable(Refusal("dns-server-unreachable", detail))
