"""Asking the system's name servers: SRV records, and the addresses of the hosts that they name (D3, F21).

- A question is put at most twice in a try: to two servers, or twice to the only one. An answer that was cut short is
  asked for again by TCP, if that is the second time; else what there is of it is taken: every record is but a hint.
- Waiting in vain costs a try `PATIENCE` seconds at most, whatever is asked: after that DNS counts as down. A server
  that did not answer is asked last from then on.
- An answer is a hint from a network that nobody vouches for. What is no name, port or address is dropped by
  `discovery`; how large an answer may be, DNS itself bounds.

dnspython is loaded by the first question, so that a machine whose host is set by hand never pays for it.
"""

from __future__ import annotations

import contextlib
import re
import socket
import time
from typing import TYPE_CHECKING, NamedTuple

from volact.client import discovery
from volact.client.discovery import Service

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from dns.message import Message, QueryMessage
    from dns.rrset import RRset

RESOLVER_FILE = "VOLACT_LAB_RESOLVER"
"""Names a file like ``resolv.conf``, which may also say ``port N``; taken under a laboratory publisher only."""
PATIENCE = 5.0
"""Seconds that one try waits in vain for name servers, in all."""
QUESTIONS = 2
"""How often one question is put at most."""
_SYSTEM = "/etc/resolv.conf"
_HOSTS = "/etc/hosts"
_PORT = 53
_PAYLOAD = 1232
"""Bytes of an answer by UDP that no network cuts to pieces."""
_PORT_LINE = re.compile(r"^\s*port\s+([0-9]{1,5})\s*$", re.MULTILINE)
_PROBE_PORT = 9  # any: nothing is sent to it


class Servers(NamedTuple):
    """Whom to ask, and about what.

    Attributes:
        addresses: of the name servers.
        port: theirs.
        domains: this machine's, then its search list.
    """

    addresses: tuple[str, ...]
    port: int
    domains: tuple[str, ...]


class Found(NamedTuple):
    """What a question for SRV records came to.

    Attributes:
        services: the records.
        addresses: of the targets, by name in small letters, as far as they came along.
        problem: in words, why there are no records; empty if there are some.
    """

    services: tuple[Service, ...] = ()
    addresses: Mapping[str, tuple[str, ...]] = {}
    problem: str = ""


