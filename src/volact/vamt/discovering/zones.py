"""A DNS zone's machines by zone transfer (V1; RFC 5936), with or without a TSIG key (RFC 8945).

- A and AAAA records name machines, PTR records of reverse zones name them by address, and an SRV record its target.
- What is in every zone and is no machine is left out with its reason (RFC 1912): the zone's own name, wildcards, names
  that begin with ``_``, ``localhost``, addresses of one's own.
- Either the whole zone came or nothing: a transfer that is cut short, or not signed with the key, yields no machine.
- At most MOST_SETS sets of records and `patience` and `most_seconds` of time are taken from a server.
"""

from __future__ import annotations

import base64
import ipaddress
import socket
from typing import TYPE_CHECKING, Any, NamedTuple

import dns.exception
import dns.name
import dns.query
import dns.rdatatype
import dns.tsig
import dns.xfr
import dns.zone

from volact import tsig
from volact.protocol.problems import Refusal, Refused, Unreachable, UsageError, printable
from volact.vamt.discovering import names
from volact.vamt.discovering.names import Found, Host, Skipped
from volact.vamt.inventory import Sighting

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dns.zone import Transaction

MOST_SETS = 1_000_000
_MOST_ADDRESSES = 3
"""So many addresses of a server are tried."""
_OCTETS, _NIBBLES = 4, 32
_ALGORITHMS = ("hmac-sha224", "hmac-sha256", "hmac-sha384", "hmac-sha512")
_REMOTE = {"_ssh": "ssh", "_wsman": "winrm", "_winrm": "winrm"}
"""Services whose SRV record says how a machine is reached."""
_NO_HOSTS = ("domaindnszones", "forestdnszones")
"""What a directory puts beside its machines: names for all its servers together."""


class Server(NamedTuple):
    """A name server: its name or address, and its port."""

    host: str
    port: int = 53

    def __str__(self) -> str:
        """As it is shown."""
        return f"{self.host} port {self.port}"


class Key(NamedTuple):
    """A TSIG key.

    Attributes:
        name: its name at the server.
        secret: base64.
        algorithm: as in a key file.
    """

    name: str
    secret: str
    algorithm: str = "hmac-sha256"


class Limits(NamedTuple):
    """How long a server is waited for, in seconds.

    Attributes:
        patience: for each message.
        most_seconds: for the whole transfer.
    """

    patience: float = 10.0
    most_seconds: float = 600.0


def read_key(text: str) -> Key:
    """The key in a ``[ALGORITHM:]NAME:SECRET``, or in a file as `tsig-keygen` writes it.

    Raises:
        UsageError: without repeating any of it.
    """
    wrong = UsageError(
        "That is no TSIG key.",
        "Give [ALGORITHM:]NAME:SECRET, or what `tsig-keygen` writes; the algorithm is one of"
        f" {', '.join(_ALGORITHMS)}.",
    )
    if "{" in text:
        try:
            stated = tsig.read(text)
        except tsig.Malformed:
            raise wrong from None
        text = f"{stated.algorithm}:{stated.name}:{base64.b64encode(stated.secret).decode()}"
    parts = text.strip().split(":")
    algorithm = parts.pop(0).lower() if len(parts) == 3 else "hmac-sha256"  # noqa: PLR2004 - the form above
    if len(parts) != 2 or not all(parts) or algorithm not in _ALGORITHMS:  # noqa: PLR2004 - the form above
        raise wrong
    found = Key(parts[0], parts[1], algorithm)
    try:
        base64.b64decode(found.secret, validate=True)
        _ring(found)
    except (ValueError, dns.exception.DNSException):
        raise wrong from None
    return found


def discover(
    zone: str,
    server: Server,
    key: Key | None = None,
    limits: Limits = Limits(),  # noqa: B008 - a value
    group: str = "",
) -> Iterator[Found]:
    """The machines of a zone, each once with all its addresses.

    Raises:
        UsageError: if the zone's name is none.
        Refused: `transfer-refused`.
        Unreachable: `name-server-unreachable`: nobody there, or nobody who transfers zones.
    """
    try:
        origin = dns.name.from_text(zone)
    except (dns.exception.DNSException, UnicodeError):
        origin = dns.name.root
    if origin == dns.name.root:
        raise UsageError(f"{names.shown(zone)} is no name of a zone.", "Give one such as corp.example.")
    found = _Limited(origin, relativize=False)
    where = resolved(server)
    for number, address in enumerate(where, 1):
        try:
            _transfer(found, address, server, key, limits)
            break
        except Unreachable:
            if number == len(where):
                raise
    yield from _machines(found, origin, group)


def resolved(server: Server) -> list[str]:
    """The first few addresses of a name server.

    Raises:
        Unreachable: `name-server-unreachable` if it has none.
    """
    try:
        found = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
    except (OSError, ValueError, OverflowError):
        raise unreachable(f"{names.shown(server.host)} has no address.") from None
    return list(dict.fromkeys(str(one[4][0]) for one in found))[:_MOST_ADDRESSES]


def unreachable(detail: str) -> Unreachable:
    """The error of a name server that does not answer."""
    return Unreachable(Refusal("name-server-unreachable", detail))


# --- the transfer -------------------------------------------------------------------------------------------------


class _Limited(dns.zone.Zone):
    """A zone that takes no more than so much."""

    def writer(self, replacement: bool = False) -> Transaction:
        """A transaction that ends with an error at the limit."""
        made = super().writer(replacement)
        made.check_put_rdataset(self._count)
        return made

    def _count(self, *_: object) -> None:
        self.sets = getattr(self, "sets", 0) + 1
        if self.sets > MOST_SETS:
            raise _TooMany


class _TooMany(dns.exception.DNSException):
    """More than the limit."""