class Names:
    """The name servers, during one try."""

    def __init__(self, servers: Servers, clock: Callable[[], float] = time.monotonic) -> None:
        """Ask these `servers`; `clock` is monotonic, seconds."""
        self._servers = list(servers.addresses)
        self._port = servers.port
        self._clock = clock
        self._patience = PATIENCE
        self.domains = servers.domains

    def services(self, label: str, domain: str) -> Found:
        """The SRV records of a label in a domain."""
        answer = self._asked(f"{label}.{domain}", "SRV")
        if isinstance(answer, str):
            return Found(problem=answer)
        response, rrset = answer
        if rrset is None:
            return Found(problem="there is no such record")
        services = tuple(
            Service(one.priority, one.weight, one.port, one.target.to_text(omit_final_dot=True).rstrip("."))
            for one in rrset
        )
        return Found(services, _glue(response))

    def addresses(self, name: str) -> tuple[str, ...]:
        """The addresses of a host; none if nobody says any."""
        found: list[str] = []
        for kind in ("AAAA", "A"):
            answer = self._asked(name, kind)
            if not isinstance(answer, str) and answer[1] is not None:
                found += [one.address for one in answer[1]]
        return tuple(found)

    def _asked(self, name: str, kind: str) -> tuple[QueryMessage, RRset | None] | str:
        """The answer and its records, at the end of its aliases; or in words why there is none."""
        import dns.exception  # noqa: PLC0415 - only for a client that looks for its host
        import dns.flags  # noqa: PLC0415 - likewise
        import dns.message  # noqa: PLC0415 - likewise
        import dns.rcode  # noqa: PLC0415 - likewise

        try:
            query = dns.message.make_query(name, kind, use_edns=0, payload=_PAYLOAD)
        except (dns.exception.DNSException, UnicodeError):
            return "that is no name of DNS"
        if not self._servers:
            return "no name server is set"
        problem, by_tcp = "the name servers do not answer", False
        for more in range(QUESTIONS - 1, -1, -1):
            if self._patience <= 0:
                break
            response, problem = self._put(query, by_tcp=by_tcp)
            if response is None:
                continue
            if response.flags & dns.flags.TC and more:
                by_tcp = True
                continue
            code = response.rcode()
            if code not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
                problem = f"the name server says {dns.rcode.to_text(code)}"
                if code == dns.rcode.FORMERR:
                    query.use_edns(False)  # an old one, which does not know it
                else:
                    self._last(self._servers[0])
                continue
            try:
                return response, response.resolve_chaining().answer
            except dns.exception.DNSException:
                problem = "the name server's answer makes no sense"
        return problem

    def _put(self, query: QueryMessage, *, by_tcp: bool) -> tuple[QueryMessage | None, str]:
        """Put a question to the first of the servers; its answer, or in words why there is none."""
        import dns.exception  # noqa: PLC0415 - as above
        import dns.message  # noqa: PLC0415 - as above
        import dns.query  # noqa: PLC0415 - as above

        server, began = self._servers[0], self._clock()
        wait = min(self._patience, PATIENCE / QUESTIONS)
        response: Message | None = None
        try:
            if by_tcp:
                response = dns.query.tcp(query, server, timeout=wait, port=self._port)
            else:
                response = dns.query.udp(
                    query, server, timeout=wait, port=self._port, ignore_unexpected=True, ignore_errors=True
                )
            reason = "what came is no answer"
        except (dns.exception.DNSException, OSError, EOFError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else "no answer came"
        if isinstance(response, dns.message.QueryMessage):
            return response, ""
        self._patience -= max(0.0, self._clock() - began)
        self._last(server)
        return None, f"the name server {server} could not be asked: {reason}"

    def _last(self, server: str) -> None:
        self._servers.remove(server)
        self._servers.append(server)


def _glue(response: Message) -> dict[str, tuple[str, ...]]:
    """The addresses that came along with an answer."""
    import dns.rdatatype  # noqa: PLC0415 - as above

    found: dict[str, tuple[str, ...]] = {}
    for rrset in response.additional:
        if rrset.rdtype in (dns.rdatatype.A, dns.rdatatype.AAAA):
            name = rrset.name.to_text(omit_final_dot=True).lower()
            found[name] = (*found.get(name, ()), *(one.address for one in rrset))
    return found


def names_for(environ: Mapping[str, str], *, lab: bool) -> Names:
    """The name servers of a publisher's programs: a laboratory's may come from a file, no other's can."""
    path = environ.get(RESOLVER_FILE)
    return Names(of_file(path) if lab and path else of_system())


def of_system() -> Servers:
    """As the system is set up; nobody to ask where it is not."""
    addresses, listed = _configured(_SYSTEM)
    return Servers(addresses, _PORT, discovery.domains([*_own_domain(), *listed]))


def of_file(path: str) -> Servers:
    """As a file says that is written like ``resolv.conf``; it may hold a line ``port N``."""
    text = ""
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        text = file.read()
    port = _PORT_LINE.search(text)
    addresses, listed = _configured(path)
    return Servers(addresses, int(port[1]) if port else _PORT, discovery.domains(listed))


def _configured(path: str) -> tuple[tuple[str, ...], Sequence[str]]:
    """Name servers, and the domains that are listed, the machine's own first."""
    import dns.exception  # noqa: PLC0415 - as above
    import dns.inet  # noqa: PLC0415 - as above
    import dns.resolver  # noqa: PLC0415 - as above

    try:
        found = dns.resolver.Resolver(path)
    except (dns.exception.DNSException, OSError, ValueError):  # it is not there, or holds no configuration
        return (), ()
    addresses = tuple(str(one) for one in found.nameservers if dns.inet.is_address(str(one)))
    own = [found.domain] if path != _SYSTEM or not found.search else []
    return addresses, [one.to_text() for one in [*own, *found.search]]


def _own_domain() -> list[str]:
    """This machine's domain: from its own name, or as its hosts file writes that name out.

    Nobody is asked: the system's own look-up of a name has no end that a program could set.
    """
    name = socket.gethostname()
    if "." in name:
        return [name.partition(".")[2]]
    with contextlib.suppress(OSError), open(_HOSTS, encoding="utf-8", errors="replace") as file:
        for line in file:
            words = line.partition("#")[0].split()[1:]
            if name in words and "." in words[0]:
                return [words[0].partition(".")[2]]
    return []


def has_route(ip: str) -> bool:
    """Whether this machine knows a way to an address; nothing is sent."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((ip, _PROBE_PORT))
    except OSError:
        return False
    return True