def _ring(key: Key) -> dict[dns.name.Name, dns.tsig.Key]:
    made = dns.tsig.Key(key.name, key.secret, key.algorithm)
    return {made.name: made}


def _transfer(zone: dns.zone.Zone, address: str, server: Server, key: Key | None, limits: Limits) -> None:
    signed: Mapping[str, Any] = {}
    if key is not None:
        ring = _ring(key)
        signed = {"keyring": ring, "keyname": next(iter(ring)), "keyalgorithm": key.algorithm}
    query, _ = dns.xfr.make_query(zone, serial=None, **signed)
    try:
        dns.query.inbound_xfr(
            address, zone, query, server.port, timeout=limits.patience, lifetime=limits.most_seconds
        )
    except (dns.tsig.PeerError, dns.tsig.BadSignature, dns.tsig.BadTime, dns.tsig.BadKey) as error:
        raise _refused(f"{server} does not take the key: {_said(error)}.") from None
    except dns.xfr.TransferError as error:
        raise _refused(f"{server}: {_of_code(error)}.") from None
    except _TooMany:
        raise _refused(f"The zone of {server} has more than {MOST_SETS:,} sets of records.") from None
    except dns.exception.Timeout:
        raise unreachable(f"{server} did not answer in time.") from None
    except EOFError:
        raise unreachable(f"{server} cut the zone short.") from None
    except (dns.exception.DNSException, OSError, ValueError) as error:
        raise unreachable(f"{server}: {_said(error)}.") from None


def _of_code(error: dns.xfr.TransferError) -> str:
    code = dns.rcode.to_text(error.rcode)
    meaning = {
        "REFUSED": "it does not let this machine, or this key, transfer the zone",
        "NOTAUTH": "it is no server of this zone",
        "NXDOMAIN": "there is no such zone",
    }
    return f"{meaning[code]} ({code})" if code in meaning else f"it says {code}"


def _refused(detail: str) -> Refused:
    return Refused(Refusal("transfer-refused", detail))


def _said(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return printable(text or type(error).__name__).rstrip(".")[:200]


# --- the machines in it -------------------------------------------------------------------------------------------


class _Machine(NamedTuple):
    """What a zone says of one host; the lists grow."""

    addresses: list[str]
    ways: list[tuple[str, int]]


def _machines(zone: dns.zone.Zone, origin: dns.name.Name, group: str) -> Iterator[Found]:
    machines: dict[Host, _Machine] = {}
    for owner, _, record in zone.iterate_rdatas():
        if record.rdtype not in _READERS:
            continue
        named = _READERS[record.rdtype](owner, record, origin)
        if isinstance(named, Skipped):
            yield named
            continue
        host, address, way = named
        machine = machines.setdefault(host, _Machine([], []))
        machine.addresses.extend(one for one in address if one not in machine.addresses)
        machine.ways.extend(way)
    for host, machine in machines.items():
        transport, port = next(iter(machine.ways), ("", None))
        yield Sighting("dns", host.name, host.domain, tuple(machine.addresses), port, transport, group=group)


_Named = tuple[Host, list[str], list[tuple[str, int]]]


def _of_address(owner: dns.name.Name, record: Any, origin: dns.name.Name) -> _Named | Skipped:  # noqa: ANN401 - a record
    where = _text(owner)
    if owner == origin:
        return Skipped(where, "the zone's own name")
    host = _host(where)
    if isinstance(host, Skipped):
        return host
    address = names.address(record.address, here=False)
    if address is None:
        return Skipped(where, f"{record.address} is no address of one machine in a network")
    return host, [address], []


def _of_pointer(owner: dns.name.Name, record: Any, _: dns.name.Name) -> _Named | Skipped:  # noqa: ANN401 - a record
    address = address_of(owner)
    if address is None:
        return Skipped(_text(owner), "this is no address that points to a name")
    host = _host(_text(record.target))
    return host if isinstance(host, Skipped) else (host, [address], [])


def _of_service(owner: dns.name.Name, record: Any, _: dns.name.Name) -> _Named | Skipped:  # noqa: ANN401 - a record
    if record.target == dns.name.root:
        return Skipped(_text(owner), "a service that is said not to exist")
    host = _host(_text(record.target))
    if isinstance(host, Skipped):
        return host
    transport = _REMOTE.get(owner.labels[0].decode("ascii", "replace").lower())
    return host, [], [(transport, record.port)] if transport and record.port else []


_READERS = {
    dns.rdatatype.A: _of_address,
    dns.rdatatype.AAAA: _of_address,
    dns.rdatatype.PTR: _of_pointer,
    dns.rdatatype.SRV: _of_service,
}


def _host(text: str) -> Host | Skipped:
    if text.startswith("*."):
        return Skipped(text, "a wildcard")
    host = names.host(text)
    if host is None:
        return Skipped(names.shown(text), "no name of a host")
    return Skipped(text, "a name for several servers together") if host.name in _NO_HOSTS else host


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower()


def address_of(owner: dns.name.Name) -> str | None:
    """The address whose reverse name this is (RFC 1035 3.5, RFC 3596 2.5; RFC 2317's extra labels are passed over)."""
    labels = [label.decode("ascii", "replace").lower() for label in owner.labels[:-1]]
    kind, labels = labels[-2:], labels[-3::-1]
    try:
        if kind == ["in-addr", "arpa"]:
            octets = [label for label in labels if label.isdigit()]
            text = ".".join(octets) if len(octets) == _OCTETS else ""
        elif kind == ["ip6", "arpa"] and len(labels) == _NIBBLES:
            text = str(ipaddress.IPv6Address(int("".join(labels), 16)))
        else:
            text = ""
    except ValueError:
        return None
    return names.address(text, here=False)
